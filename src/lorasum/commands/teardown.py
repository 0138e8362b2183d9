"""Teardown: stop everything of a run, whether or not the ledger knows it, and see that nothing is left."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial

from lorasum.backends.base import Backend, RunningResource, is_active, is_here
from lorasum.context import Run
from lorasum.errors import BackendError, InterruptedRunError, LorasumError, OutageError
from lorasum.ledger.ledger import Ledger, usable
from lorasum.ledger.resources import BatchJob, Dataset, Endpoint, Resource, TrainingJob, is_of_unknown_place, kind_of
from lorasum.lifecycle import endpoints, jobs, leftovers, run_files
from lorasum.lifecycle.costs import known_price
from lorasum.lifecycle.reconcile import reconcile
from lorasum.lifecycle.teardowns import note_teardown
from lorasum.lifecycle.trials import trial_runs
from lorasum.lock import HeldRun
from lorasum.reporting import Reporter
from lorasum.results.overview import RunResource
from lorasum.results.serving import TeardownResult
from lorasum.system import paths
from lorasum.system.retry import until_answered

_RUNS = "it still runs"
_LOCK_TAKES = 10  # seconds to wait for another process: nobody wants a teardown that hangs
_BETWEEN_TRIES = 5.0  # seconds, while the backend does not answer: what it has is billed meanwhile


def plan_teardown(run: Run, data: bool = False, artifacts: bool = False) -> list[str]:
    """What `teardown` would do, one line each; empty if there is nothing to do."""
    with _usable_ledger(run) as readable:
        return [line for one in (readable, *_trials(readable)) for line in _plan(one, data, artifacts)]


def _plan(run: Run, data: bool, artifacts: bool) -> list[str]:
    lines = [running.removal for running in _standing(run)]
    if data and (datasets := paths.run_dir(run.name) / "data").is_dir():
        lines.append(f"delete the datasets in {datasets}")
    return lines + [f"delete {stored}" for stored in run.backend.stored_files(run.name, data, artifacts)]


def teardown(run: Run, data: bool = False, artifacts: bool = False) -> TeardownResult:
    """Delete the run's endpoints and stop its jobs, then ask the backend what is left. Twice does nothing more.

    Of a run that was swept, the trials are torn down too. All are asked to end before one is waited for.

    If one cannot be removed, the others still are: a warning names it, and it is among what remains. A ledger that
    cannot be read stops nothing either: then only the backend is asked.

    Args:
        data: delete the prepared datasets too.
        artifacts: delete trained models and checkpoints too. Both only when nothing remains running.

    Raises:
        LorasumError: another process is working on the run or a trial, or files cannot be deleted: another run's
            endpoint serves this run's adapter, for one. What could be removed is removed.
    """
    note_teardown(run.name)
    try:
        with _usable_ledger(run) as readable, _first_raised(run.reporter) as errors:
            if readable.ledger is run.ledger and (unknown := leftovers.not_on_record(run.ledger, run.name)):
                run.reporter.warn(unknown)
            trials = until_answered(lambda: _trials(readable), _BETWEEN_TRIES, run.reporter)
            results = _all_torn_down([readable, *trials], errors, data, artifacts)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"teardown of run {run.name!r} was interrupted: what it had not removed yet may still run",
            "the same command continues with it",
        ) from None
    return _together(run.name, results)


def plan_all(ledger: Ledger, backends: Sequence[Backend], report: Reporter) -> list[str]:
    """What `teardown_all` would do, one line each; empty if there is nothing to do."""
    lines = (
        f"{running.removal} of run {run}"
        for backend in backends
        for run in _running_on(backend, ledger)
        for running in _standing(_on(backend, run, ledger, report))
    )
    return list(dict.fromkeys(lines))  # one account may be reached in two ways


def teardown_all(ledger: Ledger, backends: Sequence[Backend], report: Reporter) -> TeardownResult:
    """Tear down every run of which something runs on one of the backends, without its config.

    Raises:
        LorasumError: a run cannot be torn down. The others are.
        InterruptedRunError: Ctrl-C.
    """
    leftovers.warn_without_ledger(ledger)
    for run in paths.runs():
        note_teardown(run)  # of which nothing may run just now
    torn: list[TeardownResult] = []
    try:
        with _first_raised(report) as errors:
            for backend in backends:
                runs = [_on(backend, run, ledger, report) for run in _running_on(backend, ledger)]
                torn += _all_torn_down(runs, errors)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "teardown was interrupted: what it had not removed yet may still run", "the same command continues with it"
        ) from None
    rows = ledger.resources()
    seen_elsewhere = {_elsewhere(row) for row in rows}  # by a backend that comes after, or by none
    left = [_elsewhere(row) for row in rows if _may_run(row) and not any(_is_known_here(row, one) for one in backends)]
    result = _together(None, torn)
    return replace(result, remaining=(*(one for one in result.remaining if one not in seen_elsewhere), *left))


def _together(run: str | None, torn: Sequence[TeardownResult]) -> TeardownResult:
    return TeardownResult(
        run,
        removed=tuple(resource for one in torn for resource in one.removed),
        deleted=tuple(place for one in torn for place in one.deleted),
        remaining=tuple(resource for one in torn for resource in one.remaining),
    )


def _on(backend: Backend, run: str, ledger: Ledger, report: Reporter) -> Run:
    return Run(run, lambda: backend, ledger, report)


def _running_on(backend: Backend, ledger: Ledger) -> list[str]:
    """The runs of which something may run there by the ledger and, on this machine, whatever is on record."""
    recorded = {row.run for row in ledger.resources() if _may_run(row) and _is_known_here(row, backend)}
    here = set() if backend.account_and_region else {run for run in paths.runs() if backend.live(run)}
    return sorted(recorded | here)


def _is_known_here(row: Resource, backend: Backend) -> bool:
    """Whether no other account or region needs to be asked about a row before it counts as gone."""
    return is_here(row, backend) and not is_of_unknown_place(row)


def _may_run(row: Resource) -> bool:
    return row.is_open and not isinstance(row, Dataset)


def _all_torn_down(
    runs: Sequence[Run], errors: list[LorasumError], data: bool = False, artifacts: bool = False
) -> list[TeardownResult]:
    """Tear down several runs, whose ledger can be read, at the same time: what ends is billed until it has ended.

    Args:
        errors: gets those that concern one of the runs.
    """
    results = []
    with ExitStack() as locks:
        found = []
        for run in runs:
            with _kept(errors):
                held = locks.enter_context(run.hold(_LOCK_TAKES))
                found.append((held, until_answered(partial(_standing, run), _BETWEEN_TRIES, run.reporter)))
        several = [(held, running) for held, standing in found for running in standing]
        for held, running in several if len(several) > 1 else ():
            with suppress(BackendError):  # it is asked again when it is waited for, and that error is told
                held.backend.begin_to_end(held.name, running)
        for held, standing in found:
            with _kept(errors):
                results.append(_torn_down(held, standing, data, artifacts))
    return results


def _torn_down(held: HeldRun, standing: Sequence[RunningResource], data: bool, artifacts: bool) -> TeardownResult:
    removed, stuck = _remove_all(held, standing)
    left = until_answered(lambda: _left(held), _BETWEEN_TRIES, held.reporter)
    remaining = {(one.kind, one.name, one.backend): one for one in (*left, *stuck)}  # why it is stuck says more
    deleted: list[str] = []
    if not remaining:
        deleted = run_files.delete(held, data, artifacts)
        run_files.tell_of_what_stays(held, data, artifacts)
    elif data or artifacts:
        held.reporter.warn("no files were deleted, because something still runs")
    return TeardownResult(held.name, tuple(removed), tuple(deleted), tuple(remaining.values()))


@contextmanager
def _first_raised(reporter: Reporter) -> Iterator[list[LorasumError]]:
    """A list of errors, of which the first is raised at the end of the block, and the others are told before."""
    errors: list[LorasumError] = []
    yield errors
    for other in errors[1:]:
        reporter.warn(other.message)
    if errors:
        raise errors[0]


@contextmanager
def _kept(errors: list[LorasumError]) -> Iterator[None]:
    """Keep an error of the block for later, so that what comes after the block is done all the same."""
    try:
        yield
    except LorasumError as error:
        errors.append(error)


def _trials(run: Run) -> list[Run]:
    """The trials of the run's sweep: those on record, and those that the backend has, whoever started them."""
    try:
        names = trial_runs(run.ledger, run.name, run.backend)
    except OutageError:
        raise
    except BackendError:  # who may not list is told so when the run's own resources are looked for
        names = trial_runs(run.ledger, run.name)
    return [Run(name, run.connect, run.ledger, run.reporter) for name in names]


