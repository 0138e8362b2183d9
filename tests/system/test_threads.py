"""Calls in several threads: their order, their errors, and a signal at any moment."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lorasum.system.threads import as_they_end, in_order

INTERRUPTED = """
import random, signal, sys, threading
from lorasum.system import threads

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
moments, met = random.Random(5), 0
for _ in range(150):
    called = {"as_they_end": threads.as_they_end, "in_order": threads.in_order}[sys.argv[1]]
    try:
        signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0001, 0.01))
        try:
            for _ in called(lambda number: number, range(50_000), 2):
                pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        met += 1
print(met, threading.active_count())
"""


@pytest.mark.parametrize("function", ["as_they_end", "in_order"])
def test_a_signal_at_any_moment_ends_the_calls(function: str) -> None:
    """With concurrent.futures, one of some twenty signals left a thread and its caller waiting for each other."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, function], capture_output=True, text=True, timeout=200, check=True
    )
    met, threads_left = map(int, ended.stdout.split())
    assert met > 100
    assert threads_left < 5, "those that were starting"


def test_results_come_as_calls_end_and_in_order_if_asked_for() -> None:
    others_are_there, found = threading.Event(), []

    def first_is_last(number: int) -> int:
        assert number or others_are_there.wait(100)
        return -number

    for result in as_they_end(first_is_last, range(5), 2):
        found.append(result)
        if len(found) == 4:
            others_are_there.set()
    assert found == [-1, -2, -3, -4, 0]
    second_has_begun = threading.Event()

    def second_helps_first(number: int) -> int:
        if number == 1:
            second_has_begun.set()
        assert number or second_has_begun.wait(100)
        return -number

    assert list(in_order(second_helps_first, range(5), 2)) == [(0, 0), (1, -1), (2, -2), (3, -3), (4, -4)]
    assert [*as_they_end(abs, [], 2), *in_order(abs, [], 2)] == []


def test_after_an_error_no_call_begins_and_those_under_way_still_count() -> None:
    begun: list[int] = []
    waits: list[bool] = []
    second, failing, known = threading.Event(), threading.Event(), threading.Event()

    def call(number: int) -> int:
        begun.append(number)
        if number == 0:
            second.wait(100)
            failing.set()
            raise ValueError("the first")
        second.set()
        assert known.wait(100)
        return number

    def idle() -> None:
        """Half a second has passed. The second time after the error, the main thread knows of it for certain."""
        waits.append(failing.is_set())
        if sum(waits) == 2:
            known.set()

    results = as_they_end(call, range(100), 2, idle)
    found: list[int] = []
    with pytest.raises(ValueError, match="the first"):
        found.extend(results)
    assert found == [1]
    assert sorted(begun) == [0, 1], "either thread may be the first"


def test_an_error_comes_in_its_place() -> None:
    results = in_order(lambda number: 6 // number, [2, 1, 0, 3], 4)
    assert [next(results), next(results)] == [(2, 3), (1, 6)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_items_are_not_read_far_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    for number, _ in in_order(abs, items(), 3):
        assert len(read) <= number + 4


@pytest.mark.parametrize("called", [as_they_end, in_order])
def test_who_stops_asking_waits_for_the_calls_under_way_only(called: Callable[..., Iterator[object]]) -> None:
    """All of them would take minutes, in which the main thread has had its turn even on a busy machine."""
    ended: list[int] = []

    def call(number: int) -> None:
        time.sleep(0.05)
        ended.append(number)

    results = called(call, range(5_000), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert 2 <= len(ended) < 4_000
    assert threading.active_count() == 1 or not any("work" in thread.name for thread in threading.enumerate())


def test_something_can_be_done_while_no_call_ends() -> None:
    told, twice = [], threading.Event()

    def idle() -> None:
        told.append("waits")
        if len(told) == 2:
            twice.set()

    assert list(as_they_end(lambda seconds: twice.wait(seconds), [100], 1, idle)) == [True]
