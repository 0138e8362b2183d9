"""Status: what the ledger records, after asking the backends about everything that should be running."""

from collections.abc import Mapping

from lorasum import paths
from lorasum.backends.base import Backend, is_here
from lorasum.contract import StepEvent
from lorasum.errors import BackendError
from lorasum.formatting import duration, loss
from lorasum.ledger import Ledger, usable
from lorasum.ledger_file import damage_mark
from lorasum.lifecycle.costs import cost
from lorasum.lifecycle.expiry import alarm
from lorasum.lifecycle.rebuild import rebuild, runs_here
from lorasum.lifecycle.reconcile import reconcile
from lorasum.lifecycle.trials import trial_runs
from lorasum.lock import HeldRun, LockError, hold
from lorasum.reporting import Silent
from lorasum.resources import Resource, TrainingJob, Unreadable
from lorasum.results.overview import ResourceStatus, StatusResult

_LOCK_TAKES = 10  # seconds to wait for another process


def status(
    backends: Mapping[str, Backend],
    ledger: Ledger,
    run: str | None = None,
    rebuild_on: Backend | None = None,
    everything: bool = True,
) -> StatusResult:
    """The ledger's resources and what they have cost, of all runs or of one with its trials, oldest change first.

    If the ledger cannot be read, what the backends show is recorded in a temporary one, and shown.

    Args:
        backends: by name; resources of others are shown as recorded.
        rebuild_on: records of `run`, or of all runs with a folder here, are rebuilt from what this backend shows.
        everything: whether to show what is gone and cost nothing, too.

    Raises:
        BackendError: a backend could not be asked.
        RunBusyError: records are to be rebuilt, and another process is changing the run.
    """
    done: list[str] = []
    if rebuild_on and (kept := ledger.set_unusable_aside()):
        done.append(f"set the ledger, which is of a newer lorasum, aside as {kept}")
    with usable(ledger, ledger.warn) as readable:
        sources = [rebuild_on] if rebuild_on else [] if readable is ledger else list(backends.values())
        for source in sources:
            done += _rebuilt(source, readable, run)
        runs = [run, *trial_runs(readable, run)] if run else [None]
        shown = [row for one in runs for row in _status(backends, readable, one)]
        told = [row for row in shown if everything or row.state != "gone" or row.usd != 0]
        return StatusResult(tuple(told), rebuilt=tuple(done))


def _rebuilt(backend: Backend, ledger: Ledger, run: str | None) -> list[str]:
    done = []
    for name in [run, *trial_runs(ledger, run, backend)] if run else runs_here():
        with hold(name, backend, ledger, Silent(), wait=_LOCK_TAKES) as held:
            done += [f"{name}: {line}" for line in rebuild(held, damage_mark(ledger.now().isoformat()))]
    return done


def _status(backends: Mapping[str, Backend], ledger: Ledger, run: str | None) -> list[ResourceStatus]:
    forgotten = [name for name in runs_here() if run in (None, name) and not ledger.resources(name)]
    if forgotten:
        ledger.warn(
            f"nothing is on record of run {', '.join(forgotten)}, which has files in {paths.home() / 'runs'}: "
            "`lorasum status --rebuild` records it again"
        )
    asked: set[tuple[str, str]] = set()
    runs_on = {(row.run, row.backend) for row in ledger.resources(run) if _can_be_asked(row, backends)}
    for name, backend in sorted(runs_on):
        try:
            with hold(name, backends[backend], ledger, Silent(), wait=0) as held:
                _reconcile_all(held)
                asked.add((name, backend))
        except LockError:
            continue  # the process that is changing the run writes its record; or nobody can, on a read-only disk
    now = ledger.now()

    def shown(row: Resource) -> ResourceStatus:
        was_asked = (row.run, row.backend) in asked and _can_be_asked(row, backends)
        progress = _progress(row, backends[row.backend] if was_asked else None)
        knows = was_asked or not row.is_open
        return ResourceStatus.of(row, cost(row, now), alarm(row, now, was_asked), progress, knows)

    return [shown(row) for row in ledger.resources(run)]


def _progress(row: Resource, backend: Backend | None) -> str:
    """How far a job is, by its newest event, or the losses that it ended with; empty where nobody knows."""
    if not isinstance(row, TrainingJob):
        return ""
    if row.state == "done":
        return f"loss {loss(row.figures.train_loss)}, test {loss(row.figures.eval_loss)}"
    reference = backend.find_training(row.run, row.name) if backend else None
    if backend is None or reference is None:
        return ""
    try:
        steps = [event for event in backend.training_events(reference) if isinstance(event, StepEvent)]
    except BackendError:
        return ""  # whoever may not read the log sees the rest
    if not steps:
        return "before its first step"
    step = steps[-1]
    return f"step {step.step:,}/{step.steps:,}, loss {loss(step.loss)}, {duration(step.eta_seconds)} left"


def _reconcile_all(held: HeldRun) -> None:
    for row in held.ledger.resources(held.name):
        if _can_be_asked(row, {held.backend.name: held.backend}):
            reconcile(held, row)


def _can_be_asked(row: Resource, backends: Mapping[str, Backend]) -> bool:
    if isinstance(row, Unreadable):
        return False  # it is shown as such, and teardown sees what it stands for
    return row.is_open and row.backend in backends and is_here(row, backends[row.backend])
