"""Sweep: train with several sets of values, stop those that fall behind, and say which is best.

Each trial is a run of its own, whose name says its values, so what it trained is found again. The trials of one process
are looked at in turn; no thread follows them.
"""

import time
from collections.abc import Sequence

from lorasum.backends.records import JobState
from lorasum.commands.prepare import prepare
from lorasum.context import RunContext
from lorasum.errors import BackendError, InterruptedRunError, LorasumError, OutageError
from lorasum.formatting import counted, dollars, loss
from lorasum.ledger.resources import OPEN, TrainingJob
from lorasum.lifecycle import jobs
from lorasum.lifecycle.costs import price_note, total
from lorasum.lifecycle.limits import SHORTEST_JOB, paid_after, with_ceiling
from lorasum.lifecycle.planning import planned_job
from lorasum.lifecycle.sweeps import OpenJobs, StoppedTrials, TrialRun, result_of
from lorasum.lifecycle.teardowns import TeardownWatch, TornDownError
from lorasum.lifecycle.trials import Trial, falls_behind, trials
from lorasum.results.training import SweepResult, TrialState
from lorasum.shared.events import MERGE_LEFT_OUT
from lorasum.system.retry import until_answered
from lorasum.system.signals import release_frames

_LOOKS = {"local": 0.5}
_LOOK = 20.0
"""Seconds between two looks at the running trials, where no backend has its own."""
_STOPPED = "it fell behind the others"
_GOES_ON = "the same command continues from their checkpoints"


