"""Looks up a run's jobs: the one to start, follow or take for a config, and a completed one to serve or copy.

A job that runs or has completed is not started again, whatever it was made with. Its name is a hash of config, data and
model. The container scripts, the image and the instance type may change under the same name, so a job records them
too, and the user decides whether a difference is worth a new job (`train --again`). The same holds for settings that
decide about no weight, such as the longest summary: a job that differs in these alone is taken where there is none of
the config's own name.

A job that is to be merged in another way, by another `merge_dtype` or by scripts that can, or whose merge was left out,
has a name of its own and the checkpoints of the completed one, so no step is paid for twice.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import JobRef, JobStatus, TrainSpec
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import TrainingJob
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.lifecycle.planning import PlannedJob, compare, compare_on_its_dataset, same_steps
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


def find_job(backend: Backend, ledger: Ledger, job: PlannedJob, again: bool) -> FoundJob:
    """The newest job of the config that runs or has completed; else the one to start, and its earlier attempts.

    Where that has left its adapter alone and a merged model is asked for, it is a job that merges, and does no step.

    Args:
        again: take a new job instead of one that was made with other scripts, image or instance type than today's. Its
            name is a hash of these too, so that asking twice starts one job. Or instead of one with other settings that
            decide about no weight. Steps are repeated where other scripts, image or type have done them, unless the
            merge was refused.
    """
    found = _own_job(backend, ledger, job)
    if found.ref is None and (twin := _of_the_same_weights(backend, ledger, job)):
        lacks_merge = _lacks_merge(backend, ledger, twin)
        if twin.changed and not again and not lacks_merge:
            return twin
        found = twin if lacks_merge or not twin.changed else found
    today = backend.made_with(None)
    if _lacks_merge(backend, ledger, found):
        merge = _merge_of(backend, ledger, found)
        if not merge.is_made and not (again and _changed(backend.made_with(found.ref), today)):
            return merge
        found = merge if merge.is_made else found
    if found.is_made:
        changed = _changed(backend.made_with(found.ref), today)
        if not again or not changed:
            return replace(found, changed=changed)
        found = _look(backend, job.named(_name_of_another(job.spec, today)))
    return _with_steps_done(backend, ledger, found, again)


def chosen_job(run: RunContext, name: str | None = None) -> TrainingJob:
    """The completed job of this name; without one, the newest that the config describes.

    Raises:
        LorasumError: there is none, or its artifact is gone.
    """
    done = completed(run.backend, run.ledger, run.name)
    if not done:
        raise LorasumError(f"run {run.name!r} has no trained model", "run `lorasum train` with this config first")
    chosen = _chosen(run, done, name)
    check_artifact_exists(run.backend, chosen)
    return chosen


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


def _own_job(backend: Backend, ledger: Ledger, job: PlannedJob) -> FoundJob:
    """The newest job of the config's name, or made again under another, that runs or has completed.

    If there is none, the one of the config's name: its earlier attempts, or nothing.
    """
    asked = job.spec.job_name
    rows = reversed(recorded(backend, ledger, job.spec.run))
    for name in (row.name for row in rows if row.asked_as == asked and row.name != asked):
        if (found := _look(backend, job.named(name))).is_made:
            return found
    return _look(backend, job)


def _of_the_same_weights(backend: Backend, ledger: Ledger, job: PlannedJob) -> FoundJob | None:
    """The newest job that runs or has completed, and differs in nothing that decides about its weights."""
    for row in reversed(recorded(backend, ledger, job.spec.run)):
        compared = compare(job.config, row, job.origin.fingerprint, job.spec.model)
        if compared.same_weights and (found := _look(backend, job.named(row.name))).is_made:
            return replace(found, changed=compared.other_settings)
    return None


def _lacks_merge(backend: Backend, ledger: Ledger, found: FoundJob) -> bool:
    """Whether a completed job has left its adapter alone, and a merged model is asked for now."""
    spec = found.job.spec
    if found.ref is None or found.status != "completed" or spec.adapter_only:
        return False
    row = ledger.find(TrainingJob, spec.run, spec.job_name)
    if row and row.state == "done" and is_here(row, backend):
        return row.figures.not_merged == MERGE_LEFT_OUT
    record = artifact_record(backend, found.ref)
    return record is not None and record.training.not_merged == MERGE_LEFT_OUT


def _merge_of(backend: Backend, ledger: Ledger, found: FoundJob) -> FoundJob:
    """The job that merges what a completed one has left."""
    spec = found.job.spec
    row = ledger.find(TrainingJob, spec.run, spec.job_name)
    merge = _look(backend, found.job.named(merge_name(spec)))
    return replace(merge, job=merge.job.with_steps_of((row.steps_of if row else "") or spec.job_name))


def merge_name(spec: TrainSpec) -> str:
    """The name of the job that merges what the job of `spec` has left."""
    return _name_of_another(spec, {"merge": "asked for later"})


def _with_steps_done(backend: Backend, ledger: Ledger, found: FoundJob, again: bool) -> FoundJob:
    """A job to start, with the checkpoints of the newest completed one that has done its steps, if there is one."""
    job = found.job
    for row in reversed(completed(backend, ledger, job.spec.run)):
        if not same_steps(job.config, row, job.origin.fingerprint, job.spec.model):
            continue
        other = _look(backend, job.named(row.name))
        if other.status != "completed":
            continue
        refused = row.figures.not_merged not in ("", MERGE_LEFT_OUT)
        anew = again and not refused and _changed(backend.made_with(other.ref), backend.made_with(None))
        return found if anew else replace(found, job=job.with_steps_of(row.steps_of or row.name))
    return found


def _look(backend: Backend, job: PlannedJob) -> FoundJob:
    ref = backend.find_training(job.spec.run, job.spec.job_name)
    return FoundJob(job, ref, backend.training_state(ref).status if ref else "absent")


def _changed(was: Mapping[str, str], today: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what is another thing today. What is not on record is taken to be the same."""
    return tuple(what for what, value in today.items() if was.get(what, value) != value)


def _name_of_another(spec: TrainSpec, differs_in: Mapping[str, str]) -> str:
    identity = json.dumps([spec.job_name, dict(differs_in)], sort_keys=True)
    return f"{spec.run}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _chosen(run: RunContext, done: Sequence[TrainingJob], name: str | None) -> TrainingJob:
    newest = done[-1]
    if name is not None:
        named = [row for row in done if row.name == name]
        if not named:
            raise LorasumError(
                f"run {run.name!r} has no completed job {name!r}", f"it has {', '.join(row.name for row in done)}"
            )
        return named[0]
    compared = {row.name: compare_on_its_dataset(run.config, row) for row in done}
    same_weights = [row for row in done if compared[row.name].same_weights]
    fitting = [row for row in same_weights if not compared[row.name].other_settings] or same_weights
    if not fitting:
        raise LorasumError(
            f"run {run.name!r} was trained with another configuration: its newest model is that of job {newest.name}",
            f"run `lorasum train` with this config, or choose that model with --job {newest.name}",
        )
    if fitting[-1].name != newest.name:
        run.reporter.step(
            f"taking job {fitting[-1].name}, which this config describes; --job {newest.name} takes the newest"
        )
    if other := compared[fitting[-1].name].other_settings:
        run.reporter.step(f"job {fitting[-1].name} was trained with other {' and '.join(other)}, with the same weights")
    return fitting[-1]
