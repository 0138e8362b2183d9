"""Calls a function for many items in a few threads, and survives a signal at any moment.

Python runs signal handlers in the main thread, between any two of its steps, and Ctrl-C raises KeyboardInterrupt there.
In `concurrent.futures` the main thread shares a lock with the thread of each call. An exception while `wait` takes a
thousand of them leaves some taken: then both threads wait for each other without end. Here they share queues only,
which a signal finds either before or after a step (queue.SimpleQueue).

    main thread      items -> todo                        ended -> results
    other threads             todo -> function -> ended
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar, cast

_IDLE = 0.5  # seconds

Item = TypeVar("Item")
Result = TypeVar("Result")


def as_they_end(
    function: Callable[[Item], Result],
    items: Collection[Item],
    threads: int,
    idle: Callable[[], None] = lambda: None,
    abandon: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """The results of all items, in the order in which the calls end.

    After an error no other call begins. The results of those under way still come, and then the first error is raised.
    An iterator that is closed, or that a signal interrupts, waits for the calls under way too.

    Args:
        idle: called every half second in which no call ends.
        abandon: called before that wait. It can have the calls under way end sooner.
    """
    ended: SimpleQueue[_Outcome[Result]] = SimpleQueue()
    error: BaseException | None = None
    with _working(function, threads) as todo:
        try:
            for item in items:
                todo.put((item, ended))
            left = len(items)
            while left:
                try:
                    outcome = ended.get(timeout=_IDLE)
                except Empty:
                    idle()
                    continue
                left -= 1
                if outcome.error is None:
                    yield outcome.get()
                else:
                    error = error or outcome.error
                    left -= _emptied(todo)
        except BaseException:
            abandon()
            raise
    if error:
        raise error


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, in the order of the items, of which no more than `threads` are read ahead.

    An error is raised where its result would come.
    """
    waiting: deque[tuple[Item, SimpleQueue[_Outcome[Result]]]] = deque()
    with _working(function, threads) as todo:
        for item in items:
            ended: SimpleQueue[_Outcome[Result]] = SimpleQueue()
            todo.put((item, ended))
            waiting.append((item, ended))
            if len(waiting) > threads:
                first, its = waiting.popleft()
                yield first, its.get().get()
        for first, its in waiting:
            yield first, its.get().get()


def without_waiting(function: Callable[[], Result]) -> Result:
    """What the function returns. It is called in a thread, and a signal does not wait for it.

    For a library's call that itself waits, for minutes, for threads of its own. It may go on until the process ends,
    so it must be one whose work nobody sees: the upload of files that are not committed yet.
    """
    ended: SimpleQueue[_Outcome[Result]] = SimpleQueue()

    def work() -> None:
        try:
            ended.put(_Outcome(function()))
        except BaseException as error:
            ended.put(_Outcome(error=error))

    # No daemon: Python ends those in the middle of a library's native code. See cli/entry.py for how a command ends.
    _start(Thread(target=work))
    return ended.get().get()


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[Result]):
    """What came of a call."""

    result: Result | None = None
    error: BaseException | None = None

    def get(self) -> Result:
        if self.error:
            raise self.error
        return cast(Result, self.result)


_Todo = SimpleQueue[tuple[Item, SimpleQueue[_Outcome[Result]]] | None]


@contextmanager
def _working(function: Callable[[Item], Result], threads: int) -> Iterator["_Todo[Item, Result]"]:
    """Threads that call `function` for what is put into the queue, until the block ends."""
    todo: _Todo[Item, Result] = SimpleQueue()

    def work() -> None:
        while task := todo.get():
            item, ended = task
            try:
                ended.put(_Outcome(function(item)))
            except BaseException as error:  # also a panic of a tokenizer's Rust code
                ended.put(_Outcome(error=error))
                return  # nobody wants what comes after it

    started: list[Thread] = []
    try:
        for _ in range(threads):
            # A signal can also come while a thread starts. That one is not waited for, and ends with the process.
            thread = Thread(target=work, daemon=True)
            _start(thread)
            started.append(thread)
        yield todo
    finally:
        _emptied(todo)
        for _ in range(threads):
            todo.put(None)
        for thread in started:
            thread.join()


def _start(thread: Thread) -> None:
    """Start it. Where a signal interrupts Python's own wait for the start, it may find a lock released that it is about
    to release, and hide the interrupt behind that."""
    try:
        thread.start()
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _emptied(todo: "_Todo[Item, Result]") -> int:
    """Take all out of the queue. Returns how many there were."""
    count = 0
    while True:
        try:
            todo.get_nowait()
        except Empty:
            return count
        count += 1
