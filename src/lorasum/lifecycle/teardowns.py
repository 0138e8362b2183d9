"""Tells commands that start jobs by and by that their run was torn down meanwhile: they must start nothing more.

Such as `train` while it waits for an instance, or `sweep` between two trials: `teardown` finds nothing of them. What
was being started meanwhile, under the run's lock, is ended by who started it: a job is stopped, an endpoint deleted.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from lorasum.errors import LorasumError
from lorasum.system import paths
from lorasum.system.files import make_folder

MARK: Final = "torn-down"
"""The file in a run's folder whose time is that of the run's last teardown. It does not make a folder a run."""


class TornDownError(LorasumError):
    """Somebody else has ended what this command works on."""


class TeardownWatch:
    """Notices every teardown of a run that begins after this object was made, on this machine."""

    def __init__(self, run: str) -> None:
        self._run = run
        with suppress(OSError):  # whoever tears all runs down finds them by their folders
            make_folder(paths.run_dir(run))
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
        before = file.parent.stat()
        file.touch(0o600)
        os.utime(file.parent, ns=(before.st_atime_ns, before.st_mtime_ns))  # `clean` goes by it


def _newest(run: str) -> int:
    """When the run was last torn down, in nanoseconds; 0 for never."""
    try:
        return _file(run).stat().st_mtime_ns
    except OSError:
        return 0


def _file(run: str) -> Path:
    return paths.run_dir(run) / MARK
