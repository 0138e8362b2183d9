"""predict --batch, between its job's start and end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from memory_backend import InMemoryBackend, context

from lorasum.commands.predict_batch import predict_batch
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import InterruptedRunError
from lorasum.ledger import Ledger
from lorasum.resources import BatchJob


def interrupt() -> None:
    raise KeyboardInterrupt


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
