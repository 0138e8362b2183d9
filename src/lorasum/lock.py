"""One process at a time changes a run. Functions that change it take a `HeldRun`, which only `hold` makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock, Timeout

from lorasum import paths
from lorasum.backends.base import Backend
from lorasum.errors import LorasumError
from lorasum.files import FILE_MODE, make_folder
from lorasum.ledger import Ledger
from lorasum.reporting import Reporter


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
    """Another process is changing the run."""


@contextmanager
def hold(
    name: str, backend: Backend, ledger: Ledger, reporter: Reporter, wait: float | None = None
) -> Iterator[HeldRun]:
    """Hold a run's lock. The system releases it when the process dies.

    Args:
        wait: seconds to wait for another process. None waits for as long as it takes, and says so.

    Raises:
        RunBusyError: another process still holds it.
        LockError: its file cannot be written.
    """
    with run_lock(name, wait, lambda: reporter.step(f"waiting for another lorasum process that works on run {name!r}")):
        yield HeldRun(name, backend, ledger, reporter)


@contextmanager
def run_lock(run: str, wait: float | None, waiting: Callable[[], None]) -> Iterator[None]:
    """The lock alone; `waiting` is called before a wait without limit."""
    folder = paths.run_dir(run)
    lock = FileLock(folder / "lock", mode=FILE_MODE)
    try:
        make_folder(folder)
        try:
            lock.acquire(timeout=0 if wait is None else wait)
        except Timeout:
            if wait is not None:
                raise
            waiting()
            lock.acquire()
    except Timeout:
        raise RunBusyError(
            f"another lorasum process is working on run {run!r}", "wait for it, or give this run another `name`"
        ) from None
    except OSError as error:
        raise LockError(
            f"cannot lock run {run!r}: {error}",
            "check the disk and the folder's permissions; LORASUM_HOME names another folder",
        ) from None
    try:
        yield
    finally:
        lock.release()
