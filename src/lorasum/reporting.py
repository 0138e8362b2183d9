"""Reporter: how commands show their progress. `ui/reporter.py` implements it for a terminal."""

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorasum.shared.events import Event


class Reporter(Protocol):
    """Shows on stderr what a command is doing. ui/reporter.py implements it."""

    def step(self, text: str) -> None:
        """Say one finished or starting step in one line."""

    def warn(self, text: str) -> None:
        """Say one thing that is odd but does not stop the command."""

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
        """Move the progress bar `label` to `done` of `total`; the bar goes away when done ≥ total."""

    def event(self, event: "Event") -> None:
        """Show one event of a training job."""


class Silent:
    """A Reporter that shows nothing, for library use and tests."""

    def step(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def progress(self, label: str, done: float, total: float, detail: str = "") -> None: ...
    def event(self, event: "Event") -> None: ...


class Ahead(Silent):
    """A Reporter that shows warnings alone, and adds them to `shown`."""

    def __init__(self, report: Reporter, shown: list[str]) -> None:
        self._report, self._shown = report, shown

    def warn(self, text: str) -> None:
        if text not in self._shown:
            self._shown.append(text)
            self._report.warn(text)


class Unrepeated:
    """A Reporter that leaves out, once, each warning that was `shown` before."""

    def __init__(self, report: Reporter, shown: list[str]) -> None:
        self._report, self._shown = report, shown
        self.step, self.progress, self.event = report.step, report.progress, report.event

    def warn(self, text: str) -> None:
        if text in self._shown:
            self._shown.remove(text)
        else:
            self._report.warn(text)


class Logged(Silent):
    """The Reporter of the library: warnings go to the logger `lorasum`, which shows them on stderr by default.

    Python's `warnings` would show each of them once in a process, and may be set to raise them.
    """

    def warn(self, text: str) -> None:
        logging.getLogger("lorasum").warning(text)
