"""Attempts of a job: each has a name of its own, and an old one may have been deleted."""

import io
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stand_in_container as container
import stand_in_jobs
from aws_backend import backend
from stand_in import Fault, StandIn
from stand_in_rules import RefusalError

from lorasum.backends.records import JobState, TrainSpec
from lorasum.backends.sagemaker import attempts, stopping
from lorasum.backends.sagemaker.logs import Log
from lorasum.errors import BackendError
from lorasum.models.source import ModelRef
from lorasum.shared.events import EvalEvent, Event, event_line
from lorasum.system import paths

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces"),
]
SPEC = TrainSpec("chats", "chats-0123abcd", ModelRef("org/m"), Path("/no/data"), {})


def fail_once(account: StandIn) -> None:
    """An attempt that fails: there is no dataset to lay out."""
    backend(account).start_training(SPEC)
    wait(account)


def wait(account: StandIn) -> None:
    while any(job.description["TrainingJobStatus"] == "InProgress" for job in account.sagemaker.jobs.values()):
        time.sleep(0.05)


@pytest.mark.parametrize("may_list", [True, False])
def test_the_newest_attempt_is_found_behind_one_that_was_deleted(account: StandIn, may_list: bool) -> None:
    for _ in range(3):
        fail_once(account)
    assert list(account.sagemaker.jobs) == ["chats-0123abcd", "chats-0123abcd-2", "chats-0123abcd-3"]
    account.sagemaker.call("DeleteTrainingJob", {"TrainingJobName": "chats-0123abcd-2"})
    account.faults = [] if may_list else [Fault("ListTrainingJobs", "denied")]
    found = backend(account).find_training("chats", "chats-0123abcd")
    assert found is not None
    assert found.location.endswith("chats-0123abcd-3" if may_list else "chats-0123abcd")
    account.faults = []
    fail_once(account)
    assert list(account.sagemaker.jobs)[-1] == "chats-0123abcd-4"


