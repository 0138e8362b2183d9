"""SIGTERM: how a training job is asked to end, by SageMaker or by the local backend.

SageMaker sends it when a job is stopped, when it reaches its time limit, and when spot capacity is taken back; SIGKILL
follows 120 s later.
"""

import _thread
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from launch import STOPPED, on_sigterm
from shared.names import MAX_SECONDS

END_TAKES = 75.0
"""Seconds at most: trackers may take 60 for what they have not sent, and SIGKILL comes after 120."""
_BETWEEN_LOOKS = 0.5


class StopSignal:
    """Takes SIGTERM from now on: it ends the process with STOPPED, at once or at the end of a `deferred` block.

    The process ends by SystemExit, which can come at any step of the main thread. In an object's `__del__` Python drops
    it: so it is raised again while nobody handles it. In the middle of the taking of a library's lock it leaves threads
    that wait for the lock without end, as those that load a model do: so the process also ends after a time.

    Args:
        end_takes: seconds from SystemExit to that end. None for neither: a test's process goes on.
    """

    def __init__(self, end_takes: float | None = None) -> None:
        self.received = False
        self._end_takes = end_takes
        self._ending = False
        self._deferred = False
        on_sigterm(self._on_signal)
        if seconds := float(os.environ.get(MAX_SECONDS) or 0):  # a service's own limit would come before
            signal.signal(signal.SIGALRM, self._on_signal)
            signal.setitimer(signal.ITIMER_REAL, seconds)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block SIGTERM only sets `received`, which the block has to look at every few seconds.

        Raises:
            SystemExit: SIGTERM came, and the block has ended.
        """
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.received:
            self._end()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._ending:  # launch.py sends it once more
            error = sys.exception()
            while error and not isinstance(error, SystemExit):
                error = error.__context__
            if error or self._end_takes is None:
                return
            raise SystemExit(STOPPED)
        self.received = True
        todo = "saving a checkpoint, then ending" if self._deferred else "ending"
        why = "limits.max_hours reached" if number == signal.SIGALRM else "SIGTERM received"
        os.write(2, f"{why}: {todo}\n".encode())  # unbuffered: a print could be in the middle of a line
        if not self._deferred:
            self._end()

    def _end(self) -> NoReturn:
        self._ending = True
        if self._end_takes is not None:  # no threading.Thread: the signal may have come while one takes its locks
            with suppress(RuntimeError):  # the system has no thread left
                _thread.start_new_thread(_end_after, (self._end_takes,))
        raise SystemExit(STOPPED)


def _end_after(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(_BETWEEN_LOOKS)
        _thread.interrupt_main(signal.SIGTERM)
    os.write(2, f"it has not ended in {seconds:g} s, and ends at once\n".encode())
    os._exit(STOPPED)
