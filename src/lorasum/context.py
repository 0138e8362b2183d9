"""Run and RunContext: what every verb works with, in one object."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

from lorasum.backends.base import Backend
from lorasum.config.schema import Config
from lorasum.ledger.ledger import Ledger
from lorasum.lock import HeldRun, hold
from lorasum.reporting import Ahead, Reporter, Unrepeated


class Run:
    """One run, of whose config only the name is known: its backend, its ledger, and who is shown its progress.

    Attributes:
        connect: makes the backend when it is first called, by the first verb that needs it.
    """

    def __init__(self, name: str, connect: Callable[[], Backend], ledger: Ledger, reporter: Reporter) -> None:
        self.name, self.ledger, self.reporter = name, ledger, reporter
        self.connect: Callable[[], Backend] = cache(connect)

    @property
    def backend(self) -> Backend:
        """Where the run's jobs and endpoints live."""
        return self.connect()

    def hold(self, wait: float | None = None) -> AbstractContextManager[HeldRun]:
        """Hold the run's lock, which every change of its jobs and endpoints needs.

        Args:
            wait: seconds to wait for another process. None waits without limit, and tells the user so.

        Raises:
            RunBusyError: another process still holds it.
        """
        return hold(self.name, self.backend, self.ledger, self.reporter, wait)

    @contextmanager
    def looking_ahead(self) -> Iterator[None]:
        """For a look at what a verb would do, before a question: only warnings are shown, and later not once more."""
        report, shown = self.reporter, list[str]()
        self.reporter = Ahead(report, shown)
        try:
            yield
        finally:
            self.reporter = Unrepeated(report, shown)


class RunContext(Run):
    """A run with its config."""

    def __init__(self, config: Config, connect: Callable[[], Backend], ledger: Ledger, reporter: Reporter) -> None:
        super().__init__(config.name, connect, ledger, reporter)
        self.config = config
