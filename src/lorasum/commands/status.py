"""Status: what the ledger knows, with whatever should be running looked at now."""

from collections.abc import Mapping
from dataclasses import replace

from lorasum.backends.base import Backend, is_here
from lorasum.commands.deploy import settle_endpoint
from lorasum.commands.train import settle_job
from lorasum.ledger import Ledger, Resource, RunBusyError, cost, run_lock
from lorasum.results import StatusResult


def status(backends: Mapping[str, Backend], ledger: Ledger, run: str | None = None) -> StatusResult:
    """The ledger's resources and what they have cost, of all runs or of one, oldest change first.

    Args:
        backends: by name; resources of others are shown as recorded.

    Raises:
        BackendError: a backend could not be asked.
    """
    open_rows = [row for row in ledger.resources(run) if _can_be_asked(row, backends)]
    for name in sorted({row.run for row in open_rows}):
        try:
            with run_lock(name, wait=0):
                for row in ledger.resources(name):
                    if _can_be_asked(row, backends):
                        settle(backends[row.backend], ledger, row)
        except RunBusyError:
            continue  # the process that is changing the run writes its record
    return StatusResult(tuple(replace(row, usd=cost(row)) for row in ledger.resources(run)))


def _can_be_asked(row: Resource, backends: Mapping[str, Backend]) -> bool:
    return row.is_open and row.backend in backends and is_here(row, backends[row.backend])


def settle(backend: Backend, ledger: Ledger, row: Resource) -> None:
    """Write into the ledger where a recorded job or endpoint stands, judged by the backend. Hold the run's lock."""
    if row.kind == "training_job":
        settle_job(backend, ledger, row.run, row.name)
    elif row.kind == "endpoint":
        settle_endpoint(backend, ledger, row)
