"""Which job stands for a config: one that runs or has completed is not started again, whatever it was made with.

A job's name is what is asked of a training: config, data and model. What the answer is made with may change under the
same name: the container scripts with each release of lorasum, the image, the instance type. So a job says what it was
made with, and who finds another decides whether to pay for a new one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import JobRef, JobStatus
from lorasum.ledger import Ledger
from lorasum.lifecycle.planning import PlannedJob
from lorasum.resources import TrainingJob


@dataclass(frozen=True, slots=True)
class Standing:
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


def standing(backend: Backend, ledger: Ledger, job: PlannedJob, again: bool) -> Standing:
    """The newest job of the config that runs or has completed; else the one to start, and its earlier attempts.

    Args:
        again: rather than one that was made with something else than today, take a new one. Its name says with what it
            is made, so that asking twice starts one job.
    """
    asked = job.spec.job_name
    made_anew = [row.name for row in _of_this(backend, ledger, job) if row.name != asked]
    for name in (*made_anew, asked):
        found = _look(backend, replace(job, spec=replace(job.spec, job_name=name)))
        if found.is_made:
            break
    if not found.is_made or found.ref is None:
        return found
    today = backend.made_with(job.spec.run, None)
    changed = _changed(backend.made_with(job.spec.run, found.ref), today)
    if not (again and changed):
        return replace(found, changed=changed)
    return _look(backend, replace(job, spec=replace(job.spec, job_name=_name_of_another(job, today))))


def _of_this(backend: Backend, ledger: Ledger, job: PlannedJob) -> list[TrainingJob]:
    """Recorded jobs that were made of the same config, data and model, the newest first."""
    rows = [row for row in ledger.rows(TrainingJob, job.spec.run) if is_here(row, backend)]
    return [row for row in reversed(rows) if row.asked_as == job.spec.job_name]


def _look(backend: Backend, job: PlannedJob) -> Standing:
    ref = backend.find_training(job.spec.run, job.spec.job_name)
    return Standing(job, ref, backend.training_state(ref).status if ref else "absent")


def _changed(was: Mapping[str, str], today: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what is another thing today. What an earlier version did not record is taken to be the same."""
    return tuple(what for what, value in today.items() if was.get(what, value) != value)


def _name_of_another(job: PlannedJob, made_with: Mapping[str, str]) -> str:
    identity = json.dumps([job.spec.job_name, dict(made_with)], sort_keys=True)
    return f"{job.spec.run}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
