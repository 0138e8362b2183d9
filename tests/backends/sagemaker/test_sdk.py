"""What goes over the wire through SageMaker's SDK, and what becomes of the SDK's own habits."""

import json
from pathlib import Path
from typing import Any

import pytest
from stand_in import Fault, StandIn

from lorasum.backends.records import TrainSpec
from lorasum.backends.sagemaker import sdk
from lorasum.backends.sagemaker.endpoint_requests import (
    Served,
    endpoint_config_request,
    endpoint_request,
    model_request,
    update_request,
)
from lorasum.backends.sagemaker.job_requests import release_request, training_request
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError
from lorasum.models.source import ModelRef

ROLE = "arn:aws:iam::123456789012:role/Trainer"
PLACE = Place(S3Layout("box", "lorasum", "chats"), ROLE, "image:1")
SPEC = TrainSpec("chats", "chats-0123abcd", ModelRef("org/m"), Path("/d/f00"), {"epochs": "3"})
VPC = {"subnets": ["subnet-1"], "security_groups": ["sg-1"]}
ALL = {**VPC, "kms_key": "key", "tags": {"team": "chat", "note": ""}, "environment": {"HF_ENDPOINT": "https://hub"}}
MODEL = {"ModelName": "chats-01234567", "ExecutionRoleArn": ROLE, "EnableNetworkIsolation": False}


def session(**config: Any) -> Session:
    return Session(SageMakerConfig.model_validate(config))


def job(**config: Any) -> dict[str, Any]:
    channels = {"training": "s3://box/data/", "code": "s3://box/code/"}
    return training_request(SPEC, SPEC.job_name, PLACE, SageMakerConfig.model_validate(config), channels)


def model(**config: Any) -> dict[str, Any]:
    served = Served("s3://box/m/", 9, base="s3://box/base/", wheels="s3://box/wheels/")
    return model_request("m", served, PLACE, SageMakerConfig.model_validate(config))


def configuration(**config: Any) -> dict[str, Any]:
    return endpoint_config_request("m", Served("s3://box/m/", 9), PLACE, SageMakerConfig.model_validate(config))


def endpoint(**config: Any) -> dict[str, Any]:
    return endpoint_request("chats", "m", PLACE, SageMakerConfig.model_validate(config))


