"""Ctrl-C, SIGTERM and a closed terminal all stop a command in the same way: an endpoint that it starts is removed.

The first signal raises KeyboardInterrupt, and the command cleans up after itself. A second one ends the process at
once. A closed terminal sends SIGHUP, often twice, and takes away what the process writes to: neither may end the
cleaning up.

KeyboardInterrupt can be lost: Python drops what an object's `__del__` raises, and some libraries catch everything. The
command, which has said that it stops, would go on. So it is raised again while the main thread does not handle it.

After Ctrl-C the process dies of that signal, as Python, git and make do. A shell ends its loop or script only then: it
takes a program that exits with 130 for one that uses Ctrl-C itself, and starts the next round.
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

from lorasum.system.signals import SIGNALS

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130
"""Exit status of a command that was interrupted. A shell calls it 130 too where Ctrl-C has ended the process."""

_SAME = 0.5  # seconds within which a second signal counts as the first one, passed on by a wrapper such as `timeout`
_LOOK = signal.SIGURG  # which nothing sends, and the system ignores
_BETWEEN_LOOKS = 0.5  # seconds
_SHOW_CURSOR = "\x1b[?25h"


@dataclass(slots=True)
class Interrupts:
    """Handles the signals that tell this process to stop.

    Attributes:
        removes: the command that removes what is left running after an abrupt end; empty if nothing can be left.
    """

    removes: str = ""
    _first: float = field(default=0.0, init=False)  # monotonic seconds
    _number: int = field(default=signal.SIGINT, init=False)  # the first; before `install`, Python hears Ctrl-C alone
    _terminals: list[int] = field(default_factory=list, init=False)

    def install(self) -> None:
        """Handle the signals from now on. A signal that is ignored stays ignored: nohup and shells rely on that."""
        self._terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        signal.signal(_LOOK, self._on_look)
        sys.unraisablehook = _say_what_is_dropped

    @property
    def heard(self) -> bool:
        """Whether a signal has come."""
        return bool(self._first)

    def uninstall(self) -> None:
        """Ignore the signals from now on. While Python ends, it would restore the default, which kills the process."""
        for number in (*SIGNALS, _LOOK):
            signal.signal(number, signal.SIG_IGN)

    def end(self, code: int) -> NoReturn:
        """End this process at once, with nothing that Python would still do."""
        if self._number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        os._exit(code)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if not self._first:
            self._first, self._number = time.monotonic(), number
            self._say(f"stopping, because of {_name(number)}; a second time ends at once")
            with suppress(RuntimeError):  # the system has no thread left
                # No threading.Thread: one may just be taking its locks.
                _thread.start_new_thread(_look_again, (_thread.get_ident(),))
            raise KeyboardInterrupt
        if number != signal.SIGHUP and time.monotonic() - self._first > _SAME:
            left = "; what it started may still run: the same command goes on with it"
            left = f"{left}, and `{self.removes}` removes it" if self.removes else ""
            self._say(f"ended at once{left}")
            self.end(INTERRUPTED)

    def _on_look(self, _number: int, _frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt once more if nobody handles it. Some step of a library's has dropped it."""
        error = sys.exception()
        while error and not isinstance(error, KeyboardInterrupt):
            error = error.__context__
        if not error:
            raise KeyboardInterrupt

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


def _look_again(main: int) -> None:
    while True:
        time.sleep(_BETWEEN_LOOKS)
        signal.pthread_kill(main, _LOOK)  # a signal of the system's, which ends the wait for a lock too


def _say_what_is_dropped(dropped: "UnraisableHookArgs") -> None:
    """As Python does, but for KeyboardInterrupt, which is raised again."""
    if dropped.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(dropped)


def _name(number: int) -> str:
    return {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "a closed terminal"}[
        signal.Signals(number)
    ]
