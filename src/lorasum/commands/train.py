"""Train: start the job of this configuration and dataset, follow it to its end, or resume it after a stop."""

import time
from dataclasses import dataclass, replace
from typing import NoReturn

from lorasum.backends.records import JobRef, JobState
from lorasum.context import RunContext
from lorasum.errors import BackendError, InterruptedRunError, ModelError
from lorasum.ledger.resources import NO_FIGURES, TrainingJob
from lorasum.lifecycle import jobs
from lorasum.lifecycle.costs import known_price
from lorasum.lifecycle.estimate import Estimate, estimate_of
from lorasum.lifecycle.jobs import StartedJob
from lorasum.lifecycle.limits import job_limit
from lorasum.lifecycle.lookup import find_job, made_otherwise
from lorasum.lifecycle.planning import PlannedJob, example_job, planned_job
from lorasum.lifecycle.quote import Quote, quote
from lorasum.lifecycle.teardowns import TeardownWatch
from lorasum.lifecycle.training_time import measured_speed
from lorasum.models.gguf_architecture import architecture_of
from lorasum.results.training import TrainPlan, TrainResult
from lorasum.shared.events import MERGE_LEFT_OUT, DoneEvent, Event, StepEvent
from lorasum.system import paths
from lorasum.system.signals import release_frames


def train(run: RunContext, again: bool = False) -> TrainResult:
    """Train on the newest prepared dataset. A job that runs already is followed, and one that is done is returned.

    Args:
        again: train even so, if the container scripts, the image or the instance type are others than that job's.

    Raises:
        LorasumError: nothing is prepared; the run is training another configuration.
        TornDownError: the run was torn down while the job was started, or waited for an instance.
        InterruptedRunError: Ctrl-C; the message says whether the job was stopped.
        BackendError: the job could not be started, failed or was stopped. The same command resumes it.
    """
    began = time.monotonic()
    watch = TeardownWatch(run.name)
    job = planned_job(run.config, run.ledger, run.reporter)
    for wait in (*jobs.WAITS_FOR_AN_INSTANCE, None):
        started, state = _start_and_follow(run, job, again, watch)
        if state.status == "completed":
            return _result(run, started, began)
        if wait is None or not state.no_capacity:
            break
        run.reporter.step(f"no instance was free; starting the job again in {wait / 60:.0f} min (Ctrl-C ends this)")
        time.sleep(wait)
    for line in run.backend.log_tail(started.ref) if state.status == "failed" else ():
        run.reporter.step(f"log: {line}")
    raise _unfinished(started.ref.name, state)


def _start_and_follow(
    run: RunContext, job: PlannedJob, again: bool, watch: TeardownWatch, follow: bool = True
) -> tuple[StartedJob, JobState]:
    """Start the job or find it, and follow it to its end; how it was found, and where it stands then."""
    seen = _Seen()
    try:
        with run.hold() as held:
            watch.check()
            started = jobs.start(held, job, again)
            jobs.stop_if_torn_down(held, watch, started.ref.name)
        if started.status == "completed" or not follow:
            return started, JobState(started.status)
        seen.job = started.ref.name
        with jobs.followed(run.reporter, started.ref.name):
            for event in run.backend.follow_training(started.ref):
                run.reporter.event(event)
                seen.note(event)
    except KeyboardInterrupt:
        _interrupted(run, job, seen)
    with run.hold() as held:
        return started, jobs.reconcile(held, TrainingJob, started.ref.name, seen.done)


def start_training(run: RunContext, again: bool = False) -> TrainResult:
    """Start the job and return. It goes on running, and `train` follows it later. `again` is that of `train`.

    Raises:
        LorasumError: nothing is prepared; the run is training another configuration.
        TornDownError: the run was torn down meanwhile; the job is stopped.
        InterruptedRunError: Ctrl-C; the message says whether the job was stopped.
        BackendError: the job could not be started.
    """
    began, watch = time.monotonic(), TeardownWatch(run.name)
    job = planned_job(run.config, run.ledger, run.reporter)
    started, _ = _start_and_follow(run, job, again, watch, follow=False)
    return _result(run, started, began)


def to_be_spent(run: RunContext, again: bool = False) -> str:
    """What starting this config's job costs, in a line; empty where nothing is started or nothing is paid for.

    Raises:
        LorasumError: nothing is prepared; it does not fit its instance, or `limits`.
    """
    with run.looking_ahead():
        planned = planned_job(run.config, run.ledger, run.reporter)
        found = find_job(run.backend, run.ledger, planned, again)
        if found.is_made or run.backend.usd_per_hour("training_job") == 0:
            return ""
        row = jobs.row_of(run.backend, planned, found.job.spec.job_name, found.ref)
        return f"start job {row.name}{quote(run.ledger, found, row, run.reporter)}"


def plan_training(run: RunContext) -> TrainPlan:
    """The job that `train` would start or follow. Nothing is started, and no dataset needs to be prepared.

    Raises:
        LorasumError: what is prepared does not fit the config.
    """
    prepared = run.ledger.latest_dataset(run.name)
    job = planned_job(run.config, run.ledger, run.reporter) if prepared else example_job(run.config)
    price = known_price(run.backend, "training_job")
    limit = job_limit(run.config, price, 0.0, run.reporter)
    note = "" if prepared else ": no dataset is prepared, so its work and time are unknown"
    speed = measured_speed(run.ledger, run.backend.name, job.spec.model.location, price, job.hardware.only_type)
    in_account = prepared and job.hardware.types
    estimate = estimate_of(job, run.reporter) if in_account else Estimate(job, None)
    said = f"{Quote(job, price, limit, speed, estimate)}{note}; nothing was started"
    run.reporter.step(f"would start job {job.spec.job_name}{said}")
    return TrainPlan(
        run=run.name,
        job=job.spec.job_name,
        entry_point=str(paths.container_scripts() / "train.py"),
        model=job.spec.model.location,
        dataset=str(job.spec.dataset),
        hyperparameters=job.spec.hyperparameters,
        request=run.backend.training_request(replace(job.spec, max_seconds=limit)),
    )


