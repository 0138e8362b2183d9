"""AWS does not answer for a while: what waits for it goes on, and nothing that is billed is left behind for that."""

import io
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import aws_backend
import pytest
import stand_in_container as container
from botocore.exceptions import LoginRefreshRequired
from memory_backend import RecordingReporter
from stand_in import Fault, StandIn

from lorasum.aws import aws_errors
from lorasum.backends.records import EndpointSpec, JobRef, TrainSpec
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.backends.sagemaker.logs import Log
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError, OutageError
from lorasum.models.source import ModelRef
from lorasum.shared.events import EvalEvent, event_line
from lorasum.system import retry

pytestmark = pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces")
SPEC = TrainSpec("chats", "chats-0123abcd", ModelRef("org/m"), Path("/no/data"), {})

CODE = b"""
def model_fn(model_dir): return None
def input_fn(data, content_type): return data
def predict_fn(data, model): return data
def output_fn(prediction, accept): return prediction
"""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> RecordingReporter:
    """What is said. boto3 tries each call once, where it would try for a minute."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return RecordingReporter()


@pytest.fixture
def backend(account: StandIn, told: RecordingReporter) -> SageMakerBackend:
    return aws_backend.backend(account, told)


@pytest.fixture
def job(account: StandIn, backend: SageMakerBackend) -> JobRef:
    """One that has ended, and has two logs with a line each."""
    started = backend.start_training(SPEC)
    while account.sagemaker.jobs[SPEC.job_name].description["TrainingJobStatus"] == "InProgress":
        time.sleep(0.05)
    for number in (1, 2):
        said = io.BytesIO(f"{event_line(EvalEvent(number, 2.0))}\n".encode())
        account.aws.log_lines(said, "/aws/sagemaker/TrainingJobs", f"{SPEC.job_name}/algo-{number}").join()
    return started


def test_a_job_is_followed_through_outages(
    account: StandIn, backend: SageMakerBackend, job: JobRef, told: RecordingReporter
) -> None:
    account.faults = [
        Fault("DescribeTrainingJob", "reset", times=2),
        Fault("DescribeTrainingJob", "skewed", times=1),  # a laptop that has just woken up
        Fault("DescribeLogStreams", "throttle", times=2),
        Fault("GetLogEvents", "error", times=2, skip=3),  # the first log has been read
    ]
    events = list(backend.follow_training(job))
    assert [event for event in events if isinstance(event, EvalEvent)] == [EvalEvent(1, 2.0), EvalEvent(2, 2.0)]
    assert [line.partition(":")[0] for line in told.warnings] == [
        "cannot look at training job chats-0123abcd",
        "cannot find the container's log",
    ], "the third is a part of the second"
    assert told.steps.count("it answers again") == 2


def test_a_job_is_followed_while_no_name_is_resolved(
    backend: SageMakerBackend, job: JobRef, told: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, fails = socket.getaddrinfo, iter([True, True])

    def resolved(*args: Any, **more: Any) -> Any:
        if next(fails, False):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(*args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    events = list(backend.follow_training(job))
    assert len([event for event in events if isinstance(event, EvalEvent)]) == 2
    [warning] = told.warnings
    assert "Could not connect to the endpoint URL" in warning


def test_the_log_of_what_runs_is_followed_through_an_outage(
    account: StandIn, job: JobRef, told: RecordingReporter
) -> None:
    session = Session(SageMakerConfig(bucket=account.bucket), told)
    log = Log(session, "/aws/sagemaker/TrainingJobs", SPEC.job_name)
    lines = log.lines(partial(next, iter([True, False])))
    assert len([next(lines), next(lines)]) == 2
    account.faults = [Fault("GetLogEvents", "reset", times=2)]
    said = io.BytesIO(b"the last line\n")
    account.aws.log_lines(said, "/aws/sagemaker/TrainingJobs", f"{SPEC.job_name}/algo-1").join()
    assert list(lines) == ["the last line"]
    assert len(told.warnings) == 1


@pytest.mark.parametrize(
    ("kind", "hint"), [("reset", "the network"), ("skewed", "the clock"), ("throttle", "throttled")]
)
def test_an_outage_that_does_not_end_is_an_error(
    account: StandIn, backend: SageMakerBackend, job: JobRef, monkeypatch: pytest.MonkeyPatch, kind: str, hint: str
) -> None:
    monkeypatch.setattr(retry, "LONGEST", 0.0)
    account.faults = [Fault("DescribeTrainingJob", kind)]
    with pytest.raises(OutageError, match="cannot look at training job chats-0123abcd") as error:
        list(backend.follow_training(job))
    assert hint in error.value.hint


def test_credentials_that_expire_are_not_waited_for(
    account: StandIn, backend: SageMakerBackend, job: JobRef, told: RecordingReporter
) -> None:
    account.faults = [Fault("", "expired")]
    with pytest.raises(BackendError, match="ExpiredToken") as error:
        list(backend.follow_training(job))
    assert "log in again (`aws sso login`), then run the same command" in error.value.hint
    assert told.warnings == []


FETCHED = """
import datetime, json, sys
if sys.argv[1] == "fails":
    sys.exit("the session has expired")
keys = {"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c"}
print(json.dumps({"Version": 1, **keys, "Expiration": str(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))}))
"""


@pytest.mark.parametrize("how", ["fails", "are old"])
def test_credentials_that_cannot_be_fetched_anew_are_one_line(
    account: StandIn, backend: SageMakerBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "fetch.py").write_text(FETCHED)
    process = f"credential_process = {sys.executable} {tmp_path / 'fetch.py'} {how}"
    (tmp_path / "config").write_text(f"[profile company]\n{process}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "company")
    with pytest.raises(BackendError, match="expired") as error:
        backend.find_training("chats", "chats-0123abcd")
    assert "`aws sso login`" in error.value.hint


def test_a_login_that_is_over_says_to_log_in() -> None:
    with pytest.raises(BackendError) as error, aws_errors("look at it"):
        raise LoginRefreshRequired
    assert "`aws login`" in error.value.hint


def test_an_endpoint_starts_and_goes_through_outages(
    account: StandIn, backend: SageMakerBackend, told: RecordingReporter
) -> None:
    account.aws.client("s3").put_object(Bucket=account.bucket, Key="m/code/inference.py", Body=CODE)
    artifact = f"s3://{account.bucket}/m/"
    account.faults = [Fault("DescribeEndpoint$", "reset", skip=2, times=2)]  # it is looked for, created, and read
    backend.start_endpoint(EndpointSpec(run="chats", name="chats", artifact=artifact))
    assert len(told.warnings) == 1
    account.faults = [
        Fault("DeleteEndpoint$", "reset", times=1),
        Fault("DescribeEndpoint$", "throttle", skip=1, times=2),
    ]
    assert backend.delete_endpoint("chats", "chats")
    assert account.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}
    assert len(told.warnings) == 2
