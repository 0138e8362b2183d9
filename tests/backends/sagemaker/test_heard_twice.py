"""Calls that SageMaker has heard, or hears later: boto3 sends a call again whose answer was lost."""

import time
from pathlib import Path
from typing import Any

import aws_backend
import pytest
import stand_in_endpoints
from memory_backend import RecordingReporter
from stand_in import Fault, StandIn
from world import StubServer, stub_containers

from lorasum.backends.records import EndpointRef, EndpointSpec, JobRef, TrainSpec
from lorasum.backends.sagemaker import endpoint_deletion
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.errors import BackendError, OutageError
from lorasum.models.source import ModelRef

JOB = "chats-0123abcd"


@pytest.fixture
def told() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def backend(account: StandIn, told: RecordingReporter, monkeypatch: pytest.MonkeyPatch) -> SageMakerBackend:
    """In an account whose containers do nothing. boto3 tries each call twice."""
    stub_containers(monkeypatch.setattr)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    return aws_backend.backend(account, told, keep_alive_minutes=10)


def serve(account: StandIn, backend: SageMakerBackend, name: str) -> EndpointRef:
    account.aws.client("s3").put_object(Bucket=account.bucket, Key=f"{name}/weights", Body=b"w")
    endpoint = backend.start_endpoint(EndpointSpec("chats", "chats", f"s3://{account.bucket}/{name}/"))
    backend.confirm_endpoint("chats", "chats")
    return endpoint


def ended_job(account: StandIn, backend: SageMakerBackend) -> JobRef:
    """A job that has failed, whose instance is kept."""
    job = backend.start_training(TrainSpec("chats", JOB, ModelRef("org/m"), Path("/no/data"), {}))
    started = account.sagemaker.jobs[JOB]
    started.join()
    kept = {"TrainingStartTime": time.time() - 9, "TrainingEndTime": time.time()}
    started.description |= kept | {"WarmPoolStatus": {"Status": "Available"}}
    assert backend.is_warm(job)
    return job


def test_an_update_whose_answer_is_lost_goes_on(
    account: StandIn, backend: SageMakerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was undone: SageMaker refuses to update an endpoint that is being updated."""
    serve(account, backend, "first")
    update = "sagemaker UpdateEndpoint"

    class Slow(StubServer):
        def wait_for_ping(self, seconds: float) -> bool:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and (account.calls.count(update) < 2 or account.calls[-1] == update):
                time.sleep(0.01)  # until the second one has been refused
            return True

    monkeypatch.setattr(stand_in_endpoints, "Server", Slow)
    account.faults = [Fault("UpdateEndpoint$", "lost", times=1)]
    assert serve(account, backend, "second").artifact.endswith("/second/")
    assert account.calls.count(update) == 2


def test_what_is_shown_late_is_waited_for(account: StandIn, backend: SageMakerBackend) -> None:
    """A new endpoint was written off, and an updated one called rolled back: the model that it got was deleted."""
    account.sagemaker.late_looks = 4
    for name in ("first", "second"):
        assert serve(account, backend, name).artifact.endswith(f"/{name}/")
        state = backend.endpoint_state("chats", "chats")
        assert state.ref
        assert state.ref.artifact.endswith(f"/{name}/")
    assert account.calls.count("sagemaker DeleteEndpoint") == 0


def test_an_update_that_is_refused_is_an_error(account: StandIn, backend: SageMakerBackend) -> None:
    serve(account, backend, "first")
    account.faults = [Fault("UpdateEndpoint$", "error")]
    with pytest.raises(OutageError, match="cannot update endpoint chats"):
        serve(account, backend, "second")


def test_an_update_needs_instances_beside_those_that_serve(account: StandIn, backend: SageMakerBackend) -> None:
    serve(account, backend, "first")
    account.sagemaker.quotas["ml.g5.4xlarge for endpoint usage"] = 1
    with pytest.raises(BackendError, match="service limit") as error:
        serve(account, backend, "second")
    assert "beside those that serve" in error.value.hint


@pytest.mark.usefixtures("backend")
def test_a_refused_update_leaves_autoscaling_on(account: StandIn, told: RecordingReporter) -> None:
    """It was left off: a fleet that had grown would have been paid for until somebody noticed."""
    backend = aws_backend.backend(account, told, max_instances=4)
    serve(account, backend, "first")
    account.faults = [Fault("UpdateEndpoint$", "denied")]
    with pytest.raises(BackendError):
        serve(account, backend, "second")
    assert backend.restore_endpoint("chats", "chats") is None
    assert account.aws.scaled("chats")


def test_a_kept_instance_may_be_gone_when_it_is_let_go(
    account: StandIn, backend: SageMakerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ended_job(account, backend)
    release = account.sagemaker.UpdateTrainingJob

    def too_late(request: dict[str, Any]) -> dict[str, Any]:
        account.sagemaker.jobs[JOB].release("Terminated")
        return release(request)

    monkeypatch.setattr(account.sagemaker, "UpdateTrainingJob", too_late)
    backend.stop_training(job)
    assert not backend.is_warm(job)


def test_a_kept_instance_goes_whose_answer_is_lost(account: StandIn, backend: SageMakerBackend) -> None:
    job = ended_job(account, backend)
    account.faults = [Fault("UpdateTrainingJob", "lost", times=1)]
    backend.stop_training(job)
    assert not backend.is_warm(job)


def test_an_endpoint_that_is_being_created_is_deleted_after_that(
    account: StandIn, backend: SageMakerBackend, told: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was said while it waited, and it gave up after half an hour, where creating may take two hours."""
    serve(account, backend, "first")
    shown, delete = account.sagemaker.endpoints["chats"].description, account.sagemaker.DeleteEndpoint
    refused: list[dict[str, Any]] = []
    shown["EndpointStatus"] = "Creating"

    def deleted(request: dict[str, Any]) -> None:
        if len(refused) == 2:
            shown["EndpointStatus"] = "InService"
        refused.append(request)
        delete(request)

    monkeypatch.setattr(account.sagemaker, "DeleteEndpoint", deleted)
    monkeypatch.setattr(endpoint_deletion, "_LONGEST_DELETION", -1)  # it has not begun
    with pytest.raises(BackendError, match="still Deleting"):
        backend.delete_endpoint("chats", "chats")
    assert told.steps[-1] == "endpoint chats is Creating: SageMaker deletes it once that is over"
    assert len(refused) == 3