@dataclass(slots=True)
class _Seen:
    """What the events of the job have shown so far; without a name while it is being started."""

    job: str = ""
    step: str = "before its first step"
    stepped: bool = False
    done: DoneEvent | None = None

    def note(self, event: Event) -> None:
        if isinstance(event, StepEvent):
            self.stepped = True
            self.step = f"at step {event.step} of {event.steps}"
        elif isinstance(event, DoneEvent):
            self.done = event


def _result(run: RunContext, started: StartedJob, began: float) -> TrainResult:
    name = started.ref.name
    row = run.ledger.find(TrainingJob, run.name, name)
    assert row is not None, "the job was reconciled or started just before"  # noqa: S101
    figures, told = row.figures, row.figures != NO_FIGURES
    _tell_of_no_merge(run, started, figures.not_merged)
    return TrainResult(
        run=run.name,
        job=name,
        location=started.ref.location,
        state="done" if row.state == "done" else "live",
        artifact=row.artifact or None,
        reused=started.status == "completed",
        seconds=time.monotonic() - began,
        job_seconds=figures.seconds if told else None,
        train_loss=figures.train_loss,
        eval_loss=figures.eval_loss,
        tokens=figures.tokens if told else None,
        tokens_per_second=figures.tokens_per_second if told else None,
        kept_step=figures.kept_step if told else None,
        kept_because=figures.kept_because,
        score=figures.score,
        scored_by=figures.scored_by,
        generation_seconds=figures.generation_seconds if told else None,
        not_merged=figures.not_merged,
        changed=started.changed,
        gguf=row.state == "done" and not figures.not_merged and _is_for_gguf(run, started.ref),
    )


def _is_for_gguf(run: RunContext, job: JobRef) -> bool:
    """Whether `export` writes models such as the one that the job has left."""
    try:
        config = run.backend.artifact_file(job, "config.json")
        return config is not None and bool(architecture_of(config))
    except (BackendError, ModelError):
        return False


def _tell_of_no_merge(run: RunContext, started: StartedJob, why: str) -> None:
    """Warn that the artifact has no merged model, where one was asked for and no event of this job has told so."""
    left_out = why == MERGE_LEFT_OUT
    if not why or (run.config.deploy.serve == "adapter" if left_out else started.status != "completed"):
        return
    hint = "; the same command merges it, and repeats no step" if left_out else ""
    if not left_out and made_otherwise(run.backend, started.ref):  # what made it would refuse it again
        hint = "; `lorasum train --again` merges again, and repeats no step"
    run.reporter.warn(f"the artifact of job {started.ref.name} has no merged model: {why}{hint}")


def _interrupted(run: RunContext, planned: PlannedJob, seen: _Seen) -> NoReturn:
    """Handle Ctrl-C: stop the job, or leave it running, as the backend decides. The ledger has it live until then."""
    release_frames()
    name, backend = seen.job or _being_started(run, planned.spec.job_name), run.backend
    if not backend.stops_on_interrupt:
        if not seen.job and not _was_started(run, name):  # still on record as intended, should it appear after all
            row = run.ledger.find(TrainingJob, run.name, name)
            how = "while job {} was started: it may still appear" if row and row.asked else "before job {} was started"
            raise InterruptedRunError(f"interrupted {how.format(name)}", "the same command starts it, or follows it")
        raise InterruptedRunError(
            f"no longer following job {name}, which continues {seen.step}",
            "the same command follows it again; `lorasum teardown` stops it",
        )
    if job := backend.find_training(run.name, name):
        run.reporter.step(f"stopping job {name}; it saves a checkpoint first")
        backend.stop_training(job)
        for event in backend.training_events(job):  # what it did before it stopped, seen in time or not
            seen.note(event)
    resume = "the same command resumes from the checkpoint" if seen.stepped else "the same command starts it again"
    if run.ledger.find(TrainingJob, run.name, name):
        with run.hold() as held:
            state = jobs.reconcile(held, TrainingJob, name)
            if state.status in ("failed", "stopped"):
                jobs.mark(held, TrainingJob, name, "stopped", f"interrupted {seen.step}; {resume}")
        if state.status == "completed":
            raise InterruptedRunError(f"interrupted when job {name} had just completed", "the same command shows it")
    raise InterruptedRunError(f"training stopped {seen.step}", resume)


def _was_started(run: RunContext, name: str) -> bool:
    with jobs.followed(run.reporter, name):
        return run.backend.find_training(run.name, name) is not None


def _being_started(run: RunContext, asked: str) -> str:
    """The name of the job that is being started for what was asked. With `again` it is another one."""
    rows = [row for row in run.ledger.rows(TrainingJob, run.name) if row.asked_as == asked and row.is_open]
    return rows[-1].name if rows else asked


def _unfinished(name: str, state: JobState) -> BackendError:
    reason = f": {state.reason}" if state.reason else ""
    resume = "the same command resumes from its newest checkpoint"
    if state.status == "running":
        return BackendError(f"the events of job {name} ended, but it runs", "the same command follows it again")
    verb = {"failed": "failed", "stopped": "was stopped"}.get(state.status, "is gone")
    return BackendError(f"training job {name} {verb}{reason}", state.hint or resume)