def test_the_last_attempt_that_is_possible_can_be_stopped(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could look at it, nor stop it, until its time limit."""
    monkeypatch.setattr(attempts, "_MOST_ATTEMPTS", 2)
    for _ in range(2):
        fail_once(account)
    found = backend(account).find_training("chats", "chats-0123abcd")
    assert found is not None
    assert found.location.endswith("chats-0123abcd-2")
    assert backend(account).training_usd(found) == 0
    with pytest.raises(BackendError, match="had 2 attempts"):
        backend(account).start_training(SPEC)


def test_a_date_in_a_runs_name_is_no_attempt(account: StandIn) -> None:
    """A job was listed by the run's name where its hash has digits only, and could not be stopped by that."""
    for name in ("chats-20261130-12345678", "chats-20261130-12345678"):
        backend(account).start_training(replace(SPEC, run="chats-20261130", job_name=name))
        wait(account)
    [job] = backend(account).training_jobs("chats-20261130")
    assert (job.name, job.location.rpartition("/")[2]) == ("chats-20261130-12345678", "chats-20261130-12345678-2")


def test_a_job_that_cannot_be_read_at_once_is_read_again(account: StandIn) -> None:
    account.faults = [Fault("DescribeTrainingJob", "denied", skip=1, times=1)]  # it is looked for, created, and read
    job = backend(account).start_training(SPEC)
    assert job.location.endswith("/chats-0123abcd")
    assert list(account.sagemaker.jobs) == ["chats-0123abcd"]


def test_the_events_are_those_of_all_attempts(account: StandIn) -> None:
    events: list[Event] = [EvalEvent(1, 2.0), EvalEvent(2, 1.5)]
    for attempt, event in zip(("chats-0123abcd", "chats-0123abcd-2"), events, strict=True):
        fail_once(account)
        said = io.BytesIO(f"{event_line(event)}\nCollecting torch\n".encode())
        account.aws.log_lines(said, "/aws/sagemaker/TrainingJobs", f"{attempt}/algo-2").join()
    job = backend(account).find_training("chats", "chats-0123abcd")
    assert job is not None
    assert [event for event in backend(account).training_events(job) if isinstance(event, EvalEvent)] == events


def test_lines_that_come_after_the_jobs_end_are_followed(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(account)
    job = backend(account).find_training("chats", "chats-0123abcd")
    assert job is not None
    account.aws.logs_come.clear()
    said = io.BytesIO(f"{event_line(EvalEvent(1, 2.0))}\n".encode())
    coming = account.aws.log_lines(said, "/aws/sagemaker/TrainingJobs", "chats-0123abcd/algo-1")
    looks, look = [], Log.new_lines

    def looked(log: Log) -> list[str]:
        """They come right after the first look."""
        looks.append(look(log))
        account.aws.logs_come.set()
        coming.join()
        return looks[-1]

    monkeypatch.setattr(Log, "new_lines", looked)
    assert EvalEvent(1, 2.0) in list(backend(account).follow_training(job))
    assert looks[0] == []


def test_a_job_of_another_name_is_no_attempt(account: StandIn) -> None:
    fail_once(account)
    other = TrainSpec("chats-0123abcd", "chats-0123abcd-89abcdef", SPEC.model, SPEC.dataset, {})
    backend(account).start_training(other)
    found = backend(account).find_training("chats", "chats-0123abcd")
    assert found is not None
    assert found.location.endswith("/chats-0123abcd")


def test_a_job_tells_the_scripts_image_and_instance_that_it_was_made_with(
    account: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(account)
    job = backend(account).find_training("chats", "chats-0123abcd")
    made = backend(account).made_with(job)
    assert made == backend(account).made_with(None)
    assert set(made) == {"container scripts", "images", "instance types"}
    other = backend(account, training_image="image:2", training_instance_type="ml.g6.xlarge").made_with(None)
    assert [what for what in made if made[what] != other[what]] == ["images", "instance types"]
    scripts = Path(shutil.copytree(paths.container_scripts(), tmp_path / "scripts"))
    with (scripts / "train.py").open("a") as file:
        file.write("# mended\n")
    monkeypatch.setattr(paths, "container_scripts", lambda: scripts)
    assert backend(account).made_with(None)["container scripts"] != made["container scripts"]
    assert backend(account).made_with(job) == made


def test_a_job_tells_whose_checkpoints_it_has(account: StandIn) -> None:
    fail_once(account)
    others = replace(SPEC, job_name="chats-4567cdef", checkpoints=SPEC.job_name)
    job, other = (backend(account).start_training(spec) for spec in (SPEC, others))
    assert [backend(account).steps_of("chats", one) for one in (job, other)] == [job, job]
    for attempt in (SPEC.job_name, f"{SPEC.job_name}-2"):
        ended(account, attempt)
        account.sagemaker.call("DeleteTrainingJob", {"TrainingJobName": attempt})
    assert backend(account).steps_of("chats", other) is None


def ended(account: StandIn, name: str = "chats-0123abcd") -> dict[str, Any]:
    while (known := account.sagemaker.jobs[name].description)["TrainingJobStatus"] == "InProgress":
        time.sleep(0.05)
    return known


def test_a_job_that_does_not_end_is_told_of(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """SageMaker was asked for ever, without a word of what it answered."""
    released = threading.Event()
    monkeypatch.setattr(stand_in_jobs.Job, "_run", lambda job, root: released.wait())
    monkeypatch.setattr(stopping, "_LONGEST", 0.0)
    monkeypatch.setattr(account.sagemaker, "StopTrainingJob", refuse_to_stop)
    job = backend(account).start_training(SPEC)
    with pytest.raises(BackendError, match="goes on 0 minutes after it was to end, and is billed: cannot stop"):
        backend(account).stop_training(job)
    released.set()
    account.sagemaker.jobs["chats-0123abcd"].join()


def refuse_to_stop(request: dict[str, Any]) -> None:
    raise RefusalError("ValidationException", f"{request['TrainingJobName']} cannot be stopped for a reason of its own")


def test_a_job_that_finds_no_instance_says_what_to_do(account: StandIn) -> None:
    account.sagemaker.sold_out = {"ml.g5.2xlarge"}
    job = backend(account).start_training(SPEC)
    ended(account)
    state = backend(account).training_state(job)
    assert (state.status, state.reason.partition(":")[0]) == ("failed", "CapacityError")
    assert "training_instance_alternatives" in state.hint
    assert backend(account).training_usd(job) == 0


def test_what_an_earlier_job_had_the_base_model_say_is_a_channel(account: StandIn, tmp_path: Path) -> None:
    (tmp_path / "base_summaries.json").write_text("kept")
    backend(account).start_training(replace(SPEC, base_summaries=tmp_path))
    channels = {
        one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in ended(account)["InputDataConfig"]
    }
    _, _, prefix = channels["base"].removeprefix("s3://").partition("/")
    assert account.aws.stored(account.bucket, prefix) == {f"{prefix}base_summaries.json": b"kept"}
    assert prefix.startswith("lorasum/chats/data/")


@pytest.mark.parametrize(("secondary", "pending"), [("Starting", True), ("Pending", True), ("Downloading", False)])
def test_a_job_is_pending_until_it_has_an_instance(account: StandIn, secondary: str, pending: bool) -> None:
    job = backend(account).start_training(SPEC)
    ended(account)
    account.sagemaker.jobs[job.name].description |= {"TrainingJobStatus": "InProgress", "SecondaryStatus": secondary}
    assert backend(account).training_state(job) == JobState("running", pending=pending)


def test_a_type_that_the_region_lacks_is_one_line(account: StandIn) -> None:
    """SageMaker's answer has the names of all that there are: 3,000 characters."""
    with pytest.raises(BackendError, match=r"ml\.g99\.xlarge") as error:
        backend(account, training_instance_type="ml.g99.xlarge").start_training(SPEC)
    assert len(error.value.message) < 300
    assert error.value.hint == "choose another instance type or region"


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("ClientError: Artifact upload failed:Insufficient disk space", "set right in the config"),
        ("InternalServerError: We encountered an internal error. Please try again.", "on AWS's side"),
    ],
)
def test_a_failure_of_the_platform_says_what_helps(account: StandIn, reason: str, hint: str) -> None:
    fail_once(account)
    account.sagemaker.jobs["chats-0123abcd"].description["FailureReason"] = reason
    job = backend(account).find_training("chats", "chats-0123abcd")
    assert job is not None
    state = backend(account).training_state(job)
    assert (state.reason, hint in state.hint) == (reason, True)


def test_a_job_takes_the_first_free_instance_type_and_is_billed_for_it(account: StandIn) -> None:
    account.sagemaker.sold_out = {"ml.g5.2xlarge"}
    several = {"training_instance_alternatives": ["ml.g5.4xlarge", "ml.g5.12xlarge"]}
    backend(account, **several).start_training(SPEC)
    resources = ended(account)["ResourceConfig"]
    assert [one["InstanceType"] for one in resources["InstancePreferences"]] == [
        "ml.g5.2xlarge",
        "ml.g5.4xlarge",
        "ml.g5.12xlarge",
    ]
    assert (resources["SelectedInstanceType"], "InstanceType" in resources) == ("ml.g5.4xlarge", False)


def test_the_price_said_is_the_dearest(account: StandIn) -> None:
    account.faults = [Fault("pricing", "denied")]
    assert backend(account, training_instance_alternatives=["ml.g5.xlarge"]).usd_per_hour("training_job") == 1.515
    assert backend(account, training_instance_alternatives=["ml.g5.4xlarge"]).usd_per_hour("training_job") == 2.03
    assert backend(account, training_instance_alternatives=["ml.p5.48xlarge"]).usd_per_hour("training_job") is None


def test_one_quota_of_several_is_enough(account: StandIn) -> None:
    account.sagemaker.quotas["ml.g5.2xlarge for training job usage"] = 0
    account.sagemaker.sold_out = {"ml.g5.2xlarge"}
    backend(account, training_instance_alternatives=["ml.g5.4xlarge"]).start_training(SPEC)
    with pytest.raises(BackendError, match="is 0"):
        backend(account).start_training(TrainSpec("chats", "chats-89abcdef", SPEC.model, SPEC.dataset, {}))
