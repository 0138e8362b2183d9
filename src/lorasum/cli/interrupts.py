"""Ctrl-C, SIGTERM and a closed terminal all stop a command in the same way, so that nothing billed is left behind.

The first signal raises KeyboardInterrupt, and the command cleans up after itself. A second one ends the process at
once. A closed terminal sends SIGHUP, often twice, and takes away what the process writes to: neither may end the
cleaning up.
"""

import _thread
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130
"""Exit status of a command that was interrupted, whatever the signal."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME = 0.5  # seconds within which a second signal counts as the first one, passed on by a wrapper such as `timeout`
_SOON = 0.001  # seconds
_SHOW_CURSOR = "\x1b[?25h"


@dataclass(slots=True)
class Interrupts:
    """Handles the signals that tell this process to stop.

    Attributes:
        removes: the command that removes what is left running after an abrupt end; empty if nothing can be left.
    """

    removes: str = ""
    _first: float = field(default=0.0, init=False)  # monotonic seconds
    _dropped: bool = field(default=False, init=False)
    _terminals: list[int] = field(default_factory=list, init=False)

    def install(self) -> None:
        """Handle the signals from now on. A signal that is ignored stays ignored: nohup and shells rely on that."""
        self._terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        sys.unraisablehook = self._on_dropped

    @property
    def heard(self) -> bool:
        """Whether a signal has come."""
        return bool(self._first)

    def uninstall(self) -> None:
        """Ignore the signals from now on. While Python ends, it would restore the default, which kills the process."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if not self._first:
            self._first = time.monotonic()
            self._say(f"stopping, because of {_name(number)}; a second time ends at once")
            raise KeyboardInterrupt
        if self._dropped:
            self._dropped = False
            raise KeyboardInterrupt
        if number != signal.SIGHUP and time.monotonic() - self._first > _SAME:
            self._end()

    def _on_dropped(self, dropped: "UnraisableHookArgs") -> None:
        """Raise KeyboardInterrupt once more if Python has dropped it, as it does where an object's `__del__` raises.

        The command had said that it stops, and would go on.
        """
        if dropped.exc_type is KeyboardInterrupt:
            _thread.start_new_thread(self._raise_again, ())  # later: what is raised now is dropped too
        else:
            sys.__unraisablehook__(dropped)

    def _raise_again(self) -> None:
        time.sleep(_SOON)
        self._dropped = True
        _thread.interrupt_main(next(one for one in _SIGNALS if signal.getsignal(one) == self._on_signal))

    def _end(self) -> NoReturn:
        left = f"; what it started may still run, and `{self.removes}` removes it" if self.removes else ""
        self._say(f"ended at once{left}")
        os._exit(INTERRUPTED)

    def _say(self, text: str) -> None:
        """Write to stderr without Python's streams: the signal may have interrupted one of their writes."""
        on_terminal = sys.stderr.fileno() in self._terminals
        line = f"\n{_SHOW_CURSOR}{text}\n" if on_terminal else f"{text}\n"
        with suppress(OSError):  # nobody reads it any more
            os.write(sys.stderr.fileno(), line.encode())

    def _leave_terminal(self) -> None:
        """Send the output to the null device, because writing to a closed terminal fails."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for terminal in self._terminals:
            os.dup2(nowhere, terminal)
        os.close(nowhere)


interrupts = Interrupts()
"""Those of this process."""


def _name(number: int) -> str:
    return {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "a closed terminal"}[
        signal.Signals(number)
    ]
