"""The trials of a sweep as runs: where each stands, which were stopped for good, and what came of all."""

import json
import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from lorasum.backends.base import RunningResource
from lorasum.context import RunContext
from lorasum.errors import BackendError, LorasumError, OutageError
from lorasum.ledger.resources import TrainingJob
from lorasum.lifecycle import jobs
from lorasum.lifecycle.costs import cost, total
from lorasum.lifecycle.trials import Trial, found_by, less
from lorasum.pages.sweep_page import sweep_page
from lorasum.reporting import Reporter
from lorasum.results.training import SweepResult, TrialResult, TrialState
from lorasum.shared.events import MERGE_LEFT_OUT, StepEvent
from lorasum.system import paths
from lorasum.system.files import make_folder, open_file, read_rows, write_file, writing


@dataclass
class TrialRun:
    """A trial and where it stands.

    Attributes:
        value: of its model, or of its newest evaluation.
        values: of its evaluations before the last step, in order; less is better.
        step: its newest; None before there is one.
        judged: how many of them were compared with the others'.
        pending: whether its job runs and has no instance yet: it could take one that is kept warm. (Nothing says that
            SageMaker has matched the two by the time it answers that the job is created.)
        may_cost: USD, of all its attempts; None without a limit.
    """

    trial: Trial
    run: RunContext
    job: str = ""
    state: TrialState = "waiting"
    reason: str = ""
    value: float | None = None
    values: list[float] = field(default_factory=list)
    step: StepEvent | None = None
    judged: int = 0
    pending: bool = False
    may_cost: float | None = None

    @property
    def name(self) -> str:
        """The name of its run."""
        return self.trial.run

    @property
    def jobs(self) -> list[TrainingJob]:
        """Its jobs on record."""
        return self.run.ledger.rows(TrainingJob, self.name)

    @property
    def usd(self) -> float | None:
        """What they have cost up to now; None if that is unknown."""
        now = self.run.ledger.now()
        return total(cost(row, now) for row in self.jobs)

    @property
    def not_merged(self) -> str:
        """Why its job has left the adapter alone; empty if there is a merged model."""
        return self._row.figures.not_merged if self._row else ""

    @property
    def _row(self) -> TrainingJob | None:
        return next((row for row in self.jobs if row.name == self.job), None)

    def read_events(self) -> None:
        """Find out what its evaluations and its end have found. A job that only merged has evaluated nothing."""
        backend = self.run.backend
        job = backend.find_training(self.name, self.job)
        events = backend.training_events(backend.steps_of(self.name, job) or job) if job else ()
        told = list(events)
        self.values, self.value = found_by(told, self.run.config.training.evaluate)
        self.step = next((one for one in reversed(told) if isinstance(one, StepEvent)), None)


class StoppedTrials:
    """The trials that a sweep has stopped for good, on record in the run's folder."""

    def __init__(self, run: str) -> None:
        self._file = paths.run_dir(run) / "sweep.jsonl"

    def __contains__(self, trial: str) -> bool:
        known = read_rows(self._file.read_bytes()) if self._file.exists() else ()
        return trial in [row.get("trial") for row in known]

    def add(self, trial: str) -> None:
        """Record a trial, once."""
        if trial not in self:
            with writing(self._file):
                make_folder(self._file.parent)
                with open_file(self._file, "a") as kept:
                    kept.write(json.dumps({"trial": trial}) + "\n")


