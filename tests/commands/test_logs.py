"""logs: whose log is read, and how a log of this machine is read while it grows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from memory_backend import InMemoryBackend, RecordingReporter, context

from lorasum.backends.local.log_file import lines_of
from lorasum.commands.deploy import deploy
from lorasum.commands.logs import logs
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import BatchJob


def test_the_log_of_the_job_or_of_the_endpoint_is_read(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    run = context(config, backend, ledger)
    with pytest.raises(LorasumError, match="has no job"):
        list(logs(run))
    train(run)
    with pytest.raises(LorasumError, match="has no log yet"):
        list(logs(run))
    backend.logs = {"training_job": ["loading", "step 1"], "endpoint": ["serving"]}
    assert list(logs(run)) == ["loading", "step 1"]
    with pytest.raises(LorasumError, match="has no endpoint"):
        list(logs(run, endpoint=True))
    deploy(run)
    assert list(logs(run, endpoint=True)) == ["serving"]


def test_the_log_of_the_newest_job_is_read_also_of_a_batch(
    config: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    run = context(config, backend, ledger, told)
    trained = train(run).job
    backend.logs = {"training_job": ["answering"]}
    ledger.intend(BatchJob(run="chats", name="chats-rows-1", backend=backend.name))
    assert list(logs(run)) == ["answering"]
    assert told.steps[-1].startswith("log of batch job chats-rows-1")
    assert list(logs(run, job=trained)) == ["answering"]
    assert told.steps[-1].startswith(f"log of training job {trained}")


def test_a_growing_log_is_read_once_and_to_its_last_half_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    steps: list[Callable[[], object]] = [
        lambda: None,  # there is no file yet
        lambda: path.write_bytes(b"one\ntw"),
        lambda: path.open("ab").write(b"o\n\nthr"),
    ]

    def is_running() -> bool:
        steps.pop(0)()
        return bool(steps)

    assert list(lines_of(path, is_running)) == [b"one", b"two", b"", b"thr"]


def test_a_log_that_was_emptied_for_a_new_process_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old line\n")
    steps: list[Callable[[], object]] = [lambda: None, lambda: path.write_bytes(b"new\n")]

    def is_running() -> bool:
        steps.pop(0)()
        return bool(steps)

    assert list(lines_of(path, is_running)) == [b"old line", b"new"]


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert list(lines_of(tmp_path / "log", lambda: False)) == []
