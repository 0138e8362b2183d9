"""The end of an endpoint on SageMaker: schedules to the letter, and an endpoint that is gone while no lorasum runs."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import aws_backend
import pytest
import stand_in_container as container
import waiting
from memory_backend import RecordingReporter
from stand_in import Fault, StandIn
from stand_in_rules import check

from lorasum.backends.records import EndpointSpec
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.backends.sagemaker.schedules import schedule_requests
from lorasum.errors import BackendError

ROLE = "arn:aws-cn:iam::123456789012:role/Ends"
HANDLER = """
def model_fn(model_dir): return 0
def input_fn(data, content_type): return data
def predict_fn(data, model): return '"yes"'
def output_fn(prediction, accept): return prediction
"""
needs_containers = pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces")


def test_a_schedule_to_the_letter() -> None:
    at = datetime(2026, 11, 25, 19, 40, 5, tzinfo=timezone(timedelta(hours=1)))
    made = schedule_requests("chats", "chats-01", at, ROLE)
    for request in made:
        check("CreateSchedule", request, "scheduler")
        check("UpdateSchedule", request, "scheduler")
    assert made[0] == {
        "Name": "lorasum-chats-endpoint",
        "Description": "deletes endpoint chats, whose time is over then",
        "ScheduleExpression": "at(2026-11-25T18:40:05)",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": "arn:aws-cn:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
            "RoleArn": ROLE,
            "Input": '{"EndpointName": "chats"}',
            "RetryPolicy": {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185},
        },
    }
    assert [one["Target"]["Arn"].rpartition(":")[2] for one in made[1:]] == ["deleteEndpointConfig", "deleteModel"]
    assert [one["Target"]["Input"] for one in made[1:]] == [
        '{"EndpointConfigName": "chats-01"}',
        '{"ModelName": "chats-01"}',
    ]
    assert {one["ScheduleExpression"] for one in made[1:]} == {"at(2026-11-25T18:50:05)"}


def test_a_target_is_a_call_that_the_service_has() -> None:
    from botocore.session import Session

    sagemaker = Session().get_service_model("sagemaker")
    for request in schedule_requests("a", "a-1", datetime.now(UTC), ROLE):
        call = request["Target"]["Arn"].rpartition(":")[2]
        shape = sagemaker.operation_model(call[0].upper() + call[1:]).input_shape
        assert set(json.loads(request["Target"]["Input"])) == set(shape.members)


def test_the_longest_name_of_an_endpoint_leaves_room_for_the_schedules() -> None:
    endpoint = f"{'a' * 32}--base"
    for request in schedule_requests(endpoint, endpoint, datetime.now(UTC), ROLE):
        assert len(request["Name"]) <= 64


@pytest.fixture
def ends(account: StandIn) -> str:
    """A role that Scheduler may assume."""
    trust = {"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = account.aws.client("iam").create_role(RoleName="Ends", AssumeRolePolicyDocument=document)
    return str(made["Role"]["Arn"])


def backend(account: StandIn, role: str | None, **config: Any) -> SageMakerBackend:
    return aws_backend.backend(account, scheduler_role=role, **config)


def serve(account: StandIn, there: SageMakerBackend, weights: str, end: datetime) -> None:
    """Deploy as the lifecycle does."""
    for key, text in {"code/inference.py": HANDLER, "weights": weights}.items():
        account.aws.client("s3").put_object(Bucket=account.bucket, Key=f"models/{weights}/{key}", Body=text.encode())
    there.expire_endpoint("chats", "chats", end)
    there.start_endpoint(EndpointSpec("chats", "chats", f"s3://{account.bucket}/models/{weights}/"))
    there.confirm_endpoint("chats", "chats")
    there.expire_endpoint("chats", "chats", end)


@needs_containers
@pytest.mark.parametrize("instances", [1, 3])
def test_an_endpoint_is_gone_at_its_time_while_no_lorasum_runs(account: StandIn, ends: str, instances: int) -> None:
    hours = timedelta(hours=4)
    serve(account, backend(account, ends, max_instances=instances), "first", datetime.now(UTC) + hours)
    calls = len(account.calls)
    account.scheduler.let_pass(hours - timedelta(minutes=1))
    time.sleep(1)
    assert account.sagemaker.endpoints["chats"].description["EndpointStatus"] == "InService"
    account.scheduler.let_pass(timedelta(minutes=1, seconds=1))
    waiting.until(lambda: account.sagemaker.endpoints["chats"].gone)
    assert len(account.sagemaker.configs) == 1, "what costs nothing goes later"
    account.scheduler.let_pass(timedelta(minutes=10))
    waiting.until(lambda: not account.scheduler.schedules())
    assert (account.sagemaker.configs, account.sagemaker.models) == ({}, {})
    assert len(account.calls) == calls, "nobody but Scheduler asked for anything"
    there = backend(account, ends)
    assert (there.endpoint_state("chats", "chats").status, there.live("chats")) == ("absent", [])


def test_what_the_role_may_do_is_said_to_be_unchecked(account: StandIn, ends: str) -> None:
    told = RecordingReporter()
    there = aws_backend.backend(account, told, scheduler_role=ends)
    for hours in (1, 2):
        there.expire_endpoint("chats", "chats", datetime.now(UTC) + timedelta(hours=hours))
    assert told.steps == [
        f"endpoint chats is to be deleted by {ends}; whether its policy lets it do so was not checked"
    ]


@needs_containers
def test_an_update_moves_the_schedules_to_the_new_model(account: StandIn, ends: str) -> None:
    there = backend(account, ends)
    serve(account, there, "first", datetime.now(UTC) + timedelta(hours=1))
    serve(account, there, "second", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
    schedules = account.scheduler.schedules()
    assert schedules["lorasum-chats-endpoint"]["ScheduleExpression"] == "at(2030-01-02T03:04:05)"
    [serving] = account.sagemaker.configs
    assert json.loads(schedules["lorasum-chats-endpoint-config"]["Target"]["Input"]) == {"EndpointConfigName": serving}
    assert json.loads(schedules["lorasum-chats-model"]["Target"]["Input"]) == {"ModelName": serving}
    assert len(schedules) == 3


@needs_containers
def test_deleting_an_endpoint_deletes_its_schedules(account: StandIn, ends: str) -> None:
    there = backend(account, ends)
    serve(account, there, "first", datetime.now(UTC) + timedelta(hours=1))
    assert there.delete_endpoint("chats", "chats")
    assert account.scheduler.schedules() == {}
    assert not there.delete_endpoint("chats", "chats")


def test_an_end_that_is_taken_back_leaves_no_schedule(account: StandIn, ends: str) -> None:
    there = backend(account, ends)
    there.expire_endpoint("chats", "chats", datetime.now(UTC) + timedelta(hours=1))
    assert list(account.scheduler.schedules()) == ["lorasum-chats-endpoint"]
    there.expire_endpoint("chats", "chats", None)
    assert account.scheduler.schedules() == {}


def test_a_schedule_that_is_refused_says_what_to_allow(account: StandIn, ends: str) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)

    def refused(role: str | None, *faults: Fault) -> str:
        account.faults = list(faults)
        with pytest.raises(BackendError) as caught:
            backend(account, role).expire_endpoint("chats", "chats", soon)
        assert "docs/iam.md" in caught.value.hint
        return f"{caught.value.message} | {caught.value.hint}"

    assert "no role is set that EventBridge Scheduler may assume | set sagemaker.scheduler_role" in refused(None)
    assert "there is no role Nobody" in refused("Nobody")
    assert "sagemaker.scheduler_role" in refused("Nobody")
    assert "EventBridge Scheduler cannot assume the role Trainer" in refused("Trainer")
    assert "not authorized" in refused(ends, Fault("scheduler POST", "denied"))
    assert "scheduler.amazonaws.com" in refused(account.role_arn, Fault("iam ", "denied"))
    assert account.scheduler.schedules() == {}


def test_without_the_right_for_schedules_one_deploys_and_tears_down(account: StandIn) -> None:
    account.faults = [Fault("scheduler ", "denied")]
    backend(account, None).expire_endpoint("chats", "chats", None)
    assert not backend(account, None).delete_endpoint("chats", "chats")
    told = RecordingReporter()
    aws_backend.backend(account, told, scheduler_role="Ends").delete_endpoint("chats", "chats")
    assert "not authorized" in told.warnings[0]
