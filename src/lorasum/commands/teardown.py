"""Teardown: stop everything of a run, whether or not the ledger knows it, and see that nothing is left."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial

from lorasum import paths
from lorasum.backends.base import Backend, RunningResource, is_active, is_here
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError, InterruptedRunError, LorasumError, OutageError
from lorasum.ledger import Ledger, usable
from lorasum.lifecycle import endpoints, jobs
from lorasum.lifecycle.costs import known_price
from lorasum.lifecycle.reconcile import reconcile
from lorasum.lifecycle.teardowns import note_teardown
from lorasum.lifecycle.trials import trial_runs
from lorasum.lock import HeldRun
from lorasum.reporting import Reporter
from lorasum.resources import BatchJob, Dataset, Endpoint, Resource, TrainingJob, kind_of
from lorasum.results.serving import TeardownAllResult, TeardownResult
from lorasum.retry import until_answered

_LOCK_TAKES = 10  # seconds to wait for another process: nobody wants a teardown that hangs
_BETWEEN_TRIES = 5.0  # seconds, while the backend does not answer: what it has is billed meanwhile


def plan_teardown(run: RunContext, data: bool = False, artifacts: bool = False) -> list[str]:
    """What `teardown` would do, one line each; empty if there is nothing to do."""
    with _usable_ledger(run) as readable:
        return [line for one in (readable, *_trials(readable)) for line in _plan(one, data, artifacts)]


def _plan(run: RunContext, data: bool, artifacts: bool) -> list[str]:
    lines = [running.removal for running in _standing(run)]
    run_dir = paths.run_dir(run.name)
    if data and (run_dir / "data").is_dir():
        lines.append(f"delete the datasets in {run_dir / 'data'}")
    return lines + [f"delete {stored}" for stored in run.backend.stored_files(run.name, data, artifacts)]


def teardown(run: RunContext, data: bool = False, artifacts: bool = False) -> TeardownResult:
    """Delete the run's endpoints and stop its jobs, then ask the backend what is left. Twice does nothing more.

    Of a run that was swept, the trials are torn down too. All are asked to end before one is waited for.

    If one cannot be removed, the others still are: a warning names it, and it is among what remains. A ledger that
    cannot be read stops nothing either: then only the backend is asked.

    Args:
        data: delete the prepared datasets too.
        artifacts: delete trained models, checkpoints and logs too. Both only when nothing remains running.

    Raises:
        LorasumError: another process is working on the run or a trial, or files cannot be deleted: another run's
            endpoint serves this run's adapter, for one. What could be removed is removed.
    """
    note_teardown(run.name)
    try:
        with _usable_ledger(run) as readable:
            trials = until_answered(lambda: _trials(readable), _BETWEEN_TRIES, run.reporter)
            results = _all_torn_down([readable, *trials], data, artifacts)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"teardown of run {run.name!r} was interrupted: what it had not removed yet may still run",
            "the same command goes on with it",
        ) from None
    removed = tuple(line for one in results for line in one.removed)
    remaining = tuple(line for one in results for line in one.remaining)
    return TeardownResult(run.name, removed, remaining)


def plan_all(ledger: Ledger, machine: Backend) -> list[str]:
    """What `teardown_all` would do, one line each; empty if there is nothing to do."""
    return [
        f"{running.removal} of run {run}" for run in _running_here(ledger, machine) for running in machine.live(run)
    ]


def teardown_all(ledger: Ledger, machine: Backend, report: Reporter) -> TeardownAllResult:
    """Tear down every run of this machine, without its config.

    Raises:
        LorasumError: a run cannot be torn down. The others are.
    """
    for run in paths.runs():
        note_teardown(run)  # of which nothing may run just now
    torn: list[TeardownResult] = []
    with _first_raised(report) as errors:
        for run in _running_here(ledger, machine):
            config = Config.model_construct(name=run)  # only the name is needed
            with _kept(errors):
                torn.append(teardown(RunContext(config, lambda: machine, ledger, report)))
    elsewhere = [
        row for row in ledger.resources() if row.is_open and not isinstance(row, Dataset) and not is_here(row, machine)
    ]
    return TeardownAllResult(tuple(torn), tuple(f"{row} of run {row.run}, on {row.backend}" for row in elsewhere))


def _running_here(ledger: Ledger, machine: Backend) -> list[str]:
    """The runs of which something runs on this machine, on record or not."""
    return sorted(run for run in {*paths.runs(), *(row.run for row in ledger.resources())} if machine.live(run))


def _all_torn_down(runs: Sequence[RunContext], data: bool, artifacts: bool) -> list[TeardownResult]:
    """Tear down several runs, whose ledger can be read, at the same time: what ends is billed until it has ended."""
    reporter, results = runs[0].reporter, []
    with _first_raised(reporter) as errors, ExitStack() as locks:
        found = []
        for run in runs:
            with _kept(errors):
                held = locks.enter_context(run.hold(_LOCK_TAKES))
                found.append((held, until_answered(partial(_standing, run), _BETWEEN_TRIES, reporter)))
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
    remaining = tuple(dict.fromkeys(stuck + left))
    if not remaining:
        removed += _delete_files(held, data, artifacts)
        _tell_of_what_stays(held, data, artifacts)
    elif data or artifacts:
        held.reporter.warn("no files were deleted, because something still runs")
    return TeardownResult(held.name, tuple(removed), remaining)


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
    except InterruptedRunError:
        raise
    except LorasumError as error:
        errors.append(error)


def _trials(run: RunContext) -> list[RunContext]:
    """The trials of the run's sweep: those on record, and those that the backend has, whoever started them."""
    try:
        names = trial_runs(run.ledger, run.name, run.backend)
    except OutageError:
        raise
    except BackendError:  # who may not list is told so when the run's own resources are looked for
        names = trial_runs(run.ledger, run.name)
    return [run.trial(name) for name in names]


