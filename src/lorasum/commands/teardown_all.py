"""teardown --all: what `teardown` does, for every run of this machine. It needs no config."""

from collections.abc import Callable

from lorasum import paths
from lorasum.backends.base import Backend, is_here
from lorasum.ledger import Ledger
from lorasum.resources import Dataset
from lorasum.results import TeardownAllResult, TeardownResult


def plan_all(ledger: Ledger, backend: Backend) -> list[str]:
    """What `teardown --all` would do, one line each; empty if there is nothing to do.

    Args:
        backend: of this machine.
    """
    return [f"{running.removal} of run {run}" for run in _runs_here(ledger, backend) for running in backend.live(run)]


def _runs_here(ledger: Ledger, backend: Backend) -> list[str]:
    """The runs of which something runs on this machine, on record or not."""
    return sorted(run for run in {*paths.runs(), *(row.run for row in ledger.resources())} if backend.live(run))


def teardown_all(ledger: Ledger, backend: Backend, teardown: Callable[[str], TeardownResult]) -> TeardownAllResult:
    """Tear down every run of this machine.

    Args:
        teardown: does so with one run, by its name.

    Raises:
        LorasumError: a run cannot be torn down. Those before it are.
    """
    torn = tuple(teardown(run) for run in _runs_here(ledger, backend))
    elsewhere = [
        row for row in ledger.resources() if row.is_open and not isinstance(row, Dataset) and not is_here(row, backend)
    ]
    return TeardownAllResult(torn, tuple(f"{row} of run {row.run}, on {row.backend}" for row in elsewhere))
