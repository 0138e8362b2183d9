"""Runs the tests in several processes that one process forks once it has imported and collected everything.

`pytest --workers 3`: each worker takes the next file whenever it is done with one, and tells the first process what
comes of each test. Workers that import and collect for themselves take 20 seconds of CPU each.
"""

import itertools
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from types import SimpleNamespace
from typing import Any, cast

import pytest

_MOST_AT_ONCE = 200
"""Tests. A file of more is shared too."""
_MOST_LOST = 2
"""Workers. One test that ends its worker is a fault of that test, and a second one perhaps of the machine."""


class Workers:
    """The first process's side. As a plugin it runs the tests in place of pytest's own loop."""

    def __init__(self, count: int) -> None:
        self.count, self.begun, self.lost = count, 0, 0
        self.items: dict[Connection, list[pytest.Item]] = {}  # what each worker has left of its file
        self.pids: dict[Connection, int] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        torch = sys.modules.get("torch")
        if session.config.option.collectonly or session.testsfailed or (torch and torch.cuda.is_available()):
            return None  # pytest lists or refuses as ever; and CUDA, which this has begun, does not live on in a fork
        files = _files(session.items)
        try:
            for _ in range(self.count):
                self._begin(session, next(files, []))
            while self.items:
                for pipe in cast(list[Connection], wait(list(self.items))):
                    self._hear(session, pipe, files)
                    if failed := session.shouldfail or session.shouldstop:
                        raise session.Failed(failed)
        finally:
            for pipe in self.pids:  # a worker ends with its test, because nobody listens any more
                pipe.close()
            for pid in self.pids.values():
                os.waitpid(pid, 0)
        return True

    def _begin(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        ours, theirs = Pipe()
        self.begun += 1
        folder = session.config._tmp_path_factory.mktemp(f"worker{self.begun}", numbered=False)  # type: ignore[attr-defined]
        if (pid := os.fork()) == 0:
            for pipe in (ours, *self.pids):
                pipe.close()
            session.config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
            _Worker(session, theirs).work()
        theirs.close()
        self.pids[ours] = pid
        self._give(ours, items)

    def _give(self, pipe: Connection, items: list[pytest.Item]) -> None:
        """A file to a worker; no items are the end."""
        pipe.send([item.nodeid for item in items])
        self.items[pipe] = items

    def _hear(self, session: pytest.Session, pipe: Connection, files: Iterator[list[pytest.Item]]) -> None:
        hook = session.config.hook
        kind, what = "ended", None
        with suppress(EOFError, ConnectionError):
            kind, what = pipe.recv()
        if kind == "ended":
            self._bury(session, pipe)
        elif kind == "report":
            report = hook.pytest_report_from_serializable(config=session.config, data=what)
            hook.pytest_runtest_logreport(report=report)
        elif kind == "warning":
            hook.pytest_warning_recorded.call_historic(kwargs=what)
        elif kind == "fault":
            raise RuntimeError(f"a worker of the tests failed: {what}")
        else:
            self.items[pipe].pop(0)
            if not self.items[pipe]:
                self._give(pipe, next(files, []))

    def _bury(self, session: pytest.Session, pipe: Connection) -> None:
        """A worker that ended: because it was to, or with the test that it was at, which is then a failure."""
        items = self.items.pop(pipe)
        _, status = os.waitpid(self.pids.pop(pipe), 0)
        pipe.close()
        if not items:
            return
        said = f"the worker ended with this test (status {os.waitstatus_to_exitcode(status)})"
        report = pytest.TestReport(items[0].nodeid, items[0].location, {}, "failed", said, "call")
        session.config.hook.pytest_runtest_logreport(report=report)
        self.lost += 1
        if self.lost == _MOST_LOST:
            session.shouldfail = f"{_MOST_LOST} workers ended with their test"
        else:
            self._begin(session, items[1:])


def _files(items: list[pytest.Item]) -> Iterator[list[pytest.Item]]:
    for _, group in itertools.groupby(items, key=lambda item: item.path):
        file = list(group)
        yield from (file[at : at + _MOST_AT_ONCE] for at in range(0, len(file), _MOST_AT_ONCE))


class _Worker:
    """A worker's side: a plugin that passes on what pytest would show."""

    def __init__(self, session: pytest.Session, pipe: Connection) -> None:
        self.session, self.pipe = session, pipe

    def work(self) -> None:
        with suppress(BaseException):  # the first process has ended, or been interrupted, and so is this one
            self._become_one()
            try:
                self._run()
            except Exception:
                self.pipe.send(("fault", traceback.format_exc()))
        os._exit(0)

    def _become_one(self) -> None:
        """Show nothing, and keep what is printed apart from what other workers print."""
        plugins = self.session.config.pluginmanager
        writer = self.session.config.get_terminal_writer()
        plugins.unregister(name="terminalreporter")
        plugins.register(SimpleNamespace(_tw=writer), "terminalreporter")  # with which a timeout shows where it was
        plugins.register(self)
        capture: Any = plugins.getplugin("capturemanager")
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()

    def _run(self) -> None:
        items = {item.nodeid: item for item in self.session.items}
        rest: Any = self.session  # in place of an item that follows, of any file: what the session has stays
        while file := self.pipe.recv():
            for now, then in itertools.zip_longest(file, file[1:]):
                item = items[now]
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=items.get(then, rest))
                self.pipe.send(("done", None))
        self.session._setupstate.teardown_exact(None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        config = self.session.config
        self.pipe.send(("report", config.hook.pytest_report_to_serializable(config=config, report=report)))

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, nodeid: str) -> None:
        text = UserWarning(f"{warning_message.category.__name__}: {warning_message.message}")  # others may not be sent
        shown = warnings.WarningMessage(text, UserWarning, warning_message.filename, warning_message.lineno)
        self.pipe.send(("warning", {"warning_message": shown, "when": "runtest", "nodeid": nodeid, "location": None}))
