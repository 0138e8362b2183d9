"""The life of a batch job: started once or adopted, judged by the backend. `jobs.stop` stops it, as any job."""

from dataclasses import replace

from lorasum.backends.records import JobRef, JobState, TrainSpec
from lorasum.config.schema import Config
from lorasum.errors import LorasumError, UnseenError
from lorasum.lifecycle.costs import job_note
from lorasum.lifecycle.jobs import RECORDED
from lorasum.lifecycle.limits import job_limit
from lorasum.lock import HeldRun
from lorasum.resources import BatchJob


def name_of(run: str, key: str) -> str:
    """The name of the batch job that answers the rows, with the model, that `key` is a hash of."""
    return f"{run}-rows-{key}"


def is_batch(run: str, job: str) -> bool:
    """Whether a job of a run is a batch job, by its name."""
    return job.startswith(f"{run}-rows-")


def start(held: HeldRun, spec: TrainSpec, config: Config) -> JobRef:
    """The batch job, started unless it runs or has completed.

    Raises:
        BackendError: it could not be started; that is on record.
    """
    backend, name = held.backend, spec.job_name
    known = backend.find_training(held.name, name)
    row = row_of(held, name, known)
    if known and backend.training_state(known).status in ("running", "completed"):
        reconcile(held, held.ledger.find(BatchJob, held.name, name) or held.ledger.intend(row))
        return known
    limit = job_limit(config, row.usd_per_hour, row.usd_before, held.reporter)
    row = held.ledger.intend(row)
    held.reporter.step(f"starting batch job {name}{job_note(row.usd_per_hour, limit)}")
    try:
        reference = backend.start_training(replace(spec, max_seconds=limit))
    except UnseenError:  # it stays on record as intended
        raise
    except LorasumError as error:
        held.ledger.save(replace(row, state="failed", reason=error.message, usd_total=row.usd_before))
        raise
    held.ledger.save(replace(row, state="live", location=reference.location))
    return reference


def mark_stopped(held: HeldRun, name: str, reason: str) -> None:
    """Record that a batch job was stopped, and why."""
    if row := held.ledger.find(BatchJob, held.name, name):
        held.ledger.save(replace(row, state="stopped", reason=reason))


def row_of(held: HeldRun, name: str, known: JobRef | None) -> BatchJob:
    """What the ledger is told of a batch job, with the cost of the attempts that it had."""
    return BatchJob(
        run=held.name,
        name=name,
        backend=held.backend.name,
        account_and_region=held.backend.account_and_region,
        usd_per_hour=held.backend.usd_per_hour("batch_job"),
        usd_before=held.backend.training_usd(known) if known else 0.0,
    )


def reconcile(held: HeldRun, row: BatchJob) -> JobState:
    """Update the ledger's row to the state that the backend shows."""
    job = held.backend.find_training(held.name, row.name)
    state = held.backend.training_state(job) if job else JobState("absent")
    judged = replace(row, state=RECORDED[state.status], location=job.location if job else row.location)
    if job and judged.state != "live":
        judged = replace(judged, usd_total=held.backend.training_usd(job))
    elif job is None:
        judged = replace(judged, usd_total=row.usd_before)
    if judged.state in ("failed", "stopped"):
        judged = replace(judged, reason=state.reason or state.status)
    (held.ledger.note if judged.state == row.state else held.ledger.save)(judged)
    return state
