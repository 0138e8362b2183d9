"""Status: what the ledger records, after asking the backends about everything that should be running."""

from collections.abc import Iterator, Sequence

from lorasum.backends.base import Backend, is_here
from lorasum.errors import BackendError
from lorasum.ledger.database import damage_mark
from lorasum.ledger.ledger import Ledger, usable
from lorasum.ledger.resources import BatchJob, Resource, TrainingJob, Unreadable
from lorasum.lifecycle.costs import cost
from lorasum.lifecycle.expiry import alarm
from lorasum.lifecycle.leftovers import open_runs, warn_without_ledger
from lorasum.lifecycle.rebuild import rebuild, runs_here
from lorasum.lifecycle.reconcile import reconcile
from lorasum.lifecycle.trials import trial_runs
from lorasum.lock import HeldRun, LockError, RunBusyError, hold
from lorasum.reporting import Silent
from lorasum.results.overview import Progress, ResourceStatus, RunResource, StatusResult
from lorasum.shared.events import StepEvent
from lorasum.system import paths

_LOCK_TAKES = 10  # seconds to wait for another process


def status(
    backends: Sequence[Backend],
    ledger: Ledger,
    run: str | None = None,
    rebuild_on: Backend | None = None,
    everything: bool = True,
    account: Backend | None = None,
) -> StatusResult:
    """The ledger's resources and what they have cost, of all runs or of one with its trials, oldest change first.

    If the ledger cannot be read, what the backends show is recorded in a temporary one, and shown.

    Args:
        backends: are asked; what is on record elsewhere is shown as recorded. So is, if all runs are shown, what a
            backend cannot tell, after a warning.
        account: tell of what runs on this backend without a record, too. Nothing of it is recorded: another `teardown
            --all` would end what may be a colleague's.
        rebuild_on: records of `run`, or of all runs with a folder here, are rebuilt from what this backend shows.
        everything: whether to show what is gone and cost nothing, too.

    Raises:
        BackendError: a backend could not be asked about `run`.
        RunBusyError: records are to be rebuilt, and another process is changing the run.
    """
    done: list[str] = []
    if rebuild_on and (kept := ledger.set_unusable_aside()):
        done.append(f"set the ledger, which is of a newer lorasum, aside as {kept}")
    with usable(ledger, ledger.warn) as readable:
        sources = [rebuild_on] if rebuild_on else [] if readable is ledger else backends
        for source in sources:
            done += _rebuilt(source, readable, run)
        runs = [run, *trial_runs(readable, run)] if run else [None]
        shown = [row for one in runs for row in _status(backends, readable, one)]
        told = [row for row in shown if everything or row.state != "gone" or row.usd != 0]
        if run and not told and (others := open_runs(readable)):
            ledger.warn(f"of other runs these may run: {others}; `lorasum status` shows them")
        alarms = tuple(one.as_alarm() for one in told if one.alarm)
        alarms += tuple(_unrecorded(account, readable)) if account else ()
        return StatusResult(tuple(told), alarms, tuple(done), run, () if rebuild_on else ledger.unread())


def _unrecorded(backend: Backend, ledger: Ledger) -> Iterator[RunResource]:
    known = {(row.run, row.name) for row in ledger.resources() if row.is_open and is_here(row, backend)}
    for run in backend.runs(""):
        for one in backend.live(run):
            if (run, one.name) not in known and not one.free_rest:
                ends = f"lorasum teardown CONFIG --set name={run} --set sweep=null"  # a sweep's name must be shorter
                yield RunResource(
                    run=run,
                    kind=one.kind,
                    name=one.name,
                    backend=backend.name,
                    account_and_region=backend.account_and_region or None,
                    location=one.location or None,
                    reason=f"it runs without a record here: `{ends}` ends it",
                    usd_per_hour=None,
                )


def _rebuilt(backend: Backend, ledger: Ledger, run: str | None) -> list[str]:
    done = []
    for name in [run, *trial_runs(ledger, run, backend)] if run else runs_here():
        with hold(name, backend, ledger, Silent(), wait=_LOCK_TAKES) as held:
            done += [f"{name}: {line}" for line in rebuild(held, damage_mark(ledger.now().isoformat()))]
    return done


def _status(backends: Sequence[Backend], ledger: Ledger, run: str | None) -> list[ResourceStatus]:
    forgotten = [name for name in runs_here() if run in (None, name) and not ledger.resources(name)]
    if forgotten:
        ledger.warn(
            f"nothing is on record of run {', '.join(forgotten)}, which has files in {paths.home() / 'runs'}: "
            "`lorasum status --rebuild` records it again"
        )
    else:
        warn_without_ledger(ledger)
    asked, busy = _asked(backends, ledger, run)
    now = ledger.now()

    def shown(row: Resource) -> ResourceStatus:
        backend = _seen_by(row, [one for name, one in asked if name == row.run])
        progress = _progress(row, backend)
        knows = backend is not None or not row.is_open
        why = alarm(row, now, backend is not None, row.run in busy)
        return ResourceStatus.of(row, cost(row, now), why, progress, knows)

    return [shown(row) for row in ledger.resources(run)]


def _asked(backends: Sequence[Backend], ledger: Ledger, run: str | None) -> tuple[list[tuple[str, Backend]], set[str]]:
    """Bring the records in line with what the backends show.

    Returns the runs with the backends that told of them, and those that another process is changing.
    """
    seen = [(row.run, _seen_by(row, backends)) for row in ledger.resources(run)]
    asked, busy = [], set()
    for name, backend in dict.fromkeys(seen):
        if backend is None:
            continue
        try:
            with hold(name, backend, ledger, Silent(), wait=0) as held:
                _reconcile_all(held)
        except RunBusyError:
            busy.add(name)  # the process that is changing the run writes its record
            continue
        except LockError:
            continue  # nobody can write a record, on a read-only disk
        except BackendError as error:
            if run:
                raise
            ledger.warn(f"{error.message}: run {name!r} is shown as recorded")
            continue
        asked.append((name, backend))
    return asked, busy


def _progress(row: Resource, backend: Backend | None) -> Progress | None:
    """How far a job is, by its newest event, or the losses that it ended with; None where nobody knows."""
    if not isinstance(row, TrainingJob | BatchJob):
        return None
    if isinstance(row, TrainingJob) and row.state == "done":
        return Progress(train_loss=row.figures.train_loss, eval_loss=row.figures.eval_loss)
    reference = backend.find_training(row.run, row.name) if backend else None
    if backend is None or reference is None:
        return None
    try:
        steps = [event for event in backend.training_events(reference) if isinstance(event, StepEvent)]
    except BackendError:
        return None  # whoever may not read the log sees the rest
    if not steps:
        return Progress(step=0)
    newest = steps[-1]
    left = newest.eta_seconds if newest.step < newest.steps else None  # the merge and more come after the last step
    return Progress(newest.step, newest.steps, newest.loss, seconds_left=left)


def _reconcile_all(held: HeldRun) -> None:
    for row in held.ledger.resources(held.name):
        if _seen_by(row, [held.backend]):
            reconcile(held, row)


def _seen_by(row: Resource, backends: Sequence[Backend]) -> Backend | None:
    """The backend to ask about what a row has as running. An unreadable row is shown as such, and not asked about."""
    if isinstance(row, Unreadable) or not row.is_open:
        return None
    return next((one for one in backends if is_here(row, one)), None)
