"""Sweep: train with several sets of values, stop those that fall behind, and say which is best.

Each trial is a run of its own, whose name says its values, so what it trained is found again. The trials of one process
are looked at in turn; no thread follows them.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lorasum import paths
from lorasum.commands.prepare import prepare
from lorasum.context import RunContext
from lorasum.errors import BackendError, InterruptedRunError, LorasumError, OutageError
from lorasum.files import make_folder, open_file, read_rows, write_file, writing
from lorasum.formatting import dollars
from lorasum.lifecycle import jobs
from lorasum.lifecycle.costs import cost, price_note, total
from lorasum.lifecycle.limits import SHORTEST_JOB, paid_after, with_ceiling
from lorasum.lifecycle.planning import planned_job
from lorasum.lifecycle.trials import Trial, falls_behind, found_by, less, trials
from lorasum.pages.sweep_page import sweep_page
from lorasum.resources import TrainingJob
from lorasum.results.training import SweepResult, TrialResult, TrialState
from lorasum.retry import until_answered
from lorasum.signals import release_frames

_LOOKS = {"local": 0.5}
_LOOK = 20.0
"""Seconds between two looks at the running trials, where no backend has its own."""
_STOPPED = "it fell behind the others"


def sweep(run: RunContext) -> SweepResult:
    """Run all trials, as many at once as the config says. What has been trained is not trained again.

    Raises:
        LorasumError: a trial's data cannot be prepared, or its job not be started; warnings name what may still run.
        InterruptedRunError: Ctrl-C; the jobs that it started or followed are stopped, and the same command goes on.
        BackendError: every trial failed.
    """
    _price(run)
    began = time.monotonic()
    found = _Sweep(run, trials(run.config))
    pause = _LOOKS.get(run.backend.name, _LOOK)
    try:
        while until_answered(found.goes_on, pause, run.reporter):
            time.sleep(pause)
    except KeyboardInterrupt:
        release_frames()
        found.stop_all()
        which = "not all of its" if found.tell_what_may_run() else "its"
        raise InterruptedRunError(
            f"the sweep of run {run.name!r} was interrupted, and {which} jobs were stopped",
            "the same command goes on from their checkpoints",
        ) from None
    except LorasumError:
        found.tell_what_may_run()
        raise
    result = found.result(time.monotonic() - began)
    if not result.best:
        why = next((one.reason for one in result.trials if one.reason), "")
        raise BackendError(f"no trial has a result{f': {why}' if why else ''}", "the same command tries them again")
    return result


def plan_sweep(run: RunContext) -> SweepResult:
    """The trials as they stand now. Nothing is started."""
    return _Sweep(run, trials(run.config)).result(0.0, with_page=False)


def to_be_spent(run: RunContext) -> str:
    """What the sweep may cost, in a line; empty where nothing is paid for, or nothing is left to train."""
    price = _price(run)
    waiting = sum(one.state in ("waiting", "running", "failed") for one in plan_sweep(run).trials)
    if price == 0 or not waiting:
        return ""
    most = run.config.sweep.max_usd if run.config.sweep else None
    limit = (
        "; nothing limits the sum: set sweep.max_usd" if most is None else f"; at most {dollars(most)} for all trials"
    )
    return f"train {waiting} trials{price_note(price)} each{limit}"


def _price(run: RunContext) -> float | None:
    """USD an hour of a trial; None if that is unknown, and nothing is to be kept to.

    Raises:
        LorasumError: `sweep.max_usd` could not be kept to.
    """
    price = run.backend.usd_per_hour("training_job")
    if price is None and run.config.sweep and run.config.sweep.max_usd is not None:
        raise LorasumError(
            "sweep.max_usd cannot be kept, because the price of a training job is unknown",
            "allow pricing:GetProducts, or set limits.max_hours, which ends each trial, in its place",
        )
    return price


@dataclass
class _Running:
    """A trial and where it stands.

    Attributes:
        values: of its evaluations before the last step, in order; less is better.
        judged: how many of them were compared with the others'.
        may_cost: USD, of all its attempts; None without a limit.
    """

    trial: Trial
    run: RunContext
    job: str = ""
    state: TrialState = "waiting"
    reason: str = ""
    value: float | None = None
    values: list[float] = field(default_factory=list)
    judged: int = 0
    may_cost: float | None = None


class _Sweep:
    """All trials of a sweep, and what is done with them."""

    def __init__(self, run: RunContext, drawn: Sequence[Trial]) -> None:
        self._run = run
        assert run.config.sweep is not None, "trials() has checked it"  # noqa: S101
        self._settings = run.config.sweep
        self._at_once = run.config.sweep.at_once
        self._stopped_file = paths.run_dir(run.name) / "sweep.jsonl"
        known = read_rows(self._stopped_file.read_bytes()) if self._stopped_file.exists() else ()
        self._stopped = {str(row.get("trial")) for row in known}
        self._trials = [_Running(one, replace(run, config=one.config)) for one in drawn]
        for one in self._trials:
            self._recall(one)

    def _finish_stopping(self) -> None:
        """Stop the jobs that were about to be stopped when this process could not, or an earlier one was killed."""
        for one in self._open("stopped"):
            rows = self._run.ledger.rows(TrainingJob, one.trial.run)
            if any(row.is_open for row in rows):
                self._stop(one)

    def goes_on(self) -> bool:
        """Look at all that run, and start others in the place of those that ended. False once all have ended."""
        self._finish_stopping()
        for one in self._open("running"):
            self._look(one)
        for one in self._open("waiting"):
            if len(self._open("running")) < self._at_once:
                self._start_or_wait(one)
        ended = len(self._trials) - len(self._open("running")) - len(self._open("waiting"))
        self._run.reporter.progress("trials", ended, len(self._trials))
        return bool(self._open("running"))

    def stop_all(self) -> None:
        """Stop the jobs that run. They can go on from their checkpoints."""
        for one, job in self._open_jobs():
            self._run.reporter.step(f"stopping job {job}; it saves a checkpoint first")
            try:
                with one.run.hold() as held:
                    jobs.stop(held, job, "the sweep was interrupted")
            except LorasumError as error:
                self._run.reporter.warn(error.message)

    def tell_what_may_run(self) -> bool:
        """Warn of the jobs that may run while nobody follows them. False if there are none."""
        found = self._open_jobs()
        for _, job in found:
            self._run.reporter.warn(jobs.may_run(job))
        return bool(found)

    def result(self, seconds: float, with_page: bool = True) -> SweepResult:
        """Where all trials stand, the best first."""
        metric = self._run.config.training.evaluate
        best_first = sorted(self._trials, key=lambda one: math.inf if one.value is None else less(one.value, metric))
        rows = tuple(
            TrialResult(
                run=one.trial.run,
                values=one.trial.values,
                state=one.state,
                value=one.value,
                evaluations=len(one.values),
                usd=self._usd(one),
                reason=one.reason,
                job=one.job,
            )
            for one in best_first
        )
        done = [row for row in rows if row.state == "done" and row.value is not None]
        usd = total(row.usd for row in rows)
        best = done[0].run if done else ""
        result = SweepResult(self._run.name, metric, rows, best, "", usd, seconds)
        if not with_page:
            return result
        page = paths.run_dir(self._run.name) / "reports" / "sweep.html"
        curves = {one.trial.run: [less(value, metric) for value in one.values] for one in self._trials}
        with writing(page):
            write_file(page, sweep_page(result, curves))
        return replace(result, page=str(page))

    def _recall(self, one: _Running) -> None:
        """Find out how far an earlier process came with a trial."""
        rows = [row for row in self._run.ledger.rows(TrainingJob, one.trial.run) if row.state != "intended"]
        if not rows or not (job := self._run.backend.find_training(one.trial.run, rows[-1].name)):
            return
        one.job = job.name
        self._read_events(one)
        if one.trial.run in self._stopped:
            one.state, one.reason = "stopped", _STOPPED
        elif self._run.backend.training_state(job).status == "completed":
            one.state = "done"

    def _start_or_wait(self, one: _Running) -> None:
        """Start a trial. Where the backend refuses that, as by a quota, it waits for those that run."""
        try:
            self._start(one)
        except BackendError as error:
            running = len(self._open("running"))
            if one.state == "running" or not running or isinstance(error, OutageError):
                raise
            self._at_once = running
            self._run.reporter.warn(f"{error.message}: trial {one.trial.run} waits until another has ended")

    def _start(self, one: _Running) -> None:
        price = _price(self._run)
        if price and self._settings.max_usd is not None:
            left = self._left_for_one(self._settings.max_usd)
            if left is None or left / price * 3600 < SHORTEST_JOB + paid_after(one.trial.config):
                why = "nobody knows what is left" if left is None else "nothing is left"
                one.state, one.reason = "left out", f"{why} of sweep.max_usd"
                return
            one.may_cost = (self._usd(one) or 0.0) + left
        said = ", ".join(f"{key}={value}" for key, value in one.trial.values.items())
        self._run.reporter.step(f"trial {one.trial.run}: {said}")
        prepare(one.run)
        planned = planned_job(with_ceiling(one.trial.config, one.may_cost), self._run.ledger, self._run.reporter)
        with one.run.hold() as held:
            started = jobs.start(held, planned)
        one.job, one.state = started.ref.name, "running"
        self._look(one)

    def _left_for_one(self, most: float) -> float | None:
        """USD that a trial may cost from now on: what is left, divided by the places that are free now.

        None if nobody knows what a trial has cost.
        """
        running = self._open("running")
        spent = total(one.may_cost if one.state == "running" else self._usd(one) for one in self._trials)
        return None if spent is None else (most - spent) / (self._at_once - len(running))

    def _look(self, one: _Running) -> None:
        with one.run.hold() as held:
            state = jobs.reconcile(held, TrainingJob, one.job)
        self._read_events(one)
        if state.status == "running":
            others = [other.values for other in self._trials if other is not one]
            if falls_behind(one.values, others, self._settings.keep_one_in, one.judged):
                self._stop(one)
            one.judged = len(one.values)
            return
        one.state = "done" if state.status == "completed" else "failed"
        one.reason = state.reason
        shown = "no result" if one.value is None else f"{self._run.config.training.evaluate} {one.value:.4g}"
        self._run.reporter.step(f"trial {one.trial.run}: {one.state}, {one.reason or shown}")

    def _stop(self, one: _Running) -> None:
        """Stop a trial for good. That is on record first, so that a process that is killed here does not resume it."""
        self._run.reporter.step(f"trial {one.trial.run}: stopped after {len(one.values)} evaluations, {_STOPPED}")
        if one.trial.run not in self._stopped:
            self._stopped.add(one.trial.run)
            with writing(self._stopped_file):
                make_folder(self._stopped_file.parent)
                with open_file(self._stopped_file, "a") as kept:
                    kept.write(json.dumps({"trial": one.trial.run}) + "\n")
        one.state, one.reason = "stopped", _STOPPED
        with one.run.hold() as held:
            jobs.stop(held, one.job, _STOPPED)
        self._read_events(one)  # it may have evaluated once more meanwhile

    def _read_events(self, one: _Running) -> None:
        """What a trial's evaluations and its end have found."""
        job = self._run.backend.find_training(one.trial.run, one.job)
        events = self._run.backend.training_events(job) if job else ()
        one.values, one.value = found_by(events, self._run.config.training.evaluate)

    def _usd(self, one: _Running) -> float | None:
        now = self._run.ledger.now()
        return total(cost(row, now) for row in self._run.ledger.rows(TrainingJob, one.trial.run))

    def _open_jobs(self) -> list[tuple[_Running, str]]:
        """The jobs that run by the ledger, which knows one before its trial counts as running."""
        rows = [(one, row) for one in self._trials for row in self._run.ledger.rows(TrainingJob, one.trial.run)]
        return [(one, row.name) for one, row in rows if row.is_open]

    def _open(self, state: TrialState) -> list[_Running]:
        return [one for one in self._trials if one.state == state]
