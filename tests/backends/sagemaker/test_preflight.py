"""The account is looked at before a start: what is wrong is told with what to do about it, and nothing is created."""

from typing import Any

import aws_backend
import pytest
from stand_in import StandIn

from lorasum.backends.records import Check
from lorasum.backends.sagemaker.images import training_image
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError, OutageError


def checks(account: StandIn, **config: Any) -> dict[str, Check]:
    backend = aws_backend.backend(account, **{"role": "Trainer", **config})
    return {check.what: check for check in backend.preflight()}


def test_an_account_that_is_ready_passes_every_check(account: StandIn) -> None:
    found = checks(account)
    assert [check for check in found.values() if not check.ok or check.fix] == []
    assert found["execution role"].found == account.role_arn
    assert len(found) == 7
    created = [call for call in account.calls if any(word in call for word in ("Create", " PUT ", " POST /sched"))]
    assert created == []


def test_all_that_is_wrong_is_told_at_once_with_its_fix(account: StandIn) -> None:
    account.sagemaker.quotas = {"ml.g5.2xlarge for training job usage": 0}
    found = checks(account, role="Nobody", bucket="nobody-has-this", scheduler_role="Trainer")
    wrong = {what for what, check in found.items() if not check.ok}
    assert wrong == {"execution role", "bucket", "quota of the training job", "role that ends endpoints"}
    assert all(found[what].fix for what in wrong)
    assert {what for what, check in found.items() if not check.stops_training} == {
        "quota of the endpoint", "inference image", "role that ends endpoints",
    }  # fmt: skip
    assert "request-service-quota-increase" in found["quota of the training job"].fix


def test_an_end_that_nothing_would_carry_out_is_told(account: StandIn) -> None:
    found = aws_backend.backend(account, role="Trainer").preflight(expires=True)[-1]
    assert (found.what, found.ok, found.stops_training) == ("role that ends endpoints", False, False)
    assert found.found.startswith("the endpoint will NOT end by itself: no role is set")
    assert "set sagemaker.scheduler_role" in found.fix


def test_the_quota_is_asked_for_what_a_start_takes(account: StandIn) -> None:
    account.sagemaker.quotas = {"ml.g5.2xlarge for training job usage": 3, "ml.g5.4xlarge for endpoint usage": 1}
    found = checks(account, instance_count=4, max_instances=4)
    assert [what for what, check in found.items() if not check.ok] == ["quota of the training job"]
    assert "is 3, and 4 is needed" in found["quota of the training job"].found


def test_a_bucket_that_would_be_created_is_not_created_for_a_look(account: StandIn) -> None:
    assert checks(account, bucket="new-bucket", create_bucket=True)["bucket"].ok
    assert "new-bucket" not in [one["Name"] for one in account.aws.client("s3").list_buckets()["Buckets"]]


def test_without_credentials_nothing_else_is_asked(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    [check] = checks(account).values()
    assert (check.ok, "aws configure" in check.fix) == (False, True)


@pytest.mark.parametrize(("asked", "told"), [("account", "credentials"), ("bucket", "bucket")])
def test_an_outage_is_not_told_as_something_to_put_right(
    account: StandIn, monkeypatch: pytest.MonkeyPatch, asked: str, told: str
) -> None:
    def refuse(_: object) -> str:
        raise OutageError("AWS cannot be reached", "try again")

    monkeypatch.setattr(Session, asked, property(refuse))
    assert [(check.what, check.unknown) for check in checks(account).values() if not check.ok] == [(told, True)]


def test_a_region_without_the_image_is_called_that() -> None:
    with pytest.raises(BackendError, match="in ap-east-2") as error:
        training_image(SageMakerConfig(), "ap-east-2")
    assert error.value.hint.startswith("choose another sagemaker.region, or set sagemaker.training_image")
