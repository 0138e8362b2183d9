"""Looks up a run's jobs: the one to start, follow or take for a config, and a completed one to serve or copy.

`train` says what had completed by the rule by which `deploy`, `push` and the others take a job. Of the jobs that run or
have completed with the weights that the config asks for, it is the newest, one of the config's own settings before one
with others that decide about no weight. Where that has left out a merge which is asked for, it is the newest that has
merged what the same steps have trained. What `train` does then:

| asked | there | taken or started |
|---|---|---|
| | such a job | taken; told is what its steps, its merge or its settings were not made with |
| a merge | such a job, which has left it out | started: a job that merges, with the checkpoints of that one |
| | one merged in another `merge_dtype` | started: the config's job, with the checkpoints of that one |
| `--again` | such a job, all of it made as today | taken |
| `--again` | one whose merge other scripts have refused | started: a job of today, with the checkpoints of that one |
| `--again` | others | started: a job of today, with checkpoints only of steps that were made as today |

A name is a hash of config, data and model; that of a job made again, of what it is made with today too. So asking twice
starts one job. What made a job, whether it has merged and whose checkpoints it has is read from the job itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import JobRef, JobStatus
from lorasum.context import RunContext
from lorasum.data.changes import changed_since
from lorasum.data.store import read_manifest
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Origin, TrainingJob
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.lifecycle.planning import (
    PlannedJob,
    another_name,
    compare,
    compare_on_its_dataset,
    merge_name,
    same_steps,
)
from lorasum.models.source import ModelRef
from lorasum.reporting import Silent
from lorasum.shared.events import MERGE_LEFT_OUT


@dataclass(frozen=True, slots=True)
class FoundJob:
    """The job to start, to follow or to take as it is.

    Attributes:
        job: with the name of the job that was found, or that is to be started.
        ref: of the job that was found; None if there is none.
        status: its status; absent if there is none.
        changed: what a job that runs or has completed was not made with, but would be today.
    """

    job: PlannedJob
    ref: JobRef | None
    status: JobStatus
    changed: tuple[str, ...] = ()

    @property
    def is_made(self) -> bool:
        """Whether it runs or has completed."""
        return self.status in ("running", "completed")


@dataclass(frozen=True, slots=True)
class _Known:
    """A job with the weights that a config asks for.

    Attributes:
        other_settings: keys in which it differs from the config, and which decide about no weight.
        not_merged: why it has no merged model; empty if it has one, or none is asked for.
        steps: the job whose checkpoints it has; empty if that is gone.
    """

    name: str
    other_settings: tuple[str, ...]
    not_merged: str
    steps: str

    @property
    def lacks_merge(self) -> bool:
        """Whether it has left out what is asked for now."""
        return self.not_merged == MERGE_LEFT_OUT

    @property
    def was_refused(self) -> bool:
        return bool(self.not_merged) and not self.lacks_merge


def find_job(backend: Backend, ledger: Ledger, job: PlannedJob, again: bool) -> FoundJob:
    """The job of the config that runs or has completed; else the one to start, and its earlier attempts.

    Args:
        again: take only what the scripts, image, type and settings of today have made.
    """
    own, anew = job.spec.job_name, another_name(job.spec.job_name, backend.made_with(None))
    look = cache(lambda name: _look(backend, job.named(name)))
    made = _made(backend, ledger, job, anew, look)
    plain = _best(made)
    best = _best([known for known in made if not made[known].changed]) if again else plain
    if best and not best.lacks_merge:
        return made[best]
    if best:
        name, steps = merge_name(own if best.other_settings else best.name), best.steps
    else:
        name = anew if any(not known.other_settings for known in made) else own
        may_merge = plain and plain.was_refused and made_otherwise(backend, made[plain].ref)
        steps = plain.steps if plain and may_merge else _steps_done(backend, ledger, job, again)
    found = look(name)
    if found.is_made:  # it has merged, but not as today
        found = look(anew)
    return found if steps in ("", found.job.spec.job_name) else replace(found, job=found.job.with_steps_of(steps))


def made_otherwise(backend: Backend, job: JobRef | None) -> tuple[str, ...]:
    """What a job was not made with, but would be today. What is not on record is taken to be the same."""
    was = backend.made_with(job)
    return tuple(what for what, value in backend.made_with(None).items() if was.get(what, value) != value)


def chosen_job(run: RunContext, name: str | None = None, merged: bool | None = None) -> TrainingJob:
    """The completed job of this name; without one, the best that the config describes.

    Args:
        merged: whether a merged model is needed; by default, whether `deploy.serve` says so.

    Raises:
        LorasumError: there is none, or its artifact is gone.
    """
    done = completed(run.backend, run.ledger, run.name)
    if not done:
        raise LorasumError(f"run {run.name!r} has no trained model", "run `lorasum train` with this config first")
    chosen = _chosen(run, done, name, run.config.deploy.serve == "merged" if merged is None else merged)
    check_artifact_exists(run.backend, chosen)
    return chosen


def changed_data(run: RunContext, trained: Origin) -> str:
    """What of the config's data differs from what a model was trained on; empty if nothing does, or nobody knows."""
    manifest = read_manifest(Path(trained.dataset))
    return ", ".join(changed_since(manifest, run.config, ModelRef(trained.model), Silent())) if manifest else ""


