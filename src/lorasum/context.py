"""RunContext: the config, backend, ledger and reporter that every verb works with, in one object."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

from lorasum.backends.base import Backend
from lorasum.config.schema import Config
from lorasum.ledger.ledger import Ledger
from lorasum.lock import HeldRun, hold
from lorasum.reporting import Reporter


@dataclass(frozen=True)
class RunContext:
    """One run: its config, its backend, its ledger, and the reporter that shows its progress.

    Attributes:
        connect: makes the backend. It is called once, by the first verb that needs the backend.
    """

    config: Config
    connect: Callable[[], Backend]
    ledger: Ledger
    reporter: Reporter

    @property
    def name(self) -> str:
        """The run's name, from the config."""
        return self.config.name

    @cached_property
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

    def trial(self, name: str) -> "RunContext":
        """A trial of the run's sweep, as a run of its own. Of its config, only the name is known."""
        config = self.config.model_copy(update={"name": name, "sweep": None})
        return replace(self, config=config, connect=lambda: self.backend)