def sweep(run: RunContext) -> SweepResult:
    """Run all trials, as many at once as the config says. What has been trained is not trained again.

    Raises:
        LorasumError: a trial's data cannot be prepared, or its job not be started; warnings name what may still run.
        TornDownError: somebody else tore the run down, or stopped a trial. The other trials are stopped too.
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
        which = "not all of its" if found.open_jobs.end(stop=True) else "its"
        raise InterruptedRunError(
            f"the sweep of run {run.name!r} was interrupted, and {which} jobs were stopped",
            _GOES_ON,
        ) from None
    except LorasumError as error:
        found.open_jobs.end(stop=isinstance(error, TornDownError))
        raise
    found.open_jobs.tell()
    result = result_of(run, found.trials, time.monotonic() - began, with_page=True)
    if not result.best:
        why = next((one.reason for one in result.trials if one.reason), "")
        raise BackendError(f"no trial has a result{f': {why}' if why else ''}", "the same command tries them again")
    why = next(one.not_merged for one in found.trials if one.name == result.best)
    if why not in ("", MERGE_LEFT_OUT):
        run.reporter.warn(f"trial {result.best} has no merged model: {why}; deploy.serve: adapter serves its adapter")
    return result


def plan_sweep(run: RunContext) -> SweepResult:
    """The trials as they stand now. Nothing is started."""
    result = _as_it_stands(run)
    if waiting := _to_train(result):
        one = "`lorasum train --dry-run` shows what one takes"
        run.reporter.step(f"would {_said_of(run, waiting, _price(run))}; {one}; nothing was started")
    return result


def to_be_spent(run: RunContext) -> str:
    """What the sweep may cost, in a line; empty where nothing is paid for, or nothing is left to train."""
    price = _price(run)
    waiting = _to_train(_as_it_stands(run))
    return _said_of(run, waiting, price) if waiting and price != 0 else ""


def _as_it_stands(run: RunContext) -> SweepResult:
    found = _Sweep(run, trials(run.config)).trials
    for one in found:
        job = run.backend.find_training(one.name, one.job) if one.state == "waiting" and one.job else None
        if job and run.backend.training_state(job).status == "running":
            one.state = "live"
    return result_of(run, found, 0.0, with_page=False)


def _to_train(result: SweepResult) -> int:
    return sum(one.state in ("waiting", "live", "failed") for one in result.trials)


def _said_of(run: RunContext, waiting: int, price: float | None) -> str:
    """`train 4 trials, $2.03 an hour each; at most $20.00 for all trials`."""
    most = run.config.sweep.max_usd if run.config.sweep else None
    limit = (
        "; nothing limits the sum: set sweep.max_usd" if most is None else f"; at most {dollars(most)} for all trials"
    )
    return f"train {counted(waiting, 'trial')}" + (f"{price_note(price)} each{limit}" if price != 0 else "")


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


class _Sweep:
    """All trials of a sweep, and what is done with them."""

    def __init__(self, run: RunContext, drawn: Sequence[Trial]) -> None:
        self._run = run
        assert run.config.sweep is not None, "trials() has checked it"  # noqa: S101
        self._settings = run.config.sweep
        self._at_once = run.config.sweep.at_once
        self._stopped = StoppedTrials(run.name)
        self._watch = TeardownWatch(run.name)
        self._waits = iter(jobs.WAITS_FOR_AN_INSTANCE)
        self._starts_from = 0.0  # monotonic seconds
        self._one_is_free = False
        """Whether a trial has ended since the last look at those that wait: its instance may be kept warm for one."""
        self.trials = [TrialRun(one, RunContext(one.config, run.connect, run.ledger, run.reporter)) for one in drawn]
        for one in self.trials:
            self._recall(one)
        self.open_jobs = OpenJobs(run.reporter, self.trials)

    def goes_on(self) -> bool:
        """Look at all that run, and start others in the place of those that ended. False once all have ended.

        Raises:
            TornDownError: somebody else tore the run down, or stopped one of its trials.
        """
        self._watch.check()
        self._settle()
        for one in self._open("live"):
            self._look(one)
        if self._one_is_free:
            self._starts_from, self._waits, self._one_is_free = 0.0, iter(jobs.WAITS_FOR_AN_INSTANCE), False
        for one in self._open("waiting"):
            if len(self._open("live")) >= self._at_once or time.monotonic() < self._starts_from:
                break
            self._start_or_wait(one)
            if one.state == "waiting":
                break
        if not self._open("waiting") and not any(one.pending for one in self._open("live")):
            self.open_jobs.let_go()
        going = len(self._open("live")) + len(self._open("waiting"))
        steps = [(one.name, one.step) for one in self._open("live") if one.step]
        detail = ", ".join(f"{name} at step {at.step}/{at.steps}, loss {loss(at.loss)}" for name, at in steps)
        self._run.reporter.progress("trials", len(self.trials) - going, len(self.trials), detail)
        return going > 0

    def _recall(self, one: TrialRun) -> None:
        """Find out how far an earlier process came with a trial."""
        rows = [row for row in one.jobs if row.state != "intended"]
        if not rows or not (job := self._run.backend.find_training(one.name, rows[-1].name)):
            return
        one.job = job.name
        one.read_events()
        if one.name in self._stopped:
            one.state, one.reason = "stopped", _STOPPED
        elif self._run.backend.training_state(job).status == "completed":
            one.state = "done"

    def _settle(self) -> None:
        """Do what this process could not do, or an earlier one that was killed.

        Stop the jobs that were about to be stopped, and record the end of those that have completed: until then a job
        is recorded as costing more and more.
        """
        for one in self._open("stopped"):
            if any(row.state in OPEN for row in one.jobs):
                self._stop(one)
        for one in self._open("done"):
            for row in one.jobs:
                if row.state in OPEN:
                    with one.run.hold() as held:
                        jobs.reconcile(held, TrainingJob, row.name)

    def _start_or_wait(self, one: TrialRun) -> None:
        """Start a trial. Where the backend refuses that, as by a quota, it waits for those that run."""
        try:
            self._start(one)
        except BackendError as error:
            running = len(self._open("live"))
            if one.state == "live" or not running or isinstance(error, OutageError):
                raise
            self._at_once = running
            self._run.reporter.warn(f"{error.message}: trial {one.name} waits until another has ended")

    def _start(self, one: TrialRun) -> None:
        price = _price(self._run)
        if price and self._settings.max_usd is not None:
            left = self._left_for_one(self._settings.max_usd)
            if left is None or left / price * 3600 < SHORTEST_JOB + paid_after(one.trial.config):
                why = "nobody knows what is left" if left is None else "nothing is left"
                one.state, one.reason = "left_out", f"{why} of sweep.max_usd"
                return
            one.may_cost = (one.usd or 0.0) + left
        said = ", ".join(f"{key}={value}" for key, value in one.trial.values.items())
        self._run.reporter.step(f"trial {one.name}: {said}")
        prepare(one.run)
        config = with_ceiling(one.trial.config, one.may_cost)
        planned = planned_job(config, self._run.ledger, self._run.reporter).without_merge()
        with one.run.hold() as held:
            self._watch.check()
            started = jobs.start(held, planned)
        one.job, one.state = started.ref.name, "live"
        self._look(one)

    def _left_for_one(self, most: float) -> float | None:
        """USD that a trial may cost from now on: what is left, divided by the places that are free now.

        None if nobody knows what a trial has cost.
        """
        spent = total(one.may_cost if one.state == "live" else one.usd for one in self.trials)
        return None if spent is None else (most - spent) / (self._at_once - len(self._open("live")))

    def _look(self, one: TrialRun) -> None:
        with one.run.hold() as held:
            state = jobs.reconcile(held, TrainingJob, one.job)
        one.pending = state.pending
        one.read_events()
        if state.status == "running":
            others = [other.values for other in self.trials if other is not one]
            if falls_behind(one.values, others, self._settings.keep_one_in, one.judged):
                self._stop(one)
            one.judged = len(one.values)
        elif state.no_capacity:
            self._wait_for_an_instance(one, state)
        else:
            self._ended(one, state)

    def _ended(self, one: TrialRun, state: JobState) -> None:
        """Take note of a trial's end. Another sweep of this run may have stopped it; if somebody else did, this ends.

        Raises:
            TornDownError: somebody else did.
        """
        one.state, self._one_is_free = "done" if state.status == "completed" else "failed", True
        one.reason = state.reason
        if state.by_request and one.name in self._stopped:
            one.state, one.reason = "stopped", _STOPPED
        elif state.by_request:
            raise TornDownError(f"trial {one.name} was stopped by somebody else", _GOES_ON)
        shown = "no result" if one.value is None else f"{self._run.config.training.evaluate} {one.value:.4g}"
        self._run.reporter.step(f"trial {one.name}: {one.state}, {one.reason or shown}")

    def _wait_for_an_instance(self, one: TrialRun, state: JobState) -> None:
        """No instance was free for a trial, which was billed nothing. It starts again later, and no other before it.

        Raises:
            BackendError: none was free the last time either, and no other trial runs.
        """
        one.state = "waiting"
        now = time.monotonic()
        if now < self._starts_from:
            return  # another trial has found the same
        wait = next(self._waits, jobs.WAITS_FOR_AN_INSTANCE[-1] if self._open("live") else None)
        if wait is None:
            raise BackendError(f"trial {one.name}: {state.reason}", state.hint)
        self._starts_from = now + wait
        self._run.reporter.step(f"no instance was free; trials start again in {wait / 60:.0f} min (Ctrl-C ends this)")

    def _stop(self, one: TrialRun) -> None:
        """Stop a trial for good. That is on record first, so that a process that is killed here does not resume it."""
        self._run.reporter.step(f"trial {one.name}: stopped after {len(one.values)} evaluations, {_STOPPED}")
        self._stopped.add(one.name)
        one.state, one.reason, self._one_is_free = "stopped", _STOPPED, True
        with one.run.hold() as held:
            jobs.stop(held, one.job, _STOPPED, keep_warm=bool(self._open("waiting")))
        one.read_events()  # it may have evaluated once more meanwhile

    def _open(self, state: TrialState) -> list[TrialRun]:
        return [one for one in self.trials if one.state == state]
