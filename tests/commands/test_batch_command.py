"""predict --batch, between its job's start and end."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_backend import InMemoryBackend, context

from lorasum.backends.records import JobRef
from lorasum.commands.predict_batch import predict_batch
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import InterruptedRunError
from lorasum.ledger import Ledger
from lorasum.lifecycle import jobs
from lorasum.lifecycle.row_files import predictions
from lorasum.resources import BatchJob


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
    (tmp_path / "in.jsonl").write_text('{"dialogue": "Ana: Hi"}\n')

    def fetched(job: JobRef, folder: Path, below: str) -> Path:
        """The answers; and the prompts are gone, as after another command that has ended meanwhile."""
        (tmp_path / below).mkdir()
        (tmp_path / below / "00000.jsonl").write_text('{"row": 0, "summary": "Ana says hi."}\n')
        [prompts] = predictions(run.name).glob("prompts-*")
        shutil.rmtree(prompts)
        return tmp_path

    monkeypatch.setattr(backend, "fetch_artifact", fetched)
    (tmp_path / "link.jsonl").symlink_to("out.jsonl")
    told = predict_batch(run, tmp_path / "in.jsonl", tmp_path / "link.jsonl")
    assert told.output == str(tmp_path / "out.jsonl"), "as predict without --batch says it"
    assert "Ana says hi." in (tmp_path / "out.jsonl").read_text()


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
    assert (row.state, row.reason) == ("stopped", f"by Ctrl-C; {stopped.value.hint}")


def test_the_cost_of_a_batch_job_that_is_gone_is_unknown(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    row = ledger.intend(BatchJob(run="chats", name="chats-rows-1", backend=backend.name, usd_per_hour=2.0))
    ledger.save(replace(row, state="live"))
    with context(make_config(), backend, ledger).hold() as held:
        jobs.reconcile(held, BatchJob, row.name)
    [gone] = ledger.rows(BatchJob, "chats")
    assert (gone.state, gone.usd_total) == ("gone", None)
