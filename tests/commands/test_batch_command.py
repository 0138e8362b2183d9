"""predict --batch, between its job's start and end."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from memory_backend import InMemoryBackend, context

from lorasum.backends.base import RunningResource
from lorasum.backends.records import JobRef, JobState
from lorasum.commands.predict_batch import predict_batch
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import BackendError, InterruptedRunError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import BatchJob
from lorasum.lifecycle import jobs
from lorasum.lifecycle.batches import quoted
from lorasum.lifecycle.row_files import predictions
from lorasum.lifecycle.teardowns import TornDownError, note_teardown
from lorasum.reporting import Silent


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("prepared")
def test_two_commands_with_the_same_rows_both_get_their_answers(
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = context(make_config(), backend, ledger)
    train(run)
    (tmp_path / "in.jsonl").write_text('{"dialogue": ""}\n{"dialogue": "Ana: Hi"}\n')

    def fetched(job: JobRef, folder: Path, below: str) -> Path:
        """The answers; and the prompts are gone, as after another command that has ended meanwhile."""
        (tmp_path / below).mkdir()
        (tmp_path / below / "00000.jsonl").write_text('{"row": 0, "summary": "Ana says hi."}\n')
        [prompts] = predictions(run.name).glob("prompts-*")
        assert len((prompts / "00000.jsonl").read_text().splitlines()) == 1, "nobody is asked about nothing"
        shutil.rmtree(prompts)
        return tmp_path

    monkeypatch.setattr(backend, "fetch_artifact", fetched)
    (tmp_path / "link.jsonl").symlink_to("out.jsonl")
    told = predict_batch(run, tmp_path / "in.jsonl", tmp_path / "link.jsonl")
    assert told.output == str(tmp_path / "out.jsonl"), "as predict without --batch says it"
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert (first["error"], second["summary"], told.rows) == ("no text in 'dialogue'", "Ana says hi.", 2)


@pytest.mark.usefixtures("prepared")
def test_ctrl_c_stops_a_batch_job_and_that_is_on_record(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    run = context(make_config(), backend, ledger)
    train(run)
    (tmp_path / "in.jsonl").write_text('{"dialogue": "Ana: Hi"}\n')
    backend.before["follow_training"] = interrupt
    with pytest.raises(InterruptedRunError, match="was stopped") as stopped:
        predict_batch(run, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    [row] = ledger.rows(BatchJob, "chats")
    assert (row.state, row.reason) == ("stopped", f"interrupted; {stopped.value.hint}")


@pytest.mark.usefixtures("prepared")
def test_a_batch_job_torn_down_while_it_is_started_is_stopped(
    config: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    run = context(config, backend, ledger)
    train(run)
    (tmp_path / "in.jsonl").write_text('{"dialogue": "Ana: Hi"}\n')
    backend.before["start_training"] = lambda: note_teardown(run.name)
    with pytest.raises(TornDownError):
        predict_batch(run, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    [row] = ledger.rows(BatchJob, run.name)
    assert (row.state, backend.jobs[row.name].status) == ("gone", "stopped")


@pytest.mark.parametrize("listing", ["lags behind", "is denied"])
def test_teardown_stops_a_batch_job_that_only_the_ledger_knows(
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    listing: str,
) -> None:
    """It was passed over, nothing was said to be left, and it went on."""

    def listed(_run: str) -> list[RunningResource]:
        if listing == "is denied":
            raise BackendError("you may not list jobs")
        return []

    monkeypatch.setattr(backend, "live", listed)
    backend.jobs["chats-rows-1"] = JobState("running")
    ledger.save(replace(ledger.intend(BatchJob(run="chats", name="chats-rows-1", backend=backend.name)), state="live"))
    with suppress(BackendError):
        assert len(teardown(context(make_config(), backend, ledger)).removed) == 1
    assert backend.jobs["chats-rows-1"].status == "stopped"
    [row] = ledger.rows(BatchJob)
    assert (row.state, row.reason) == ("gone", "stopped by teardown")


def test_a_batch_job_that_cannot_be_stopped_remains(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the list does not show it yet."""
    monkeypatch.setattr(backend, "live", lambda _run: [])
    monkeypatch.setattr(backend, "stop_training", lambda _job, _keep_warm: None)
    backend.jobs["chats-rows-1"] = JobState("running")
    ledger.save(replace(ledger.intend(BatchJob(run="chats", name="chats-rows-1", backend=backend.name)), state="live"))
    [left] = teardown(context(make_config(), backend, ledger)).remaining
    assert (left.kind, str(left)) == ("batch_job", "batch job chats-rows-1 (job:chats-rows-1): it still runs")


def test_a_batch_jobs_limit_pays_for_no_instance_that_is_kept(make_config: Callable[..., Config]) -> None:
    kept = {"backend": "sagemaker", "sagemaker": {"keep_alive_minutes": 30}, "limits": {"max_usd": 1.0}}
    limit, note = quoted(make_config(**kept), 2.0, 0.0, Silent())
    assert limit == 1800 - 180, "what is billed while it ends"
    assert "$1.00 at most" in note


def test_the_cost_of_a_batch_job_that_is_gone_is_unknown(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    row = ledger.intend(BatchJob(run="chats", name="chats-rows-1", backend=backend.name, usd_per_hour=2.0))
    ledger.save(replace(row, state="live"))
    with context(make_config(), backend, ledger).hold() as held:
        jobs.reconcile(held, BatchJob, row.name)
    [gone] = ledger.rows(BatchJob, "chats")
    assert (gone.state, gone.usd_total) == ("gone", None)
