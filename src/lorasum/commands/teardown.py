"""Teardown: stop everything of a run, whether or not the ledger knows it, and see that nothing is left."""

import shutil

from lorasum import paths
from lorasum.backends.base import Backend, Live, is_here
from lorasum.commands.deploy import withdraw
from lorasum.commands.status import settle
from lorasum.commands.train import recorded_jobs, settle_job
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.ledger import OPEN, Ledger, Resource, run_lock
from lorasum.results import TeardownResult


def plan_teardown(run: RunContext, data: bool = False, artifacts: bool = False) -> list[str]:
    """What `teardown` would do, one line each; empty when there is nothing to do."""
    verbs = {"endpoint": "delete", "training_job": "stop"}
    lines = [f"{verbs[live.kind]} {live}" for live in _standing(run.backend, run.ledger, run.name)]
    run_dir = paths.run_dir(run.name)
    if data and (run_dir / "data").is_dir():
        lines.append(f"delete the datasets in {run_dir / 'data'}")
    return lines + [f"delete {stored}" for stored in run.backend.stored_files(run.name, data, artifacts)]


def teardown(run: RunContext, data: bool = False, artifacts: bool = False) -> TeardownResult:
    """Delete the run's endpoints and stop its jobs, then ask the backend what is left. Twice does nothing more.

    One that cannot be removed does not keep the others from it: it is warned of, and among what remains.

    Args:
        data: delete the prepared datasets too.
        artifacts: delete trained models, checkpoints and logs too. Both only when nothing remains running.

    Raises:
        LorasumError: another process is working on the run, or files cannot be deleted.
    """
    backend, ledger, report = run.backend, run.ledger, run.reporter
    removed: list[str] = []
    stuck: list[str] = []
    with run_lock(run.name):
        for live in _standing(backend, ledger, run.name):
            report.step(f"removing {live}")
            try:
                _remove(backend, ledger, run.name, live)
                removed.append(str(live))
            except LorasumError as error:
                report.warn(error.message)
                stuck.append(str(live))
        here, elsewhere = _open(ledger, run.name, backend)
        for row in here:
            settle(backend, ledger, row)
        left = [str(live) for live in backend.live(run.name)]
        left += [_elsewhere(row) for row in elsewhere]
        remaining = tuple(dict.fromkeys(stuck + left))
        if not remaining:
            removed += _delete_files(backend, ledger, run.name, data, artifacts)
        elif data or artifacts:
            report.warn("no files were deleted, because something still runs")
    return TeardownResult(run.name, tuple(removed), remaining)


def _standing(backend: Backend, ledger: Ledger, run: str) -> list[Live]:
    """What is there to remove: what the backend finds, and what it has under a name that only the ledger knows."""
    found = backend.live(run)
    names = {live.name for live in found}
    for row in ledger.resources(run, "endpoint"):
        if is_here(row, backend) and row.state != "gone" and row.name not in names:
            state = backend.endpoint_state(run, row.name)
            if state.status != "absent":
                found.append(Live("endpoint", row.name, state.ref.location if state.ref else ""))
    for row in recorded_jobs(ledger, run, backend):
        job = backend.find_training(run, row.name) if row.is_open and row.name not in names else None
        if job and (backend.training_state(job).status == "running" or backend.is_warm(job)):
            found.append(Live("training_job", row.name, job.location))
    return found


def _remove(backend: Backend, ledger: Ledger, run: str, live: Live) -> None:
    if live.kind == "endpoint":
        withdraw(backend, ledger, run, live.name)
        return
    job = backend.find_training(run, live.name)
    if job:
        backend.stop_training(job)
    if row := ledger.find(run, "training_job", live.name):
        state = settle_job(backend, ledger, run, live.name)
        if row.state in OPEN and state.status in ("failed", "stopped"):
            ledger.mark(run, "training_job", live.name, "gone", reason="stopped by teardown")


def _elsewhere(row: Resource) -> str:
    where = row.detail.get("where")
    return f"{row.kind.replace('_', ' ')} {row.name}, on backend {row.backend}" + (f", {where}" if where else "")


def _open(ledger: Ledger, run: str, backend: Backend) -> tuple[list[Resource], list[Resource]]:
    """Jobs and endpoints that the ledger has as running or kept warm: on this backend, and on others."""
    rows = [row for row in ledger.resources(run) if row.kind != "dataset" and row.is_open]
    return [row for row in rows if is_here(row, backend)], [row for row in rows if not is_here(row, backend)]


def _delete_files(backend: Backend, ledger: Ledger, run: str, data: bool, artifacts: bool) -> list[str]:
    deleted: list[str] = []
    datasets = paths.run_dir(run) / "data"
    try:
        if data and datasets.is_dir():
            for folder in (datasets, datasets.with_name("rejected"), datasets.with_name("reports")):
                shutil.rmtree(folder, ignore_errors=folder != datasets)
            deleted.append(f"datasets in {datasets}")
        if artifacts:
            for kept in paths.run_dir(run).glob("base_rouge_*.json"):
                kept.unlink()
        if data or artifacts:
            deleted += backend.delete_files(run, data, artifacts)
    except OSError as error:
        raise LorasumError(
            f"cannot delete files of run {run!r}: {error}", "check the folder's permissions, then run it again"
        ) from error
    kinds = [kind for kind, chosen in (("dataset", data), ("training_job", artifacts)) if chosen]
    for row in ledger.resources(run):
        if row.kind in kinds and row.state != "gone" and (row.kind == "dataset" or is_here(row, backend)):
            ledger.mark(run, row.kind, row.name, "gone")
    return deleted
