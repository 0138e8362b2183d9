"""Moments for a signal, and how a process ended after one: single steps (steps.py), and times drawn at random."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from forks import Client, Ended
from world import FULL

TRIES = int(os.environ.get("LORASUM_MOMENTS", "40" if FULL else "1"))
"""Of each verb, at steps and as often after random times."""
SECONDS = float(os.environ.get("LORASUM_MOMENTS_SECONDS", "inf"))
"""After which no other moment of a verb is drawn. One at a step and one after a time are always tried."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that end a command."""
PATIENCE = 150.0
"""Seconds within which a process has ended that was sent a signal, or none in time."""


class Moments:
    """Moments of a command, and how it ended after a signal at each of them.

    Args:
        start: starts the command.
        name: what it is called in messages. The same name draws the same moments.
        signals: those that are sent.
    """

    def __init__(self, start: Callable[..., Client], name: str, signals: Sequence[signal.Signals]) -> None:
        self._start, self._name, self._signals = start, name, signals
        self._random = random.Random(f"{os.environ.get('LORASUM_DRILL_FROM', '0')} {name}")

    def draw(self) -> Iterator[tuple[str, Callable[[], Ended]]]:
        """Run the command once, and yield a description of each moment with what tries it. Half of them are steps."""
        began = time.monotonic()
        counted = self._start(where="steps").wait()
        took = time.monotonic() - began
        assert counted.code == 0, counted.stderr
        for times in self.draw_times(took):
            number, step = self._random.choice(self._signals), self._random.randrange(counted.calls)
            yield f"{self._name}, {number.name} at step {step}", partial(self._at_step, number, step)
            yield times

    def draw_times(self, longest: float) -> Iterator[tuple[str, Callable[[], Ended]]]:
        """Yield descriptions of moments up to `longest` seconds after the start, with what tries them."""
        began = time.monotonic()
        for tries in range(TRIES):
            if tries and time.monotonic() - began > SECONDS:
                return
            number, seconds = self._random.choice(self._signals), self._random.uniform(0, longest)
            yield f"{self._name}, {number.name} after {seconds:.3f} s", partial(self._after, number, seconds)

    def _at_step(self, number: signal.Signals, step: int) -> Ended:
        return _ended(self._start(where="steps", index=step, number=int(number)))

    def _after(self, number: signal.Signals, seconds: float) -> Ended:
        client = self._start()
        pid = client.pid
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return _ended(client)


def check_stopped(ended: Ended, what: str) -> None:
    """It was stopped as it is to be, had done its work before, or had not begun to hear signals."""
    not_begun = ended.code in [-number for number in SIGNALS] and not ended.stderr
    assert ended.interrupted() or not_begun, f"{what}: {ended.code} {ended.stderr}\nat {ended.place}"
    assert "ignored" not in ended.stderr, f"{what}: {ended.stderr}"


def _ended(client: Client) -> Ended:
    """How it ended. If it hangs, the error tells where all of its threads are."""
    deadline = time.monotonic() + PATIENCE
    while not (client.folder / "code").exists():
        if time.monotonic() > deadline:
            os.kill(client.pid, signal.SIGUSR1)
            time.sleep(1)
            raise AssertionError(f"it hangs: {client.kill().stderr}")
        time.sleep(0.01)
    return client.wait()
