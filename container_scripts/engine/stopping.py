"""SIGTERM: how a training job is asked to end, by SageMaker or by the local backend.

SageMaker sends it when a job is stopped, when it reaches its time limit, and when spot capacity is taken back; SIGKILL
follows 120 s later.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from contract import MAX_SECONDS
from launch import STOPPED


class StopSignal:
    """Takes SIGTERM from now on: it ends the process with STOPPED, at once or at the end of a `deferred` block."""

    def __init__(self) -> None:
        self.received = False
        self._deferred = False
        signal.signal(signal.SIGTERM, self._on_signal)
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
            raise SystemExit(STOPPED)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.received = True
        todo = "saving a checkpoint, then ending" if self._deferred else "ending"
        why = "limits.max_hours reached" if number == signal.SIGALRM else "SIGTERM received"
        os.write(2, f"{why}: {todo}\n".encode())  # unbuffered: a print could be in the middle of a line
        if not self._deferred:
            raise SystemExit(STOPPED)
