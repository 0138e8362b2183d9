"""What Ctrl-C leaves taken.

KeyboardInterrupt can come between any two steps: also between the one that takes a lock and the block that gives it
back. The traceback then keeps the functions that hold it, and so the lock, and cleaning up would wait for itself:

    def hold():  lock.acquire()      <- here, or between hold's `yield` and the caller's `with` block
                 try: yield
                 finally: lock.release()
"""

import sys
import traceback


def let_go() -> None:
    """Give back what the error that is being handled has left taken: run locks, transactions of the ledger, files.

    Call it first wherever something is cleaned up after an error. It forgets the local variables of the functions
    that the error has ended. Generators end with that, and so do their `with` and `finally` blocks.
    """
    if error := sys.exception():
        traceback.clear_frames(error.__traceback__)
