"""A sweep or a batch on SageMaker beside what else happens there: a teardown, a colleague, no free instance."""

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stand_in_jobs
from memory_backend import DONE, RecordingReporter
from stand_in import Fault, StandIn
from world import stub_job, stub_scripts

from lorasum.backends.records import TrainSpec
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.commands import sweep as command
from lorasum.commands.sweep import sweep
from lorasum.commands.teardown import teardown, teardown_all
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError, InterruptedRunError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Dataset, TrainingJob
from lorasum.lifecycle import batches, jobs
from lorasum.lifecycle.teardowns import TornDownError
from lorasum.models.source import ModelRef
from lorasum.shared.events import event_line
from lorasum.system import paths

pytestmark = pytest.mark.slow


class Watched(RecordingReporter):
    """Calls what is to happen meanwhile, once the sweep has looked at its trials."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile: list[Callable[[], object]] = [meanwhile]

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
        if label == "trials" and self._meanwhile:
            self._meanwhile.pop()()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """An account whose jobs go on until they are stopped."""
    scripts = stub_scripts(tmp_path / "container_scripts")
    monkeypatch.setattr(paths, "container_scripts", lambda: scripts)
    monkeypatch.setattr(stand_in_jobs.Job, "_execute", lambda job, root, began: job.stopping.wait() and 143)
    with StandIn() as account:
        for name, value in {**account.environ(), "LORASUM_POLL_SECONDS": "0.05"}.items():
            monkeypatch.setenv(name, value)
        yield account
        for job in account.sagemaker.jobs.values():
            job.stopping.set()
            job.join()


@pytest.fixture
def make_run(
    aws: StandIn,
    make_config: Callable[..., Config],
    prepared: Path,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., RunContext]:
    """A run of three trials, two at once. Its data is prepared once; each trial takes it as its own."""

    def take(run: RunContext) -> None:
        if not run.ledger.latest_dataset(run.name):
            row = run.ledger.intend(Dataset(run=run.name, name=prepared.name, backend="local", path=str(prepared)))
            run.ledger.save(replace(row, state="done"))

    monkeypatch.setattr(command, "prepare", take)
    monkeypatch.setattr(command, "_LOOKS", {"sagemaker": 0.05})

    def make(told: RecordingReporter | None = None, own: Ledger = ledger, **sweep: Any) -> RunContext:
        swept = {"keys": {"lora.r": [2, 4, 8]}, "at_once": 2, **sweep}
        where = {"bucket": aws.bucket, "role": aws.role_arn, "training_image": "image:1"}
        config = make_config(backend="sagemaker", sagemaker=where, sweep=swept)
        told = told or RecordingReporter()
        return RunContext(config, lambda: SageMakerBackend(config.sagemaker, told), own, told)

    return make


def statuses(aws: StandIn) -> list[str]:
    return [job.description["TrainingJobStatus"] for job in aws.sagemaker.jobs.values()]


def test_a_teardown_ends_a_sweep_that_runs(aws: StandIn, make_run: Callable[..., RunContext]) -> None:
    """It said that nothing is left, and the sweep started the next trials."""
    told = Watched(lambda: teardown(make_run()))
    with pytest.raises(TornDownError, match="was torn down meanwhile"):
        sweep(make_run(told))
    assert statuses(aws) == ["Stopped", "Stopped"]


def test_a_trial_that_somebody_stops_ends_the_sweep(aws: StandIn, make_run: Callable[..., RunContext]) -> None:
    """As in the console, or by a teardown on another machine."""

    def stop_one() -> None:
        name = next(iter(aws.sagemaker.jobs))
        aws.sagemaker.call("StopTrainingJob", {"TrainingJobName": name})

    with pytest.raises(TornDownError, match="was stopped by somebody else"):
        sweep(make_run(Watched(stop_one)))
    assert statuses(aws) == ["Stopped", "Stopped"]


def test_a_colleagues_teardown_finds_the_trials(
    aws: StandIn, make_run: Callable[..., RunContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that has no record of them, with other keys in the config."""

    class Dies(BaseException):
        pass

    def die() -> None:
        raise Dies

    with pytest.raises(Dies):
        sweep(make_run(Watched(die)))
    assert statuses(aws) == ["InProgress", "InProgress"]
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "other"))
    torn = teardown(make_run(own=Ledger(), keys={"lora.alpha": [8, 16]}))
    assert (len(torn.removed), torn.remaining) == (2, ())
    assert statuses(aws) == ["Stopped", "Stopped"]


