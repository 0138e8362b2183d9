"""Rebuild a run's records: from what the backend shows, and from the run's folder.

The ledger may have been damaged, emptied or lost, and some of its rows may be unreadable. What it has is kept. A job or
an endpoint that runs is recorded whatever else is unknown about it, because it may be billed.
"""

from dataclasses import replace

from lorasum.backends.base import is_here
from lorasum.backends.records import EndpointState, JobRef
from lorasum.data.store import read_manifest
from lorasum.errors import BackendError
from lorasum.ledger.resources import BatchJob, Dataset, Endpoint, Origin, Resource, TrainingJob, Unreadable
from lorasum.lifecycle import batches, jobs
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.lifecycle.endpoints import row_of, spent
from lorasum.lifecycle.reconcile import reconcile
from lorasum.lock import HeldRun
from lorasum.shared.records import ArtifactRecord
from lorasum.system import paths

UNKNOWN_ORIGIN = Origin(template="")


def rebuild(held: HeldRun, mark: str) -> list[str]:
    """Set damaged records aside, and record what the ledger lacks. Returns what was done, one line each.

    Args:
        mark: ends the names of what is set aside.

    Raises:
        BackendError: the backend could not be asked.
    """
    done = held.backend.set_damaged_aside(held.name, mark)
    done += _datasets(held) + _jobs(held) + _endpoints(held)
    for row in held.ledger.resources(held.name):
        if isinstance(row, Unreadable) and row.is_open and is_here(row, held.backend):
            reconcile(held, row)
            done.append(f"could not read the record of {row}, of which nothing runs")
    return done


def origin_of(run: str, record: ArtifactRecord | None) -> Origin:
    """Where an artifact came from, by its own record. `train` with the run's config knows it better."""
    if record is None or not record.template:
        return UNKNOWN_ORIGIN
    return Origin(
        template=record.template,
        control_tokens=record.control_tokens,
        dataset=str(paths.run_dir(run) / "data" / record.dataset_fingerprint),
        fingerprint=record.dataset_fingerprint,
        model=record.base_model,
        model_revision=record.base_revision or "",
    )


def _datasets(held: HeldRun) -> list[str]:
    """Record the finished datasets of the run's folder, the newest last: `train` takes that one."""
    folder = paths.run_dir(held.name) / "data"
    found = [path for path in folder.iterdir() if read_manifest(path)] if folder.is_dir() else []
    known = {row.name for row in held.ledger.rows(Dataset, held.name)}
    lacking = sorted((path for path in found if path.name not in known), key=lambda path: path.stat().st_mtime)
    for path in lacking:
        row = Dataset(run=held.name, name=path.name, backend=held.backend.name, path=str(path))
        held.ledger.save(replace(held.ledger.intend(row), state="done"))
    return [f"recorded dataset {path.name}" for path in lacking]


def _jobs(held: HeldRun) -> list[str]:
    """Record jobs that the ledger does not have, or that run although it has them as ended."""
    live = {running.name for running in held.backend.live(held.name) if running.kind == "training_job"}
    done = []
    for job in held.backend.training_jobs(held.name):
        if batches.is_batch(held.name, job.name):
            if held.ledger.find(BatchJob, held.name, job.name) is None:
                done.append(f"recorded batch job {job.name}, {batches.reconcile(held, job).status}")
            continue
        row = held.ledger.find(TrainingJob, held.name, job.name)
        if row and (row.is_open or job.name not in live):
            done += _elsewhere(held, row)
            continue
        origin = row.origin if row else origin_of(held.name, _record(held, job))
        held.ledger.intend(
            TrainingJob(
                run=held.name,
                name=job.name,
                asked_as=job.name,
                backend=held.backend.name,
                account_and_region=held.backend.account_and_region,
                access=held.backend.access,
                origin=origin,
                usd_per_hour=held.backend.usd_per_hour("training_job"),
                usd_before=held.backend.training_usd(job),
            )
        )
        state = jobs.reconcile(held, TrainingJob, job.name)
        done.append(f"recorded training job {job.name}, {state.status}")
    return done


def _endpoints(held: HeldRun) -> list[str]:
    """Record endpoints that run and are not on record as running, with what they have cost since they were started."""
    done = []
    for running in held.backend.live(held.name):
        row = held.ledger.find(Endpoint, held.name, running.name)
        if running.kind != "endpoint":
            continue
        if row and row.is_open:
            done += _elsewhere(held, row)
            continue
        state = held.backend.endpoint_state(held.name, running.name)
        artifact = state.ref.artifact if state.ref else ""
        unseen = row_of(held.backend, held.name, running.name, artifact, UNKNOWN_ORIGIN)
        total = spent(held.backend, row, state, held.ledger.now())
        held.ledger.save(_served(held, state, held.ledger.intend(replace(unseen, usd_before=total))))
        done.append(f"recorded endpoint {running.name}, {state.status}")
    return done


def _elsewhere(held: HeldRun, row: Resource) -> list[str]:
    """A name that is on record as running in another place keeps that record: nothing there is to be forgotten."""
    if not row.is_open or is_here(row, held.backend):
        return []
    return [f"{row} is here too, but on record as running on {row.backend}: `lorasum teardown` removes both"]


def _served(held: HeldRun, state: EndpointState, row: Endpoint) -> Endpoint:
    """The row as live if it serves a job's artifact. Otherwise it stays intended, until `deploy` has asked it."""
    made = [job for job in held.ledger.rows(TrainingJob, held.name) if job.artifact and job.artifact == row.artifact]
    if state.status != "in_service" or state.ref is None or not made or made[-1].origin == UNKNOWN_ORIGIN:
        return row
    return replace(row, state="live", job=made[-1].name, origin=made[-1].origin, location=state.ref.location)


def _record(held: HeldRun, job: JobRef) -> ArtifactRecord | None:
    try:
        return artifact_record(held.backend, job)
    except BackendError:  # it is damaged: the job is recorded all the same
        return None


def runs_here() -> list[str]:
    """Names of the runs that have a dataset, a job or an endpoint on this machine."""
    made = ("data", "jobs", "endpoints")
    return [name for name in paths.runs() if any((paths.run_dir(name) / part).exists() for part in made)]
