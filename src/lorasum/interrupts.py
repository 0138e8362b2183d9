"""Ctrl-C, SIGTERM and a closed terminal all stop a command in the same way, so that nothing billed is left behind.

The first signal raises KeyboardInterrupt, and the command cleans up after itself. A second one ends the process at
once. A closed terminal sends SIGHUP, often twice, and takes away what the process writes to: neither may end the
cleaning up.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""Exit status of a command that was interrupted, whatever the signal."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME = 0.5  # seconds in which a second signal is the first one again: sent to the group, passed on by a wrapper
_SHOW_CURSOR = "\x1b[?25h"


@dataclass(slots=True)
class Interrupts:
    """What this process does when it is told to stop.

    Attributes:
        removes: the command that removes what an ended process has left running; empty where nothing can be left.
    """

    removes: str = ""
    _first: float = field(default=0.0, init=False)  # monotonic seconds
    _terminals: list[int] = field(default_factory=list, init=False)

    def install(self) -> None:
        """Take the signals over. One that is ignored stays so: nohup does that, and a shell for its background jobs."""
        self._terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def uninstall(self) -> None:
        """Ignore the signals from now on: Python gives them back to the system while it ends."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if not self._first:
            self._first = time.monotonic()
            self._say(f"stopping, because of {_name(number)}; a second time ends at once")
            raise KeyboardInterrupt
        if number != signal.SIGHUP and time.monotonic() - self._first > _SAME:
            self._end()

    def _end(self) -> NoReturn:
        left = f"; what it started may still run, and `{self.removes}` removes it" if self.removes else ""
        self._say(f"ended at once{left}")
        os._exit(INTERRUPTED)

    def _say(self, text: str) -> None:
        """Write past Python's streams: the signal may have come while one of them was being written to."""
        on_terminal = sys.stderr.fileno() in self._terminals
        line = f"\n{_SHOW_CURSOR}{text}\n" if on_terminal else f"{text}\n"
        with suppress(OSError):  # nobody reads it any more
            os.write(sys.stderr.fileno(), line.encode())

    def _leave_terminal(self) -> None:
        """Have what is written to a terminal that is gone go nowhere, rather than fail."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for terminal in self._terminals:
            os.dup2(nowhere, terminal)
        os.close(nowhere)


def _name(number: int) -> str:
    return {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "a closed terminal"}[
        signal.Signals(number)
    ]
