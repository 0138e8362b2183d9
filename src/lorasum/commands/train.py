"""Train: one job per configuration and dataset, started at most once, followed to its end, resumed after a stop."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NoReturn

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import JobRef, JobState, JobStatus, TrainSpec
from lorasum.commands.train_plan import Job, planned_job
from lorasum.context import RunContext
from lorasum.contract import DoneEvent, Event, StepEvent
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger import OPEN, Ledger, Resource, ResourceState, run_lock
from lorasum.reporting import Reporter
from lorasum.results import TrainResult, TrainStarted

KIND: Final = "training_job"
_RECORDED: Final[Mapping[JobStatus, ResourceState]] = {"running": "live", "completed": "done", "absent": "gone"}


def train(run: RunContext) -> TrainResult:
    """Train on the newest prepared dataset, or follow the job that is already at it, or return what it has left.

    Raises:
        LorasumError: nothing is prepared; the run is training another configuration; Ctrl-C (the message says whether
            the job was stopped).
        BackendError: the job could not be started, failed or was stopped. The same command resumes it.
    """
    config, backend, ledger, report = run.config, run.backend, run.ledger, run.reporter
    job = planned_job(config, ledger, report)
    name = job.spec.job_name
    seen = _Seen()
    try:
        with run_lock(config.name):
            reference, status = _start(job, backend, ledger, report)
        if status == "completed":
            return _result(ledger, config.name, name, reused=True)
        for event in backend.follow_training(reference):
            report.event(event)
            seen.note(event)
    except KeyboardInterrupt:
        _interrupted(job.spec, backend, ledger, seen)
    state = settle_job(backend, ledger, config.name, name, seen.done)
    if state.status == "completed":
        return _result(ledger, config.name, name, reused=False)
    for line in state.log:
        report.step(f"log: {line}")
    raise _unfinished(name, state)


def start_training(run: RunContext) -> TrainStarted:
    """As `train`, without following the job: it runs on when this returns, and `train` finds it.

    Raises:
        LorasumError: nothing is prepared; the run is training another configuration.
        BackendError: the job could not be started.
    """
    config, backend, ledger, report = run.config, run.backend, run.ledger, run.reporter
    job = planned_job(config, ledger, report)
    with run_lock(config.name):
        reference, status = _start(job, backend, ledger, report)
    return TrainStarted(config.name, job.spec.job_name, reference.location, status)


def price_note(usd_per_hour: float | None) -> str:
    """What a running resource costs, to be said before it is started; nothing where it is free."""
    if usd_per_hour is None:
        return ", at a price that could not be found out"
    return f", ${usd_per_hour:.2f} an hour" if usd_per_hour else ""


def settle_job(backend: Backend, ledger: Ledger, run: str, name: str, done: DoneEvent | None = None) -> JobState:
    """Write into the ledger where a recorded job stands, judged by the backend.

    Args:
        done: its `done` event, where the caller has seen it.
    """
    job = backend.find_training(run, name)
    state = backend.training_state(job) if job else JobState("absent")
    row = ledger.find(run, KIND, name)
    now = _RECORDED.get(state.status, "failed")
    known: dict[str, Any] = {"location": job.location} if job else {"warm": False}
    if job and now != "live":
        known |= {"warm": backend.is_warm(job), "usd": backend.training_usd(job)}
    if job and now == "done":
        known |= {"artifact": backend.artifact(job)}
        known |= {} if row and row.state == "done" else asdict(_figures(backend, job, done))
    if now == "failed":
        known |= {"reason": state.reason or state.status}
    if row and row.state == now:
        ledger.note(run, KIND, name, **known)  # looking at a job does not make it the run's latest
    else:
        ledger.mark(run, KIND, name, now, **known)
    return state


@dataclass(slots=True)
class _Seen:
    """What the job's events have said so far."""

    step: str = "before its first step"
    stepped: bool = False
    done: DoneEvent | None = None

    def note(self, event: Event) -> None:
        if isinstance(event, StepEvent):
            self.stepped = True
            self.step = f"at step {event.step} of {event.steps}"
        elif isinstance(event, DoneEvent):
            self.done = event