def echo(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have SageMaker take everything, and answer with the names that it was sent."""
    names = ("TrainingJobName", "ModelName", "EndpointConfigName", "EndpointName")
    monkeypatch.setattr(
        account.sagemaker, "call", lambda _, request: {name: request[name] for name in names if name in request}
    )


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("TrainingJob", job()),
        ("TrainingJob", job(**ALL, spot=True)),
        ("TrainingJob", job(**ALL, keep_alive_minutes=5, training_instance_alternatives=["ml.g5.4xlarge"])),
        ("TrainingJob", job(network_isolation=True)),
        ("Model", model()),
        ("Model", model(**ALL, network_isolation=True)),
        ("Model", model(engine="vllm")),
        ("EndpointConfig", configuration()),
        ("EndpointConfig", configuration(**ALL, capture_percent=5, endpoint_volume_gb=9)),
        ("EndpointConfig", configuration(engine="vllm", endpoint_instance_alternatives=["ml.g5.8xlarge"])),
        ("Endpoint", endpoint()),
        ("Endpoint", endpoint(**ALL)),
    ],
)
def test_what_is_sent_is_what_the_builder_made_to_the_byte(
    account: StandIn, monkeypatch: pytest.MonkeyPatch, kind: sdk.Kind, request_: dict[str, Any]
) -> None:
    echo(account, monkeypatch)
    created = sdk.create(session(), kind, request_)
    assert created is not None
    assert created.get_name() == request_[f"{kind}Name"]
    assert account.bodies[0] == (f"Create{kind}", json.dumps(request_).encode())


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("TrainingJob", release_request("chats-0123abcd")),
        ("Endpoint", update_request("chats", "m", SageMakerConfig())),
        ("Endpoint", update_request("chats", "m", SageMakerConfig(rollback_alarm="slow"))),
    ],
)
def test_an_update_is_sent_to_the_byte_with_its_zero(
    account: StandIn, monkeypatch: pytest.MonkeyPatch, kind: sdk.Kind, request_: dict[str, Any]
) -> None:
    echo(account, monkeypatch)
    here = session()
    sdk.update(here, sdk.get(here, kind, request_[f"{kind}Name"]), request_)
    assert account.bodies[1] == (f"Update{kind}", json.dumps(request_).encode())


def test_the_sdks_own_configuration_files_are_not_read(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", f"s3://{account.bucket}/config.yaml")
    sdk.create(session(), "Model", MODEL)
    assert account.calls == ["sagemaker CreateModel", "sagemaker DescribeModel"]


def test_a_request_that_the_sdk_would_change_is_not_sent(account: StandIn) -> None:
    with pytest.raises(BackendError, match="another CreateModel"):
        sdk.create(session(), "Model", MODEL | {"Colour": "red"})
    assert account.bodies == []


def test_what_the_sdk_does_not_take_is_one_line_and_a_hint(account: StandIn) -> None:
    with pytest.raises(BackendError, match=r"cannot create model chats-01234567: .* enable_network_isolation") as error:
        sdk.create(session(), "Model", MODEL | {"EnableNetworkIsolation": "perhaps"})
    assert "\n" not in error.value.message
    assert "pip install" in error.value.hint


@pytest.mark.parametrize("fault", [Fault("DescribeModel", "denied"), Fault("DescribeModel", "error")])
def test_what_was_created_exists_even_if_it_cannot_be_read(
    account: StandIn, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    account.faults = [fault]
    assert sdk.create(session(), "Model", MODEL) is None
    assert list(account.sagemaker.models) == ["chats-01234567"]
    account.faults = [Fault("CreateModel", fault.kind)]
    with pytest.raises(BackendError, match="cannot create model"):
        sdk.create(session(), "Model", MODEL | {"ModelName": "other"})


def test_a_resource_that_is_gone_is_none_and_deleting_it_no_error(account: StandIn) -> None:
    here = session()
    assert sdk.get(here, "Model", "chats-01234567") is None
    sdk.create(here, "Model", MODEL)
    found = sdk.get(here, "Model", "chats-01234567")
    for _ in range(2):
        sdk.delete(found)
    assert account.sagemaker.models == {}


def test_lists_are_not_the_sdks_because_they_break_off_at_what_has_gone(account: StandIn) -> None:
    from botocore.exceptions import ClientError

    here = session()
    for name in ("first", "second"):
        sdk.create(here, "Model", MODEL | {"ModelName": name})
    listed = sdk.load("resources").Model.get_all(session=here.boto3_session, region=here.region)
    assert next(listed).model_name == "first"
    account.sagemaker.call("DeleteModel", {"ModelName": "second"})
    with pytest.raises(ClientError, match="Could not find"):
        next(listed)


def test_the_sdk_uses_our_client(account: StandIn) -> None:
    here = session(region="eu-west-1")
    sdk.create(here, "Model", MODEL)
    found = sdk.get(here, "Model", "chats-01234567")
    assert found is not None
    assert found._get_client() is here.client("sagemaker")


def test_a_notebooks_own_use_of_the_sdk_is_as_before(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", f"s3://{account.bucket}/config.yaml")
    sdk.create(session(), "Model", MODEL)
    theirs = sdk.load("resources").Model
    for own in ({}, {"session": boto3.Session()}):
        assert theirs.get(MODEL["ModelName"], region="us-east-1", **own).execution_role_arn == ROLE
    account.calls.clear()
    theirs.create(model_name="theirs", execution_role_arn=ROLE, region="us-east-1")
    assert [call for call in account.calls if call.startswith("s3")], "their defaults are read"
    assert list(account.sagemaker.models) == [MODEL["ModelName"], "theirs"]


def test_without_the_sdk_there_is_a_hint() -> None:
    with pytest.raises(BackendError, match="needs sagemaker-core") as error:
        sdk.load("no_such_module")
    assert "lorasum[sagemaker]" in error.value.hint