@contextmanager
def _usable_ledger(run: RunContext) -> Iterator[RunContext]:
    """The run with its ledger, or with an empty one if that cannot be read."""
    with usable(run.ledger, run.reporter.warn) as ledger:
        yield run if ledger is run.ledger else replace(run, connect=lambda: run.backend, ledger=ledger)


def _standing(run: RunContext) -> list[RunningResource]:
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
        if row.name in names or row.state == "gone" or not is_here(row, run.backend):
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


def _remove_all(held: HeldRun, standing: Sequence[RunningResource]) -> tuple[list[str], list[str]]:
    """The resources that were removed, and those that could not be."""
    removed, stuck = [], []
    for running in standing:
        held.reporter.step(f"removing {running}")
        remove = endpoints.delete if running.kind == "endpoint" else jobs.stop
        try:
            until_answered(partial(remove, held, running.name), _BETWEEN_TRIES, held.reporter)
            removed.append(str(running))
        except LorasumError as error:
            held.reporter.warn(error.message)
            stuck.append(str(running))
    return removed, stuck


def _left(held: HeldRun) -> list[str]:
    """What still runs, asked anew, and what may run where this backend cannot see. Its lists may lag behind."""
    here, elsewhere = _open(held)
    for row in here:
        reconcile(held, row)
    listed = held.backend.live(held.name)
    names = [running.name for running in listed]
    unlisted = [row for row in _open(held)[0] if row.name not in names]
    return [*map(str, listed), *map(str, unlisted), *map(_elsewhere, elsewhere)]


def _elsewhere(row: Resource) -> str:
    place = f", {row.account_and_region}" if row.account_and_region else ""
    return f"{row}, on backend {row.backend}{place}"


def _open(held: HeldRun) -> tuple[list[Resource], list[Resource]]:
    """Jobs and endpoints that the ledger has as running or kept warm: on this backend, and on others."""
    rows = [row for row in held.ledger.resources(held.name) if not isinstance(row, Dataset) and row.is_open]
    here = [row for row in rows if is_here(row, held.backend)]
    return here, [row for row in rows if row not in here]


def _delete_files(held: HeldRun, data: bool, artifacts: bool) -> list[str]:
    deleted: list[str] = []
    if artifacts:
        _refuse_to_delete_what_is_served(held)
    folder = paths.run_dir(held.name)
    try:
        if data and (folder / "data").is_dir():
            for part in ("data", "rejected", "reports"):
                shutil.rmtree(folder / part, ignore_errors=part != "data")
            deleted.append(f"datasets in {folder / 'data'}")
        if artifacts:
            for part in ("evaluations", "predictions"):
                shutil.rmtree(folder / part, ignore_errors=True)
        if data or artifacts:
            deleted += held.backend.delete_files(held.name, data, artifacts)
    except OSError as error:
        raise LorasumError(
            f"cannot delete files of run {held.name!r}: {error}", "check the folder's permissions, then run it again"
        ) from error
    _record_deletion(held, data, artifacts)
    return deleted


def _tell_of_what_stays(held: HeldRun, data: bool, artifacts: bool) -> None:
    """Name the files that are billed although nothing runs. On the user's own machine nothing is."""
    if (data and artifacts) or known_price(held.backend, "endpoint") == 0:
        return
    try:
        stays = held.backend.stored_files(held.name, not data, not artifacts)
    except BackendError as error:
        held.reporter.warn(f"{error.message}: nobody knows which files of the run stay, and are billed by the month")
        return
    if stays:
        delete = "`lorasum teardown --data --artifacts` deletes it"
        held.reporter.step(f"what stays is billed by the month, and {delete}: {', '.join(stays)}")


def _refuse_to_delete_what_is_served(held: HeldRun) -> None:
    for endpoint in held.ledger.rows(Endpoint):
        serves = held.name in [one.run for one in endpoint.adapters]
        if serves and endpoint.is_open and endpoint.run != held.name:
            raise LorasumError(
                f"no files of run {held.name!r} were deleted: endpoint {endpoint.name} of run {endpoint.run!r} serves "
                "its adapter",
                f"tear down run {endpoint.run!r} first",
            )


def _record_deletion(held: HeldRun, data: bool, artifacts: bool) -> None:
    for row in held.ledger.resources(held.name):
        is_data = data and isinstance(row, Dataset)
        is_artifact = artifacts and isinstance(row, TrainingJob) and is_here(row, held.backend)
        if (is_data or is_artifact) and row.state != "gone":
            held.ledger.save(replace(row, state="gone"))