def _start(job: Job, backend: Backend, ledger: Ledger, report: Reporter) -> tuple[JobRef, str]:
    """The job, started unless it runs or has completed, and its status. Hold the run's lock."""
    run, name = job.spec.run, job.spec.job_name
    _refuse_a_second_job(run, name, backend, ledger)
    found = backend.find_training(run, name)
    status = backend.training_state(found).status if found else "absent"
    if found and status in ("running", "completed"):
        if ledger.find(run, KIND, name) is None:
            ledger.intend(run, KIND, name, backend.name, _detail(job, backend, found), backend.usd_per_hour(KIND))
        if settle_job(backend, ledger, run, name).status == "completed":
            ledger.mark(run, KIND, name, "done")  # again, so that `deploy` takes this job for the latest
        report.step(f"following job {name}, which is running" if status == "running" else f"job {name} had completed")
        return found, status
    price = backend.usd_per_hour(KIND)
    ledger.intend(run, KIND, name, backend.name, _detail(job, backend, found), price)
    report.step(f"starting job {name}{price_note(price)}")
    try:
        reference = backend.start_training(job.spec)
    except LorasumError as error:
        ledger.mark(run, KIND, name, "failed", reason=error.message)
        raise
    ledger.mark(run, KIND, name, "live", location=reference.location)
    return reference, "running"


def _detail(job: Job, backend: Backend, found: JobRef | None) -> dict[str, Any]:
    """What the ledger is told of a job before it starts, with the cost of the tries that it had."""
    return {**job.origin, "where": backend.where, "usd": backend.training_usd(found) if found else 0.0}


def _refuse_a_second_job(run: str, name: str, backend: Backend, ledger: Ledger) -> None:
    for row in ledger.resources(run, KIND):
        if row.name == name or row.state not in OPEN or not is_here(row, backend):
            continue
        if settle_job(backend, ledger, run, row.name).status == "running":
            raise LorasumError(
                f"run {run!r} is still training job {row.name}, which has another configuration",
                "wait for it, stop it with `lorasum teardown`, or give this config another name",
            )


def _figures(backend: Backend, job: JobRef, done: DoneEvent | None) -> DoneEvent:
    """The job's figures: from its last `done` event; where events are gone, from the artifact's own record."""
    if done is None:
        events = [event for event in backend.follow_training(job) if isinstance(event, DoneEvent)]
        record = None if events else backend.artifact_record(job)
        done = events[-1] if events else record.training if record else DoneEvent(None, None, 0, 0.0, 0.0)
    return done


def _result(ledger: Ledger, run: str, name: str, reused: bool) -> TrainResult:
    row = ledger.find(run, KIND, name)
    assert row is not None, "the job was settled just before"  # noqa: S101
    detail = row.detail
    return TrainResult(
        run=run,
        job=name,
        artifact=detail["artifact"],
        reused=reused,
        train_loss=detail["train_loss"],
        eval_loss=detail["eval_loss"],
        tokens=detail["tokens"] or 0,
        tokens_per_second=detail["tokens_per_second"] or 0.0,
        seconds=detail["seconds"] or 0.0,
    )


def _interrupted(spec: TrainSpec, backend: Backend, ledger: Ledger, seen: _Seen) -> NoReturn:
    """Ctrl-C: stop the job or leave it, as the backend has it. Interrupted again, the ledger still has it live."""
    run, name = spec.run, spec.job_name
    if not backend.stops_on_interrupt:
        if backend.find_training(run, name) is None:  # still on record as intended, should it appear after all
            raise LorasumError(f"interrupted before job {name} was started", "the same command starts it") from None
        raise LorasumError(
            f"no longer following job {name}, which goes on {seen.step}",
            "the same command follows it again; `lorasum teardown` stops it",
        ) from None
    job = backend.find_training(run, name)
    if job:
        backend.stop_training(job)
        for event in backend.follow_training(job):  # what it did before it stopped, seen in time or not
            seen.note(event)
    if ledger.find(run, KIND, name):
        state = settle_job(backend, ledger, run, name)
        if state.status in ("failed", "stopped"):
            ledger.mark(run, KIND, name, "failed", reason="interrupted")
        elif state.status == "completed":
            raise LorasumError(f"interrupted when job {name} had just completed", "the same command shows it") from None
    hint = "the same command resumes from the checkpoint" if seen.stepped else "the same command starts it again"
    raise LorasumError(f"training stopped {seen.step}", hint) from None


def _unfinished(name: str, state: JobState) -> BackendError:
    reason = f": {state.reason}" if state.reason else ""
    resume = "the same command resumes from its newest checkpoint"
    if state.status == "running":
        return BackendError(f"the events of job {name} ended, but it runs", "the same command follows it again")
    verb = {"failed": "failed", "stopped": "was stopped"}.get(state.status, "is gone")
    return BackendError(f"training job {name} {verb}{reason}", state.hint or resume)


def recorded_jobs(ledger: Ledger, run: str, backend: Backend) -> list[Resource]:
    """The run's recorded jobs on this backend, oldest change first."""
    return [row for row in ledger.resources(run, KIND) if is_here(row, backend)]
