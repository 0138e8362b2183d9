"""One process at a time changes a run. Functions that change it take a `HeldRun`, which only `hold` makes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lorasum.backends.base import Backend
from lorasum.errors import LATER, LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.reporting import Reporter
from lorasum.system import paths
from lorasum.system.files import FILE_MODE, make_folder, open_file


@dataclass(frozen=True, slots=True)
class HeldRun:
    """A run whose lock is held, with its backend and ledger. No other process changes the run meanwhile."""

    name: str
    backend: Backend
    ledger: Ledger
    reporter: Reporter


class LockError(LorasumError):
    """The run cannot be locked."""


class RunBusyError(LockError):
    """Another process is changing the run, or another job of it runs."""

    exit_code = LATER


@contextmanager
def hold(
    name: str, backend: Backend, ledger: Ledger, reporter: Reporter, wait: float | None = None
) -> Iterator[HeldRun]:
    """Hold a run's lock. The system releases it when the process dies.

    Args:
        wait: seconds to wait for another process, after saying so. None waits for as long as it takes.

    Raises:
        RunBusyError: another process still holds it.
        LockError: its file cannot be written.
    """
    found = ", from which `lorasum teardown` finds what runs on SageMaker all the same"
    elsewhere = found if backend.name == "sagemaker" else ""
    with run_lock(name, wait, lambda: reporter.step(waits_for(name)), elsewhere=elsewhere):
        yield HeldRun(name, backend, ledger, reporter)


def waits_for(run: str, file: str = "lock") -> str:
    """What a command says that waits for a lock of a run."""
    return f"waiting for another lorasum process{_holder(paths.run_dir(run), file)} that works on run {run!r}"


@contextmanager
def run_lock(
    run: str, wait: float | None, waiting: Callable[[], None], file: str = "lock", elsewhere: str = ""
) -> Iterator[None]:
    """The lock alone; `waiting` is called before a wait.

    Args:
        file: its name. Commands that may meet all others but not each other have a lock of their own.
        elsewhere: what can be done in another LORASUM_HOME, for the hint where this one cannot be written.
    """
    folder = paths.run_dir(run)
    lock = FileLock(folder / file, mode=FILE_MODE)
    try:
        make_folder(folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait == 0:
                raise
            waiting()
            lock.acquire(timeout=-1 if wait is None else wait)
    except Timeout:
        raise RunBusyError(
            f"another lorasum process{_holder(folder, file)} is working on run {run!r}",
            "wait for it; or `kill` it by its number, and it cleans up after itself",
        ) from None
    except OSError as error:
        raise LockError(
            f"cannot lock run {run!r}: {error}",
            f"check the disk and the folder's permissions; LORASUM_HOME names another folder{elsewhere}",
        ) from None
    try:
        with suppress(OSError), open_file(folder / f"holder-of-{file}", "w") as note:
            note.write(str(os.getpid()))  # on a full disk nobody learns who holds it
        yield
    finally:
        lock.release()


def _holder(folder: Path, file: str) -> str:
    """The process that holds a lock, in words: ` 4242`; empty if nobody knows."""
    try:
        return f" {int((folder / f'holder-of-{file}').read_text())}"
    except (OSError, ValueError):
        return ""
