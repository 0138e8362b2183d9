"""Folders that are there whole or not at all, whatever happens while they are made."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lorasum.errors import LorasumError


@contextmanager
def maker_lock(target: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Let one process at a time make folders beside `target`; `waiting` is called if another one is at it.

    The lock file stands beside the parent, not in it: a failed attempt leaves no folder behind. The system releases
    the lock of a process that dies.
    """
    with _writing(target):
        target.parent.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.parent.with_name(f"{target.parent.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well, and is removed when it does not.

    Hold `maker_lock(target)`: what an earlier, killed attempt left is removed first, as is a broken `target`.

    Raises:
        LorasumError: an OSError while making it, such as a full disk; nothing is left of it.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        with _writing(target):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            _to_disk(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # other folders stand there: it stays
            target.parent.rmdir()
        raise


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LorasumError(
            f"cannot write {target}: {os.strerror(error.errno) if error.errno else error}",
            "free some disk space or check the folder's permissions; LORASUM_HOME moves it to another disk",
        ) from error


def _to_disk(folder: Path) -> None:
    """Have the contents on the disk before the rename is, so that a power cut cannot leave empty files behind it."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
