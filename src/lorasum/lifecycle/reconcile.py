"""Bring any row of the ledger in line with what the backend shows."""

from dataclasses import replace

from lorasum.backends.base import is_active
from lorasum.ledger.resources import BatchJob, Endpoint, Resource, TrainingJob, Unreadable
from lorasum.lifecycle import endpoints, jobs
from lorasum.lock import HeldRun


def reconcile(held: HeldRun, row: Resource) -> None:
    """Update the ledger's row of a job or endpoint to the state that the backend shows.

    Of a row that cannot be read only the name is known: it is gone once nothing of that name runs.
    """
    if isinstance(row, TrainingJob):
        jobs.reconcile(held, TrainingJob, row.name)
    elif isinstance(row, BatchJob):
        jobs.reconcile(held, BatchJob, row.name)
    elif isinstance(row, Endpoint):
        endpoints.reconcile(held, row)
    elif isinstance(row, Unreadable) and not _runs(held, row):
        held.ledger.save(replace(row, state="gone"))


def _runs(held: HeldRun, row: Unreadable) -> bool:
    if row.stored_kind == Endpoint.kind:
        return held.backend.endpoint_state(held.name, row.name).status != "absent"
    if row.stored_kind in (TrainingJob.kind, BatchJob.kind):
        job = held.backend.find_training(held.name, row.name)
        return job is not None and is_active(held.backend, job)
    return any(running.name == row.name for running in held.backend.live(held.name))
