"""What is known of a training and its evaluation, gathered for a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lorasum.data.records import Manifest
from lorasum.ledger.resources import NO_FIGURES, TrainingJob
from lorasum.pages.charts import Point
from lorasum.results.serving import EvaluateResult
from lorasum.scoring.evaluation import ScoredSummary
from lorasum.shared.events import DoneEvent, EvalEvent, Event, StartEvent, StepEvent
from lorasum.shared.records import ArtifactRecord

_Measured = TypeVar("_Measured", StepEvent, EvalEvent)
Sample = tuple[ScoredSummary, ...]
"""A run's summary of a test dialogue, and beside it that of the run it is compared with."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One job of a run, and what came of it.

    Attributes:
        name: what the page calls it: its run, or its job where two of one run are compared.
        events: the job's, of all attempts, as far as they could be read.
        manifest: of its dataset; None if that was deleted.
        record: of its artifact; None if there is none.
        evaluation: the newest one of this artifact.
        scored: the summaries of that evaluation.
        usd: what the job has cost up to now; None where that is unknown.
        endpoint_usd: what the run's endpoints have cost up to now.
    """

    name: str
    job: TrainingJob
    events: tuple[Event, ...]
    manifest: Manifest | None
    record: ArtifactRecord | None
    evaluation: EvaluateResult | None
    scored: tuple[ScoredSummary, ...]
    usd: float | None
    endpoint_usd: float | None

    @property
    def start(self) -> StartEvent | None:
        """The plan of the newest attempt."""
        return next((event for event in reversed(self.events) if isinstance(event, StartEvent)), None)

    @property
    def done(self) -> DoneEvent | None:
        """The job's figures; None if it has not completed."""
        return None if self.job.figures == NO_FIGURES else self.job.figures

    def curve(self, kind: type[_Measured], figure: Callable[[_Measured], float | None]) -> list[Point]:
        """A figure by step. Of steps that were done again after a stop, the last time counts."""
        values = {event.step: figure(event) for event in self.events if isinstance(event, kind)}
        return [(float(step), value) for step, value in sorted(values.items()) if value is not None]


def samples(runs: Sequence[RunFacts], count: int) -> tuple[list[Sample], list[Sample]]:
    """Summaries to look at: those with findings first, and others from the best to the worst by ROUGE-L."""
    scored = runs[0].scored
    flagged = sorted((one for one in scored if one.findings), key=lambda one: -len(one.findings))[: (count + 1) // 2]
    chosen = {one.id for one in flagged}
    rest = sorted((one for one in scored if one.id not in chosen), key=lambda one: -one.scores.rougeL)
    wanted = min(count - len(flagged), len(rest))
    spread = [rest[round(place * (len(rest) - 1) / max(wanted - 1, 1))] for place in range(wanted)]
    others = [{one.dialogue: one for one in run.scored} for run in runs[1:]]

    def beside(one: ScoredSummary) -> Sample:
        return (one, *(known[one.dialogue] for known in others if one.dialogue in known))

    return [beside(one) for one in flagged], [beside(one) for one in spread]
