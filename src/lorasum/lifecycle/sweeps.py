"""The trials of a sweep as runs: where each stands, which were stopped for good, and what came of all."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lorasum.context import RunContext
from lorasum.ledger.resources import TrainingJob
from lorasum.lifecycle.costs import cost, total
from lorasum.lifecycle.trials import Trial, found_by, less
from lorasum.pages.sweep_page import sweep_page
from lorasum.results.training import SweepResult, TrialResult, TrialState
from lorasum.system import paths
from lorasum.system.files import make_folder, open_file, read_rows, write_file, writing


@dataclass
class TrialRun:
    """A trial and where it stands.

    Attributes:
        value: of its model, or of its newest evaluation.
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

    def read_events(self) -> None:
        """Find out what its evaluations and its end have found."""
        backend = self.run.backend
        job = backend.find_training(self.name, self.job)
        events = backend.training_events(job) if job else ()
        self.values, self.value = found_by(events, self.run.config.training.evaluate)


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
    result = SweepResult(
        run.name, metric, rows, done[0].run if done else None, None, total(row.usd for row in rows), seconds
    )
    if not with_page:
        return result
    page = paths.run_dir(run.name) / "reports" / "sweep.html"
    curves = {one.name: [less(value, metric) for value in one.values] for one in tried}
    with writing(page):
        write_file(page, sweep_page(result, curves))
    return replace(result, page=str(page))