class OpenJobs:
    """The jobs of all trials that run or are kept warm by the ledger, which knows one before its trial counts as
    running."""

    def __init__(self, report: Reporter, tried: Sequence[TrialRun]) -> None:
        self._report = report
        self._tried = tried
        self._kept: set[str] = set()
        """Jobs whose warm instance could not be released."""

    def end(self, stop: bool) -> bool:
        """End the sweep before its last trial has: stop what runs, if that is asked, release what is kept warm, and
        tell what is left. False if no job runs."""
        if stop:
            self._stop()
        with suppress(OutageError):  # those that are still kept are told next
            self.let_go()
        return self.tell()

    def let_go(self) -> None:
        """Release the instances that are kept warm for a next trial, and billed, where none comes.

        One whose release is refused is told once. None keeps another from its release.

        Raises:
            OutageError: the backend does not answer.
        """
        outage = None
        for one, row in self._found():
            if not row.kept_warm or row.name in self._kept:
                continue
            try:
                with one.run.hold() as held:
                    jobs.stop(held, row.name)
            except OutageError as error:
                outage = error
            except LorasumError as error:
                self._kept.add(row.name)
                self._report.warn(error.message)
        if outage:
            raise outage

    def tell(self) -> bool:
        """Warn of what may be billed while nobody follows it. False if no job runs."""
        found = self._found()
        for one, row in found:
            kept = f"kept warm, and billed, for {one.run.config.sagemaker.keep_alive_minutes} min at most"
            warm = f"the instance of job {row.name} is {kept}; `lorasum teardown` ends that"
            self._report.warn(warm if row.kept_warm else jobs.may_run(row.name))
        return not all(row.kept_warm for _, row in found)

    def _stop(self) -> None:
        """Stop those that run, all at the same time. They can go on from their checkpoints."""
        found = self._found()
        for one, row in found:
            with suppress(BackendError):  # it is asked again when it is waited for, and that error is told
                one.run.backend.begin_to_end(one.name, RunningResource("training_job", row.name))
        for one, row in found:
            if row.kept_warm:
                continue
            self._report.step(f"stopping job {row.name}; it saves a checkpoint first")
            try:
                with one.run.hold() as held:
                    jobs.stop(held, row.name, "the sweep was interrupted", keep_warm=True)
            except LorasumError as error:
                self._report.warn(error.message)

    def _found(self) -> list[tuple[TrialRun, TrainingJob]]:
        return [(one, row) for one in self._tried for row in one.jobs if row.is_open]


def _commands(best: TrialRun) -> tuple[str, ...]:
    """What serves the model of a trial, and what merges it if that was left out; FILE is the config."""
    named = f"FILE --set sweep=null --set name={best.name}"
    deploy = f"lorasum deploy {named} --job {best.job}"
    if not best.not_merged:
        return (deploy,)
    if best.not_merged != MERGE_LEFT_OUT:
        return (f"{deploy} --set deploy.serve=adapter",)
    tried = "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in best.trial.values.items())
    itself = f"{named}{tried} --set deploy.serve=merged"
    if best.run.config.backend == "sagemaker" and best.run.config.sagemaker.engine == "vllm":
        return (f"lorasum train {itself}", f"lorasum deploy {itself}")
    return (f"{deploy} --set deploy.serve=adapter", f"lorasum train {itself}")


def result_of(run: RunContext, tried: Sequence[TrialRun], seconds: float, with_page: bool) -> SweepResult:
    """Where all trials of a run stand, the best first."""
    metric = run.config.training.evaluate
    best_first = sorted(tried, key=lambda one: math.inf if one.value is None else less(one.value, metric))
    rows = tuple(
        TrialResult(
            run=one.name,
            values=one.trial.values,
            state=one.state,
            value=one.value,
            evaluations=len(one.values),
            usd=one.usd,
            reason=one.reason,
            job=one.job or None,
        )
        for one in best_first
    )
    done = [row for row in rows if row.state == "done" and row.value is not None]
    best = next((one for one in best_first if done and one.name == done[0].run), None)
    result = SweepResult(
        run=run.name,
        metric=metric,
        trials=rows,
        best=best.name if best else None,
        page=None,
        usd=total(row.usd for row in rows),
        seconds=seconds,
        next=_commands(best) if best else (),
    )
    if not with_page:
        return result
    page = paths.run_dir(run.name) / "reports" / "sweep.html"
    curves = {one.name: [less(value, metric) for value in one.values] for one in tried}
    with writing(page):
        write_file(page, sweep_page(result, curves))
    return replace(result, page=str(page))
