"""The three standard streams. A caller may have closed some of them, as cron jobs and `<&-` do."""

import os
import sys


def open_missing() -> None:
    """Open each closed stream on the null device.

    Without this the next file that is opened, such as the ledger, would take the number of stdout or stderr, and what
    libraries print would be written into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
