"""clean: free this machine's disk of old runs and of base models that are made again when they are needed."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from lorasum.backends.base import Backend
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import BatchJob, Dataset, Endpoint, Resource, TrainingJob
from lorasum.lifecycle.teardowns import MARK
from lorasum.lock import RunBusyError, hold
from lorasum.reporting import Reporter
from lorasum.results.overview import CleanFolder, CleanResult
from lorasum.system import paths
from lorasum.system.files import disk_usage

_LOCK_TAKES = 1.0  # seconds to wait for a process that works on a run: such a run is not cleaned


def plan_clean(
    ledger: Ledger, backend: Backend, runs: Sequence[str] = (), age: timedelta | None = None, models: bool = False
) -> list[CleanFolder]:
    """What `clean` would delete: nothing of a run that has something running, here or elsewhere.

    Args:
        backend: of this machine.
        runs: names of runs.
        age: runs that have not been changed for so long.
        models: base models that were converted, too.

    Raises:
        LorasumError: nothing is asked for, a run that is named is not there or has something running, or models are
            asked for while any run has.
    """
    if not runs and age is None and not models:
        raise LorasumError(
            "nothing to clean is named", "name a run, --older-than 30d or --models; `lorasum runs` lists the runs"
        )
    there = paths.runs()
    live = [name for name in there if _is_live(name, ledger, backend)]
    for name in runs:
        if name not in there:
            raise LorasumError(f"there is no run {name!r} on this disk", "`lorasum runs` lists them")
        if name in live:
            raise LorasumError(
                f"run {name!r} is still in use: a job or endpoint runs, or another endpoint serves its adapter",
                "`lorasum status` shows what; `lorasum teardown` with the config ends it",
            )
    ended = [name for name in there if name not in live]
    old = [name for name in ended if age is not None and _last_change(name, ledger) < ledger.now() - age]
    folders = {name: paths.run_dir(name) for name in sorted({*runs, *old})}
    found = [CleanFolder("run", name, str(folder), disk_usage(folder)[0]) for name, folder in folders.items()]
    if models and live:
        raise LorasumError(f"models are kept while run {live[0]!r} has something running", "leave out --models for now")
    if models and (cache := paths.model_cache()).is_dir():
        kept = [path for path in sorted(cache.iterdir()) if path.is_dir()]
        found += [CleanFolder("model", path.name, str(path), disk_usage(path)[0]) for path in kept]
    return found


def clean(ledger: Ledger, backend: Backend, report: Reporter, planned: Sequence[CleanFolder]) -> CleanResult:
    """Delete what was planned. A run that another process works on by now is left, with a warning.

    Raises:
        LorasumError: a folder cannot be deleted.
    """
    freed: list[CleanFolder] = []
    for one in planned:
        try:
            if one.kind == "run":
                _clean_run(one, ledger, backend, report)
            else:
                _clean_model(one, ledger, backend)
        except RunBusyError as error:
            report.warn(f"{error.message}: it is left")
            continue
        freed.append(one)
    return CleanResult.of(freed)


def _clean_run(one: CleanFolder, ledger: Ledger, backend: Backend, report: Reporter) -> None:
    with hold(one.name, backend, ledger, report, _LOCK_TAKES):
        if _is_live(one.name, ledger, backend):
            raise RunBusyError(f"run {one.name!r} has something running")
        for row in ledger.resources(one.name):
            if row.state != "gone" and row.backend == backend.name:
                ledger.save(replace(row, state="gone", reason="cleaned"))
            elif row.state != "gone" and isinstance(row, Dataset):
                ledger.note(replace(row, reason="no longer on this disk, and still in S3"))
        for path in Path(one.location).iterdir():
            if path.name != "lock":  # it is held
                _delete(path)
        _tell_of_what_stays(one.name, ledger, backend, report)
    _delete(Path(one.location))


def _tell_of_what_stays(name: str, ledger: Ledger, backend: Backend, report: Reporter) -> None:
    """Say that files of the run are billed elsewhere, as far as the records tell: nobody is asked."""
    there = {
        row.account_and_region for row in ledger.resources(name) if row.state != "gone" and _is_elsewhere(row, backend)
    }
    if there:
        places = f" ({'; '.join(sorted(filter(None, there)))})" if any(there) else ""
        report.step(
            f"files of run {name!r} stay in S3{places} and are billed by the month: "
            "`lorasum teardown --data --artifacts` with its config deletes them"
        )


def _is_elsewhere(row: Resource, backend: Backend) -> bool:
    return row.backend != backend.name and isinstance(row, Dataset | TrainingJob | BatchJob)


def _clean_model(one: CleanFolder, ledger: Ledger, backend: Backend) -> None:
    if any(_is_live(name, ledger, backend) for name in paths.runs()):  # by now: somebody was asked in between
        raise RunBusyError(f"model {one.name} may be in use, since something runs")
    _delete(Path(one.location))


def _is_live(name: str, ledger: Ledger, backend: Backend) -> bool:
    """Whether something of the run is running, or another run's endpoint serves its adapter."""
    rows: list[Resource] = ledger.resources(name)
    serving = [row for row in ledger.rows(Endpoint) if row.is_open and name in [one.run for one in row.adapters]]
    return any(row.is_open for row in rows) or bool(serving) or bool(backend.live(name))


def _last_change(name: str, ledger: Ledger) -> datetime:
    """When a run was last changed, by its records, or else by its files."""
    recorded = [datetime.fromisoformat(row.updated_at) for row in ledger.resources(name)]
    zone = ledger.now().tzinfo
    return max(recorded, default=datetime.fromtimestamp(disk_usage(paths.run_dir(name), MARK)[1], zone))


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise LorasumError(
            f"cannot delete {path}: {error}", "check the folder's permissions, then run it again"
        ) from error
