"""Status: what the ledger records, after asking the backends about everything that should be running."""

from collections.abc import Mapping

from lorasum.backends.base import Backend, is_here
from lorasum.ledger import Ledger
from lorasum.lifecycle.costs import cost
from lorasum.lifecycle.expiry import alarm
from lorasum.lifecycle.lock import HeldRun, RunBusyError, hold
from lorasum.lifecycle.reconcile import reconcile
from lorasum.reporting import Silent
from lorasum.resources import Resource, Unreadable
from lorasum.results import ResourceStatus, StatusResult


def status(backends: Mapping[str, Backend], ledger: Ledger, run: str | None = None) -> StatusResult:
    """The ledger's resources and what they have cost, of all runs or of one, oldest change first.

    Args:
        backends: by name; resources of others are shown as recorded.

    Raises:
        BackendError: a backend could not be asked.
    """
    asked: set[tuple[str, str]] = set()
    runs_on = {(row.run, row.backend) for row in ledger.resources(run) if _can_be_asked(row, backends)}
    for name, backend in sorted(runs_on):
        try:
            with hold(name, backends[backend], ledger, Silent(), wait=0) as held:
                _reconcile_all(held)
                asked.add((name, backend))
        except RunBusyError:
            continue  # the process that is changing the run writes its record
    now = ledger.now()

    def shown(row: Resource) -> ResourceStatus:
        was_asked = (row.run, row.backend) in asked and _can_be_asked(row, backends)
        return ResourceStatus.of(row, cost(row, now), alarm(row, now, was_asked))

    return StatusResult(tuple(shown(row) for row in ledger.resources(run)))


def _reconcile_all(held: HeldRun) -> None:
    for row in held.ledger.resources(held.name):
        if _can_be_asked(row, {held.backend.name: held.backend}):
            reconcile(held, row)


def _can_be_asked(row: Resource, backends: Mapping[str, Backend]) -> bool:
    if isinstance(row, Unreadable):
        return False  # it is shown as such, and teardown sees what it stands for
    return row.is_open and row.backend in backends and is_here(row, backends[row.backend])
