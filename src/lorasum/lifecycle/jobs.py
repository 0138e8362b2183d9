"""The life of a training job: started once or adopted, judged by the backend, stopped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import JobRef, JobState, JobStatus, TrainSpec
from lorasum.errors import LorasumError, UnseenError
from lorasum.ledger.resources import NO_FIGURES, OPEN, BatchJob, ResourceState, TrainingJob
from lorasum.lifecycle import unseen
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.lifecycle.base_answers import given_summaries
from lorasum.lifecycle.lookup import find_job, recorded
from lorasum.lifecycle.placement import before_training, warn_of
from lorasum.lifecycle.planning import PlannedJob, idle_processes
from lorasum.lifecycle.quote import quote
from lorasum.lifecycle.teardowns import TeardownWatch, TornDownError
from lorasum.lock import HeldRun, RunBusyError
from lorasum.reporting import Reporter
from lorasum.shared.events import DoneEvent

RECORDED: Final[Mapping[JobStatus, ResourceState]] = {
    "running": "live",
    "completed": "done",
    "stopped": "stopped",
    "failed": "failed",
    "absent": "gone",
}
WAITS_FOR_AN_INSTANCE: Final = (300.0, 600.0, 1200.0, 1800.0)
"""Seconds before a job is started again that found no instance: nothing ran, so nothing was billed."""

Job = TypeVar("Job", TrainingJob, BatchJob)


class StartedJob(NamedTuple):
    """A job that was started, or found running or completed."""

    ref: JobRef
    status: JobStatus
    changed: tuple[str, ...] = ()
    """What it was not made with, but would be today."""


def start(held: HeldRun, planned: PlannedJob, again: bool = False) -> StartedJob:
    """The job, started unless one of this config runs or has completed.

    Args:
        again: start one even so, if it would be made with other container scripts, another image or instance type.

    Raises:
        LorasumError: the run is training another configuration; the job is paid for and does not fit its instance.
        BackendError: it could not be started; that is on record.
    """
    backend, ledger = held.backend, held.ledger
    found = find_job(backend, ledger, planned, again)
    spec = found.job.spec
    _refuse_a_second(held, spec.job_name)
    if found.ref and found.is_made:
        return _adopt(held, planned, StartedJob(found.ref, found.status, found.changed))
    if idle := idle_processes(spec):
        raise idle
    row = row_of(backend, planned, spec.job_name, found.ref)
    quoted = quote(ledger, found, row, held.reporter)
    warn_of(before_training(planned.placement, spec.model, quoted.estimate.needs).memory(), held.reporter)
    row = replace(row, planned_seconds=quoted.seconds)
    if spec.base_seconds and (kept := given_summaries(held, found.job)):
        held.reporter.step("the base model's summaries are those of an earlier job: this one does not make them again")
        spec = replace(spec, base_seconds=0, base_summaries=kept)
    reference = launch(held, row, replace(spec, max_seconds=quoted.limit), f"starting job {spec.job_name}{quoted}")
    return StartedJob(reference, "running")


def launch(held: HeldRun, row: Job, spec: TrainSpec, message: str) -> JobRef:
    """Start the job of a row: on record as intended before, and as live or failed afterwards.

    Args:
        message: what the user is told of it.

    Raises:
        BackendError: it could not be started; that is on record.
    """
    row = held.ledger.intend(row)
    held.reporter.step(message)
    try:
        reference = held.backend.start_training(spec, lambda: unseen.asking(held.ledger, row))
    except LorasumError as error:
        if not (row.asked or isinstance(error, UnseenError)):  # else it may yet be shown
            held.ledger.save(replace(row, state="failed", reason=error.message, usd_total=row.usd_before))
        raise
    held.ledger.save(replace(row, state="live", location=reference.location))
    return reference


def reconcile(held: HeldRun, kind: type[Job], name: str, done: DoneEvent | None = None) -> JobState:
    """Update the ledger's row of a job to the state that the backend shows.

    Args:
        done: its `done` event, where the caller has seen it.
    """
    row = held.ledger.find(kind, held.name, name)
    if row is None:
        raise LorasumError(f"the ledger knows no {kind.kind} {name!r} of run {held.name!r}", "run `lorasum status`")
    job = held.backend.find_training(held.name, name)
    is_shown = job and not (row.state == "intended" and job.location == row.location)  # that is an earlier attempt
    if not is_shown and unseen.stays(held.ledger, row):
        return JobState("absent")
    state = held.backend.training_state(job) if job else JobState("absent")
    judged = replace(row, state=RECORDED[state.status], location=job.location if job else row.location)
    judged = replace(judged, reason="" if row.state == "intended" else row.reason)
    if job:
        judged = replace(judged, usd_total=held.backend.training_usd(job))
    elif row.state == "intended":
        judged = replace(judged, usd_total=row.usd_before)  # it was never started
    if row.state == "gone" and judged.state in ("failed", "stopped"):  # it is on record why it ended
        judged = replace(judged, state="gone")
    elif judged.state in ("failed", "stopped"):
        judged = replace(judged, reason=state.reason or state.status)
    if isinstance(judged, TrainingJob):
        judged = _with_results(held.backend, judged, job, row.state == "done", done)
    if row.state == judged.state:
        held.ledger.note(judged)  # looking at a job does not make it the run's latest
    else:
        held.ledger.save(judged)
    return state


def stop(held: HeldRun, name: str, why: str = "stopped by teardown", keep_warm: bool = False) -> None:
    """Stop a job and let go of an instance that is kept for it, recorded or not. An absent job succeeds.

    Args:
        keep_warm: leave the instance to the job that starts next.
    """
    if job := held.backend.find_training(held.name, name):
        held.backend.stop_training(job, keep_warm)
    _record_stop(held, TrainingJob, name, why)
    _record_stop(held, BatchJob, name, why)


def stop_if_torn_down(held: HeldRun, watch: TeardownWatch, name: str) -> None:
    """Stop a job that was started after a teardown had given up: starting it may take as long as an upload.

    Raises:
        TornDownError: there was one; nobody may come back to it.
    """
    try:
        watch.check()
    except TornDownError:
        stop(held, name)
        raise


def _record_stop(held: HeldRun, kind: type[Job], name: str, why: str) -> None:
    if row := held.ledger.find(kind, held.name, name):
        state = reconcile(held, kind, name)
        if row.state in OPEN and state.status in ("failed", "stopped"):
            mark(held, kind, name, "gone", why)


@contextmanager
def followed(reporter: Reporter, name: str) -> Iterator[None]:
    """While a job is followed: an error that ends the following, such as a dead network, does not end the job."""
    try:
        yield
    except Exception:
        reporter.warn(may_run(name))
        raise


def may_run(name: str) -> str:
    """What is said of a job that nobody follows, whatever ended the following."""
    return f"job {name} may still run: the same command follows it again, `lorasum teardown` stops it"


def mark(held: HeldRun, kind: type[Job], name: str, state: ResourceState, reason: str = "") -> None:
    """Record another state of a recorded job, now."""
    if row := held.ledger.find(kind, held.name, name):
        held.ledger.save(replace(row, state=state, reason=reason or row.reason))


def row_of(backend: Backend, planned: PlannedJob, name: str, known: JobRef | None) -> TrainingJob:
    """What the ledger is told of a job before it starts, with the cost of the attempts that it had."""
    return TrainingJob(
        run=planned.spec.run,
        name=name,
        asked_as=planned.spec.job_name,
        backend=backend.name,
        account_and_region=backend.account_and_region,
        access=backend.access,
        origin=planned.origin,
        location=known.location if known else "",
        usd_per_hour=backend.usd_per_hour("training_job"),
        usd_before=backend.training_usd(known) if known else 0.0,
        hyperparameters=planned.spec.hyperparameters,
        instance_type=planned.hardware.only_type,
    )


def _adopt(held: HeldRun, planned: PlannedJob, started: StartedJob) -> StartedJob:
    """Record a job that runs or has completed, whoever started it."""
    name, ledger = started.ref.name, held.ledger
    row, known = ledger.find(TrainingJob, held.name, name), row_of(held.backend, planned, name, started.ref)
    if row is None or not is_here(row, held.backend):  # the record may be of another backend's job of this name
        ledger.intend(known)
    elif not row.hyperparameters:  # `status --rebuild` did not know what it was made for
        ledger.note(replace(row, origin=known.origin, asked_as=known.asked_as, hyperparameters=known.hyperparameters))
    elif row.origin != known.origin:
        ledger.note(replace(row, origin=known.origin))
    if reconcile(held, TrainingJob, name).status == "completed":
        mark(held, TrainingJob, name, "done")  # again, so that it is the run's latest
    running = started.status == "running"
    held.reporter.step(f"following job {name}, which is running" if running else f"job {name} had completed")
    if started.changed:
        other = " and ".join(started.changed)
        held.reporter.step(f"it was made with other {other} than now; `lorasum train --again` makes another")
    return started


def _refuse_a_second(held: HeldRun, name: str) -> None:
    """Refuse to start a second job of a run while one runs: both would be paid for."""
    for row in recorded(held.backend, held.ledger, held.name):
        if row.name == name or row.state not in OPEN:
            continue
        state = reconcile(held, TrainingJob, row.name)
        if (left := held.ledger.find(TrainingJob, held.name, row.name)) and left.state == "intended":
            held.reporter.warn(f"{left}: {left.reason}")
        if state.status == "running":
            raise RunBusyError(
                f"run {held.name!r} is still training job {row.name}, which has another configuration",
                "wait for it, stop it with `lorasum teardown`, or give this config another name",
            )


def _with_results(
    backend: Backend, row: TrainingJob, job: JobRef | None, had_figures: bool, done: DoneEvent | None
) -> TrainingJob:
    """The row with what only a training has: an instance that is kept warm, an artifact, figures."""
    if job is None:
        return replace(row, warm=False)
    if row.state != "live":
        row = replace(row, warm=backend.is_warm(job))
    if row.state == "done":
        figures = row.figures if had_figures else _figures(backend, job, done)
        row = replace(row, artifact=backend.artifact(job), figures=figures)
    return row


def _figures(backend: Backend, job: JobRef, done: DoneEvent | None) -> DoneEvent:
    """The job's figures, from its last `done` event, or from the artifact's record if the events are gone."""
    if done is None:
        events = [event for event in backend.follow_training(job) if isinstance(event, DoneEvent)]
        record = None if events else artifact_record(backend, job)
        done = events[-1] if events else record.training if record else NO_FIGURES
    return done