def completed(backend: Backend, ledger: Ledger, run: str) -> list[TrainingJob]:
    """The run's completed jobs on this backend, the newest last."""
    return [row for row in recorded(backend, ledger, run) if row.state == "done"]


def check_artifact_exists(backend: Backend, job: TrainingJob) -> None:
    """Refuse a completed job whose artifact is gone."""
    if backend.training_state(JobRef(job.name, job.location)).status != "completed":
        raise LorasumError(
            f"the artifact of job {job.name} is no longer at {job.artifact}",
            f"run `lorasum train` with the config of run {job.run!r} again",
        )


def recorded(backend: Backend, ledger: Ledger, run: str) -> list[TrainingJob]:
    """The run's recorded jobs on this backend, oldest change first."""
    return [row for row in ledger.rows(TrainingJob, run) if is_here(row, backend)]


def _best(known: Iterable[_Known]) -> _Known | None:
    """The one to take, of jobs whose newest is the last."""
    order = sorted(known, key=lambda one: not one.other_settings)
    merged = [one for one in order if one.steps == order[-1].steps and not one.lacks_merge]
    return next(reversed(merged or order), None)


def _made(
    backend: Backend, ledger: Ledger, job: PlannedJob, anew: str, look: Callable[[str], FoundJob]
) -> dict[_Known, FoundJob]:
    """The jobs with the config's weights that run or have completed, the newest last: on record, or of a known name.

    Args:
        anew: the name of the job of today, whatever made its steps.
    """
    own, run = job.spec.job_name, job.spec.run
    settings: dict[str, tuple[str, ...]] = {}
    for row in recorded(backend, ledger, run):
        if (beside := compare(job.config, row, job.origin.fingerprint, job.spec.model)).same_weights:
            settings[row.name] = beside.other_settings
    settings = {name: () for name in (own, anew) if name not in settings} | settings
    made: dict[_Known, FoundJob] = {}
    while settings:
        name = next(iter(settings))
        other, found = settings.pop(name), look(name)
        if found.ref is None or not found.is_made:
            continue
        steps = backend.steps_of(run, found.ref)
        known = _Known(name, other, _not_merged(backend, ledger, found), steps.name if steps else "")
        if known.lacks_merge:  # the job that merges may be another machine's
            settings = {merge_name(own if other else name): ()} | settings
        jobs = () if name == anew else (found.ref, steps)
        changed = dict.fromkeys(what for one in jobs for what in made_otherwise(backend, one))
        made[known] = replace(found, changed=(*other, *changed))
    return made


def _look(backend: Backend, job: PlannedJob) -> FoundJob:
    ref = backend.find_training(job.spec.run, job.spec.job_name)
    return FoundJob(job, ref, backend.training_state(ref).status if ref else "absent")


def _not_merged(backend: Backend, ledger: Ledger, found: FoundJob) -> str:
    """Why a job has left its adapter alone, where a merged model is asked for: from its row or its artifact."""
    spec = found.job.spec
    if found.ref is None or found.status != "completed" or spec.adapter_only:
        return ""
    row = ledger.find(TrainingJob, spec.run, spec.job_name)
    if row and row.state == "done" and is_here(row, backend):
        return row.figures.not_merged
    record = artifact_record(backend, found.ref)
    return record.training.not_merged if record else ""


def _steps_done(backend: Backend, ledger: Ledger, job: PlannedJob, again: bool) -> str:
    """The newest job that has done the steps of a config, whatever its `merge_dtype`; empty if there is none.

    Args:
        again: only one that today's scripts, image and type have made.
    """
    for row in reversed(completed(backend, ledger, job.spec.run)):
        if same_steps(job.config, row, job.origin.fingerprint, job.spec.model):
            found = _look(backend, job.named(row.name))
            steps = backend.steps_of(row.run, found.ref) if found.ref and found.status == "completed" else None
            if steps and not (again and made_otherwise(backend, steps)):
                return steps.name
    return ""


def _chosen(run: RunContext, done: Sequence[TrainingJob], name: str | None, merged: bool) -> TrainingJob:
    newest = done[-1]
    if name is not None:
        named = [row for row in done if row.name == name]
        if not named:
            raise LorasumError(
                f"run {run.name!r} has no completed job {name!r}", f"it has {', '.join(row.name for row in done)}"
            )
        return named[0]
    known = {}
    for row in done:
        if (beside := compare_on_its_dataset(run.config, row)).same_weights:
            steps = run.backend.steps_of(run.name, JobRef(row.name, row.location))
            why = row.figures.not_merged if merged else ""
            known[_Known(row.name, beside.other_settings, why, steps.name if steps else "")] = row
    best = _best(known)
    if best is None:
        raise LorasumError(
            f"run {run.name!r} was trained with another configuration: its newest model is that of job {newest.name}",
            f"run `lorasum train` with this config, or choose that model with --job {newest.name}",
        )
    if best.name != newest.name:
        run.reporter.step(f"taking job {best.name}, which this config describes; --job {newest.name} takes the newest")
    if best.other_settings:
        other = " and ".join(best.other_settings)
        run.reporter.step(f"job {best.name} was trained with other {other}, with the same weights")
    if changed := changed_data(run, known[best].origin):
        run.reporter.warn(
            f"job {best.name} was trained before the data changed: {changed}. For a model of what is there now, "
            "prepare and train it"
        )
    return known[best]
