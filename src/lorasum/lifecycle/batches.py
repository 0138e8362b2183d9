"""Starts a batch job once, or adopts it. `jobs.py` launches, reconciles and stops it, as any job."""

from dataclasses import replace

from lorasum.backends.records import JobRef, JobState, TrainSpec
from lorasum.config.schema import Config
from lorasum.ledger.resources import BatchJob
from lorasum.lifecycle import jobs
from lorasum.lifecycle.costs import job_note
from lorasum.lifecycle.limits import job_limit, job_most_usd, refuse_unknown_cost, stopped_after
from lorasum.lock import HeldRun
from lorasum.reporting import Reporter


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
    if known and backend.training_state(known).status in ("running", "completed"):
        reconcile(held, known)
        return known
    row = row_of(held, name, known)
    limit, note = quoted(config, row.usd_per_hour, row.usd_before, held.reporter)
    return jobs.launch(held, row, replace(spec, max_seconds=limit), f"starting batch job {name}{note}")


def reconcile(held: HeldRun, job: JobRef) -> JobState:
    """As that of jobs; a job that the ledger does not know, whoever started it, is recorded first."""
    if held.ledger.find(BatchJob, held.name, job.name) is None:
        held.ledger.intend(row_of(held, job.name, job))
    return jobs.reconcile(held, BatchJob, job.name)


def quoted(config: Config, usd_per_hour: float | None, spent: float | None, report: Reporter) -> tuple[int | None, str]:
    """How many seconds a batch job may run, and its price in words. Its instance is not kept for another job.

    Args:
        spent: USD that earlier attempts were billed; None if that is unknown.

    Raises:
        LorasumError: `limits` end it too early to be worth its cost, or cannot be kept.
    """
    refuse_unknown_cost(config.limits, usd_per_hour, spent)
    own = config.model_copy(update={"sagemaker": config.sagemaker.model_copy(update={"keep_alive_minutes": 0})})
    limit = job_limit(own, usd_per_hour, spent, report)
    return limit, job_note(usd_per_hour, stopped_after(own, limit), job_most_usd(own, usd_per_hour, limit))


def row_of(held: HeldRun, name: str, known: JobRef | None) -> BatchJob:
    """What the ledger is told of a batch job, with the cost of the attempts that it had."""
    return BatchJob(
        run=held.name,
        name=name,
        backend=held.backend.name,
        account_and_region=held.backend.account_and_region,
        access=held.backend.access,
        location=known.location if known else "",
        usd_per_hour=held.backend.usd_per_hour("batch_job"),
        usd_before=held.backend.training_usd(known) if known else 0.0,
    )
