"""What the verbs return. `ui/render.py` shows these records, and `--json` prints them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lorasum.data.records import Manifest
from lorasum.resources import Resource, ResourceState, details, kind_of
from lorasum.scoring.evaluation import Comparison, ScoredSummary, Scores


@dataclass(frozen=True, slots=True)
class PrepareResult:
    run: str
    dataset: str
    reused: bool
    """True when nothing had changed since the last prepare."""
    manifest: Manifest
    seconds: float
    rejected: str | None = None
    """File of the rows that were left out, one JSON object a line; None where all were kept."""
    report: str | None = None
    """HTML page of the figures above."""
    shown: tuple["RenderedExample", ...] = ()
    """What --show asked for."""


@dataclass(frozen=True, slots=True)
class RenderedExample:
    """An example as the model sees it: decoded from the dataset's tokens."""

    prompt: str
    completion: str
    tokens: int


@dataclass(frozen=True, slots=True)
class TrainResult:
    run: str
    job: str
    artifact: str
    reused: bool
    """True when this very job had already completed."""
    train_loss: float | None
    eval_loss: float | None
    tokens: int
    tokens_per_second: float
    seconds: float
    kept_step: int
    """The step whose weights the artifact has: the last, or with `training.keep: best` that of the lowest test loss."""


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What `train --dry-run` prints: the job that would be started, and nothing is."""

    run: str
    job: str
    entry_point: str
    model: str
    dataset: str
    hyperparameters: Mapping[str, str]
    request: Mapping[str, Any] | None = None
    """What would be sent to the cloud, to the letter; None on this machine."""


@dataclass(frozen=True, slots=True)
class TrainStarted:
    """What `train --no-wait` returns: the job runs, and nobody follows it."""

    run: str
    job: str
    location: str
    status: str


@dataclass(frozen=True, slots=True)
class DeployResult:
    run: str
    endpoint: str
    location: str
    artifact: str
    job: str
    """The training job that made the artifact."""
    reused: bool
    seconds: float
    expires_at: datetime | None = None
    """When its time is over; None where it has no end."""
    ends_itself: bool = False
    """Whether it then goes without any lorasum running."""
    until: str = ""
    """The same for people: `until 18:40 CET, at most $8.12`."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One summary; `reference` is set where one is known (--sample, or a summary column in --input)."""

    dialogue: str
    summary: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class BatchPrediction:
    """What `predict --input --output` did."""

    input: str
    output: str
    rows: int
    seconds: float
    failures: tuple["RowFailure", ...] = ()
    """Rows that the endpoint refused; in `output` they have `error` instead of a summary."""


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row of `predict --input` without an answer."""

    line: int
    """Of the input file, from 1."""
    reason: str


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """What a language model thinks of the summaries: mean marks from 1 to 5, and comparisons with the base model's."""

    model: str
    judged: int
    faithfulness: float
    coverage: float
    conciseness: float
    better_than_base: int
    worse_than_base: int
    as_good_as_base: int
    usd: float
    """What it cost just now; answers that were kept cost nothing."""


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """Scores of the tuned model beside those of others, on the same test dialogues."""

    run: str
    examples: int
    language: str
    """ISO 639-1 code of the language that the summaries are scored in."""
    scores: Mapping[str, Scores]
    """By what is scored; the tuned model is `fine-tuned`."""
    comparisons: tuple[Comparison, ...]
    """The tuned model with each of the others."""
    worst: tuple[ScoredSummary, ...]
    """The tuned model's summaries to look at first."""
    summaries: str
    """File of all its summaries with their scores and findings, one JSON object a line."""
    judge: JudgeFigures | None
    missed: tuple[str, ...]
    """Figures that are below what `--fail-under` asks for, one line each."""
    seconds: float


@dataclass(frozen=True, slots=True)
class TeardownResult:
    run: str
    removed: tuple[str, ...]
    """What was stopped or deleted just now, one line each."""
    remaining: tuple[str, ...]
    """What still runs or costs money; the command fails unless this is empty."""


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """A recorded resource as `status` shows it.

    Attributes:
        usd: what it, and those before it of its name, have cost up to now; None where that is unknown.
        alarm: why it may cost money that it should not; empty where all is well.
        detail: the fields of its kind, such as the artifact that an endpoint serves, and when its time is over.
    """

    run: str
    kind: str
    name: str
    backend: str
    state: ResourceState
    kept_warm: bool
    is_open: bool
    reason: str
    created_at: str
    updated_at: str
    usd_per_hour: float | None
    usd: float | None
    detail: Mapping[str, object]
    alarm: str = ""

    @classmethod
    def of(cls, row: Resource, usd: float | None, alarm: str = "") -> "ResourceStatus":
        """What to show of a row that has cost so many dollars."""
        return cls(
            run=row.run,
            kind=kind_of(row),
            name=row.name,
            backend=row.backend,
            state=row.state,
            kept_warm=row.kept_warm,
            is_open=row.is_open,
            reason=row.reason,
            created_at=row.created_at,
            updated_at=row.updated_at,
            usd_per_hour=row.usd_per_hour,
            usd=usd,
            detail=details(row),
            alarm=alarm,
        )


@dataclass(frozen=True, slots=True)
class StatusResult:
    resources: tuple[ResourceStatus, ...]

    @property
    def alarms(self) -> tuple[str, ...]:
        """What may cost money that it should not, one line each."""
        named = [(f"{row.kind.replace('_', ' ')} {row.name} of run {row.run}", row) for row in self.resources]
        return tuple(f"{name}: {row.alarm}" for name, row in named if row.alarm)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What `lorasum run` did, verb by verb."""

    prepare: PrepareResult
    train: TrainResult
    deploy: DeployResult
    evaluate: EvaluateResult
    sample: Prediction
    teardown: TeardownResult | None
    seconds: float