@contextmanager
def _usable_ledger(run: Run) -> Iterator[Run]:
    """The run with its ledger, or with an empty one if that cannot be read."""
    with usable(run.ledger, run.reporter.warn) as ledger:
        yield Run(run.name, run.connect, ledger, run.reporter)


def _standing(run: Run) -> list[RunningResource]:
    """The resources to remove: those that the backend lists, and those that it has under a name in the ledger.

    Whoever may not list can still remove what is on record. The look at the end then fails.
    """
    try:
        standing = run.backend.live(run.name)
    except OutageError:
        raise
    except BackendError as error:
        run.reporter.warn(f"{error.message}: only what is on record is looked for")
        standing = []
    names = {running.name for running in standing}
    for row in run.ledger.resources(run.name):
        if row.name in names or (row.state == "gone" and not row.is_open) or not is_here(row, run.backend):
            continue
        if kind_of(row) == Endpoint.kind:
            state = run.backend.endpoint_state(run.name, row.name)
            if state.status != "absent":
                standing.append(RunningResource("endpoint", row.name, state.ref.location if state.ref else ""))
        elif kind_of(row) in (TrainingJob.kind, BatchJob.kind) and row.is_open:
            job = run.backend.find_training(run.name, row.name)
            if job and is_active(run.backend, job):
                standing.append(RunningResource("training_job", row.name, job.location))
    return standing