@pytest.mark.parametrize("by", ["Ctrl-C", "teardown", "teardown --all"])
def test_all_jobs_are_asked_to_stop_before_one_is_waited_for(
    aws: StandIn, make_run: Callable[..., RunContext], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Each took three minutes, one after the other, and was billed until then."""
    asked: list[int] = []
    both_run = threading.Barrier(3)
    both_end = threading.Barrier(2, action=lambda: asked.append(statuses(aws).count("Stopping")), timeout=60)

    def ends_with_the_other(job: stand_in_jobs.Job, root: Path, began: float) -> int:
        both_run.wait()
        job.stopping.wait()
        both_end.wait()
        return 143

    monkeypatch.setattr(stand_in_jobs.Job, "_execute", ends_with_the_other)

    def end() -> None:
        both_run.wait()
        run = make_run()
        if by == "Ctrl-C":
            raise KeyboardInterrupt
        if by == "teardown":
            teardown(run)
        else:
            teardown_all(run.ledger, [run.backend], run.reporter)

    with pytest.raises(InterruptedRunError if by == "Ctrl-C" else TornDownError):
        sweep(make_run(Watched(end)))
    assert asked == [2]
    assert statuses(aws) == ["Stopped", "Stopped"]


def test_a_sweep_waits_where_no_instance_is_free(
    aws: StandIn, make_run: Callable[..., RunContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial was started, failed, and counted as tried."""

    def complete(job: stand_in_jobs.Job, root: Path, began: float) -> int:
        said = io.BytesIO(f"{event_line(DONE)}\n".encode())
        aws.aws.log_lines(said, stand_in_jobs.GROUP, f"{job.description['TrainingJobName']}/algo-1").join()
        return stub_job(job, root, began)

    monkeypatch.setattr(stand_in_jobs.Job, "_execute", complete)
    monkeypatch.setattr(jobs, "WAITS_FOR_AN_INSTANCE", (0.0, 0.0))
    aws.sagemaker.sold_out = {"ml.g5.2xlarge"}
    result = sweep(make_run(Watched(aws.sagemaker.sold_out.clear), at_once=1))
    assert [one.state for one in result.trials] == ["done"] * 3
    assert len(aws.sagemaker.jobs) == 4, "the first trial took two attempts"


def test_a_sweep_in_a_sold_out_region_ends_and_tries_no_other_trial(
    aws: StandIn, make_run: Callable[..., RunContext], monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    monkeypatch.setattr(jobs, "WAITS_FOR_AN_INSTANCE", (0.0, 0.0))
    aws.sagemaker.sold_out = {"ml.g5.2xlarge"}
    with pytest.raises(BackendError, match="CapacityError"):
        sweep(make_run(at_once=1))
    assert len({row.run for row in ledger.rows(TrainingJob)}) == 1


def test_a_batch_job_is_stopped_where_nobody_may_list(
    aws: StandIn, make_run: Callable[..., RunContext], tmp_path: Path
) -> None:
    """It was passed over, although it is on record."""
    run, artifact = make_run(), f"s3://{aws.bucket}/model/"
    aws.aws.client("s3").put_object(Bucket=aws.bucket, Key="model/weights", Body=b"w")
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "00000.jsonl").write_text("{}\n")
    spec = TrainSpec("chats", "chats-rows-0123abcd", ModelRef(artifact), rows, {})
    with run.hold() as held:
        batches.start(held, replace(spec, program="answer.py", artifact=artifact), run.config)
    aws.faults = [Fault("ListTrainingJobs", "denied")]
    with pytest.raises(BackendError, match="not authorized"):  # nobody can tell that nothing is left
        teardown(run)
    assert statuses(aws) == ["Stopped"]
