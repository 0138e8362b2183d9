"""What every verb works with, in one object."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorasum.backends.base import Backend
    from lorasum.config.schema import Config
    from lorasum.ledger import Ledger
    from lorasum.reporting import Reporter


@dataclass(frozen=True)
class RunContext:
    """One run: its config, where it runs, where it is recorded, and who is told of its progress.

    Attributes:
        connect: makes the backend. It is called by the first verb that needs one, and once.
    """

    config: "Config"
    connect: "Callable[[], Backend]"
    ledger: "Ledger"
    reporter: "Reporter"

    @property
    def name(self) -> str:
        """The run's name, as the config has it."""
        return self.config.name

    @cached_property
    def backend(self) -> "Backend":
        """Where the run's jobs and endpoints live."""
        return self.connect()
