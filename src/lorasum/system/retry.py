"""Goes on asking a service that does not answer for a while.

A command that follows a job for hours meets a network that fails, a laptop that sleeps, and an account that is
throttled. What runs at the service goes on meanwhile. So the command says so once, and asks again.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from lorasum.errors import OutageError, UnseenError
from lorasum.reporting import Reporter

LONGEST: Final = 3600.0
"""Seconds without an answer after which a command gives up. The time in which a laptop sleeps does not count."""

Result = TypeVar("Result")


def until_answered(ask: Callable[[], Result], pause: float, report: Reporter, for_ever: bool = False) -> Result:
    """What `ask` returns. While it raises an OutageError, it is called again every `pause` seconds, for an hour.

    Args:
        ask: may be called again, whatever it had done before the error.
        for_ever: do not give up after the hour, because somebody watches who can.
    """
    began = 0.0
    while True:
        try:
            result = ask()
        except UnseenError:  # it answers, and was asked several times
            raise
        except OutageError as error:
            if not began:
                began = time.monotonic()
                how_long = "until it answers or Ctrl-C" if for_ever else "for an hour"
                report.warn(f"{error.message}; what runs there continues, and it is asked again {how_long}")
            if not for_ever and time.monotonic() - began > LONGEST:
                raise
        else:
            if began:
                report.step("it answers again")
            return result
        time.sleep(pause)
