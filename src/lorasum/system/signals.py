"""Signals that stop a command: which they are, what they leave locked, and blocks that they may not interrupt.

KeyboardInterrupt can come between any two steps: also between the one that takes a lock and the block that gives it
back. The traceback then keeps the functions that hold it, and so the lock, and cleaning up would wait for itself:

    def hold():  lock.acquire()      <- here, or between hold's `yield` and the caller's `with` block
                 try: yield
                 finally: lock.release()
"""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that tell a command to stop."""


def release_frames() -> None:
    """Release what the error that is being handled still holds: run locks, transactions of the ledger, files.

    Call it first wherever something is cleaned up after an error. It forgets the local variables of the functions
    that the error has ended. Generators end with that, and so do their `with` and `finally` blocks.
    """
    if error := sys.exception():
        traceback.clear_frames(error.__traceback__)


def clean_up(action: Callable[[], object]) -> None:
    """Clean up after an error. Ctrl-C in the middle begins it once more, and is raised afterwards.

    Args:
        action: may be called twice, whatever the first call has done.
    """
    try:
        release_frames()
        action()
    except KeyboardInterrupt:
        release_frames()
        action()
        raise


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let signals that come in the block count at its end. For seconds at most: who presses Ctrl-C waits.

    Such as an import of what cleaning up needs: numpy cannot be imported again where its import was broken off.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal comes there
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