def _remove_all(held: HeldRun, standing: Sequence[RunningResource]) -> tuple[list[RunResource], list[RunResource]]:
    """The resources that were removed, and those that could not be."""
    removed, stuck = [], []
    for running in standing:
        held.reporter.step(f"removing {running}")
        remove = endpoints.delete if running.kind == "endpoint" else jobs.stop
        told = _told(held, running, "")
        try:
            until_answered(partial(remove, held, running.name), _BETWEEN_TRIES, held.reporter)
            removed.append(told)
        except LorasumError as error:
            held.reporter.warn(error.message)
            stuck.append(replace(told, reason=error.message))
    return removed, stuck


def _told(held: HeldRun, running: RunningResource, reason: str) -> RunResource:
    """What the backend shows, with what is on record of it."""
    row = next((row for row in held.ledger.resources(held.name) if row.name == running.name), None)
    price = row.usd_per_hour if row else known_price(held.backend, running.kind)
    return RunResource(
        run=held.name,
        kind=kind_of(row) if row else running.kind,
        name=running.name,
        backend=held.backend.name,
        account_and_region=held.backend.account_and_region or None,
        location=running.location or None,
        reason=f"{running.free_rest}, which cost nothing" if running.free_rest else reason,
        usd_per_hour=0.0 if running.free_rest else price,
    )


def _left(held: HeldRun) -> list[RunResource]:
    """What still runs, asked anew, and what may run where this backend cannot see. Its lists may lag behind."""
    here, elsewhere = _open(held)
    for row in here:
        reconcile(held, row)
    listed = held.backend.live(held.name)
    names = [running.name for running in listed if not running.free_rest]
    unlisted = [row for row in _open(held)[0] if row.name not in names]
    return [
        *(_told(held, running, _RUNS) for running in listed),
        *(RunResource.of_row(row, row.reason if row.state == "intended" and row.reason else _RUNS) for row in unlisted),
        *map(_elsewhere, elsewhere),
    ]


def _elsewhere(row: Resource) -> RunResource:
    place = ", ".join(filter(None, (row.backend, row.account_and_region)))
    return RunResource.of_row(row, f"it is on backend {place}, which was not asked")


def _open(held: HeldRun) -> tuple[list[Resource], list[Resource]]:
    """Jobs and endpoints that the ledger has as running or kept warm: on this backend, and on others."""
    rows = [row for row in held.ledger.resources(held.name) if _may_run(row)]
    here = [row for row in rows if is_here(row, held.backend)]
    return here, [row for row in rows if row not in here]
