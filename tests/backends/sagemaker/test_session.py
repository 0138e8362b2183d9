"""Who we are on AWS, and what a user hears when AWS says no."""

import json
import socket
import sys
from typing import Any

import pytest

from lorasum.aws import aws_errors
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError


def session(**config: Any) -> Session:
    return Session(SageMakerConfig.model_validate(config))


def make_role(name: str, service: str) -> str:
    principal = {"Service": service}
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "*"}]}
    iam = session().client("iam")
    return str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"])


def test_region_and_account_come_from_the_config_or_the_environment(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (session().region, session().account) == ("eu-west-1", "123456789012")
    assert session(region="us-west-2").region == "us-west-2"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(BackendError, match="no AWS region") as error:
        _ = session().region
    assert "sagemaker.region" in error.value.hint


def test_missing_credentials_and_unknown_profiles_are_named(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="nobody") as error:
        _ = session(profile="nobody").account
    assert "list-profiles" in error.value.hint
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BackendError, match="Unable to locate credentials") as error:
        _ = session().account
    assert "aws configure" in error.value.hint


def test_an_aws_that_does_not_answer_is_one_line(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(BackendError, match="cannot find out whose credentials") as error:
        _ = session().account
    assert "check the network" in error.value.hint


def test_the_first_question_of_a_command_is_soon_given_up(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    tries = {name: session().client(name).meta.config.retries["total_max_attempts"] for name in ("sts", "s3")}
    assert tries == {"sts": 4, "s3": 12}


def test_a_role_by_name_or_arn_is_looked_at(aws: str) -> None:
    arn = make_role("Trainer", "sagemaker.amazonaws.com")
    assert session(role="Trainer").role_arn == session(role=arn).role_arn == arn


@pytest.mark.parametrize(
    ("role", "message"),
    [
        (None, "no execution role is set"),
        ("Nobody", "there is no role Nobody"),
        ("arn:aws:iam::123456789012:role/Nobody", "there is no role Nobody"),
        ("arn:aws:iam::123456789012:user/ana", "is a user"),
        ("Baker", "SageMaker cannot assume the role Baker"),
    ],
)
def test_a_role_that_sagemaker_cannot_use_is_refused(aws: str, role: str | None, message: str) -> None:
    make_role("Baker", "lambda.amazonaws.com")
    with pytest.raises(BackendError, match=message) as error:
        _ = session(role=role).role_arn
    assert "docs/iam.md" in error.value.hint


def test_a_single_sign_on_role_is_not_an_execution_role(aws: str) -> None:
    arn = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/ana"
    signed_on = session()
    signed_on.__dict__["_identity"] = {"Account": "123456789012", "Arn": arn}
    with pytest.raises(BackendError, match="single sign-on") as error:
        _ = signed_on.role_arn
    assert "sagemaker.role" in error.value.hint


def test_a_role_of_another_account_is_not_looked_up_in_ours(aws: str) -> None:
    make_role("Trainer", "lambda.amazonaws.com")
    theirs = "arn:aws:iam::999999999999:role/Trainer"
    assert session(role=theirs).role_arn == theirs


def test_the_bucket_must_be_there_unless_it_may_be_created(aws: str) -> None:
    with pytest.raises(BackendError, match="there is no bucket sagemaker-eu-west-1-123456789012") as error:
        _ = session().bucket
    assert "create_bucket" in error.value.hint
    name = session(create_bucket=True).bucket
    assert session().bucket == name
    s3 = session().client("s3")
    assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
    [rule] = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_a_bucket_of_another_region_is_refused(aws: str) -> None:
    session(region="us-west-2", bucket="far-away", create_bucket=True).bucket  # noqa: B018
    with pytest.raises(BackendError, match="is in us-west-2") as error:
        _ = session(bucket="far-away").bucket
    assert "sagemaker.region" in error.value.hint


@pytest.mark.parametrize(
    ("code", "status", "hint"),
    [
        ("AccessDeniedException", 400, "allow sagemaker:CreateTrainingJob to your identity"),
        ("ExpiredTokenException", 400, "log in again"),
        ("ResourceLimitExceeded", 400, "higher quota"),
        ("ThrottlingException", 400, "wait a minute"),
        ("InternalFailure", 500, "run the same command again"),
    ],
)
def test_what_aws_says_becomes_one_line_and_a_hint(code: str, status: int, hint: str) -> None:
    from botocore.exceptions import ClientError

    said = {
        "Error": {
            "Code": code,
            "Message": "no:\nana is not authorized to perform: sagemaker:CreateTrainingJob on",
        },
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    with (
        pytest.raises(BackendError, match="cannot start the job: no: ana is not") as error,
        aws_errors("start the job"),
    ):
        raise ClientError(said, "CreateTrainingJob")
    assert hint in error.value.hint
    assert "\n" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "with an explicit deny in a service control policy",
            "a service control policy forbids s3:PutObject",
        ),
        ("with an explicit deny in a resource-based policy", "a resource-based policy forbids s3:PutObject"),
        (
            "because no permissions boundary allows the s3:PutObject action",
            "allow s3:PutObject in your permissions",
        ),
        ("because no identity-based policy allows the s3:PutObject action", "allow s3:PutObject to your identity"),
        ("Access Denied because object protected by object lock.", "billed until then"),
    ],
)
def test_a_denial_says_who_denies_and_what_helps(said: str, hint: str) -> None:
    from botocore.exceptions import ClientError

    text = said if said[0] == "A" else f"User: ana is not authorized to perform: s3:PutObject on resource: b {said}"
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": text}}, "PutObject")
    with pytest.raises(BackendError) as error, aws_errors("upload data.jsonl"):
        raise refused
    assert error.value.hint.startswith(hint) or error.value.hint.endswith(hint)


def test_a_role_that_is_new_may_not_be_known_yet() -> None:
    from botocore.exceptions import ClientError

    text = "Could not assume role arn:aws:iam::1:role/T. Please ensure that the role exists and allows principal"
    refused = ClientError({"Error": {"Code": "ValidationException", "Message": text}}, "CreateTrainingJob")
    with pytest.raises(BackendError) as error, aws_errors("start the job"):
        raise refused
    assert "run the same command again" in error.value.hint


def test_without_boto3_who_we_are_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` without a config asks it of an account on record, also where only the local backend is installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("boto3", "botocore")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("boto3", "botocore"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match="needs boto3"):
        _ = Session(SageMakerConfig(region="us-east-1")).account
