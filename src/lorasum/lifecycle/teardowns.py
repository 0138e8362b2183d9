"""Tells commands that start jobs by and by that their run was torn down meanwhile: they must start nothing more.

Such as `train` while it waits for an instance, or `sweep` between two trials: `teardown` finds nothing of them.
"""

from contextlib import suppress
from pathlib import Path

from lorasum.errors import LorasumError
from lorasum.system import paths
from lorasum.system.files import make_folder


class TornDownError(LorasumError):
    """Somebody else has ended what this command works on."""


class TeardownWatch:
    """Notices every teardown of a run that begins after this object was made, on this machine."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._seen = _newest(run)

    def check(self) -> None:
        """Call it with the lock of the run whose job is started next: a teardown takes that lock after it was noted.

        Raises:
            TornDownError: there was one.
        """
        if _newest(self._run) != self._seen:
            raise TornDownError(f"run {self._run!r} was torn down meanwhile", "the same command starts again")


def note_teardown(run: str) -> None:
    """Let everybody notice a teardown of the run. It comes before what is to be removed is looked for."""
    file = _file(run)
    with suppress(OSError):  # nothing can be started either where nothing can be written
        make_folder(file.parent)
        file.touch(0o600)


def _newest(run: str) -> int:
    """When the run was last torn down, in nanoseconds; 0 for never."""
    try:
        return _file(run).stat().st_mtime_ns
    except OSError:
        return 0


def _file(run: str) -> Path:
    return paths.run_dir(run) / "torn-down"
