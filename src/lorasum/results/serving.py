"""Results of the verbs of an endpoint: deploy, predict, evaluate, teardown; and of run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lorasum.results.overview import RunResource
from lorasum.results.training import PrepareResult, TrainResult
from lorasum.scoring.evaluation import Comparison, ScoredSummary, Scores
from lorasum.scoring.thresholds import MissedFigure


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What `deploy --dry-run` prints: the endpoint that `deploy` would start."""

    run: str
    endpoint: str
    artifact: str
    requests: Mapping[str, Any]
    """What would be sent to the cloud, by operation; on this machine the `command` that would be run."""
    usd_per_hour: float | None
    """0 if it is free, None if the price is unknown."""


@dataclass(frozen=True, slots=True)
class DeployResult:
    """The endpoint, which is in service."""

    run: str
    endpoint: str
    location: str
    """Its address: a URL on this machine, else an ARN."""
    artifact: str
    """The folder or URI of what it serves."""
    job: str
    """The training job that made the artifact."""
    reused: bool
    """Whether it was in service before."""
    seconds: float
    expires_at: datetime | None = None
    """When its time is over; None if it has no end."""
    ends_itself: bool = False
    """Whether it is then deleted although no lorasum runs."""
    max_usd: float | None = None
    """What it costs at most from its start until then; None if it does not end itself, or its price is unknown."""
    adapters: tuple[str, ...] = ()
    """The runs whose adapters requests can name, this run first; empty if the endpoint serves one model."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One summary."""

    run: str
    dialogue: str
    summary: str
    reference: str | None = None
    """A person's, with `--sample`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """More of a summary that is being generated."""

    piece: str


@dataclass(frozen=True, slots=True)
class BatchPrediction:
    """What `predict --input --output` did. With `--output -` this goes to stderr, because the rows are on stdout."""

    run: str
    input: str
    """`/dev/stdin` with `--input -`."""
    output: str
    """`stdout` with `--output -`."""
    rows: int
    """How many the input has; the output has one for each."""
    seconds: float
    failures: tuple["RowFailure", ...] = ()
    """Rows without a dialogue, or that the endpoint refused; in `output` they have `error` instead of a summary."""


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row of `predict --input` without an answer."""

    line: int
    """Of the input file, from 1."""
    reason: str


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """The judgement of a language model: mean marks, and comparisons with the base model's summaries.

    Attributes:
        faithfulness, coverage, conciseness: from 1 to 5; NaN where nothing was judged.
    """

    model: str
    judged: int
    faithfulness: float
    coverage: float
    conciseness: float
    better_than_base: int
    worse_than_base: int
    as_good_as_base: int
    usd: float
    """USD spent on it just now; answers kept from earlier cost nothing."""


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """Scores of the tuned model beside those of others, on the same test dialogues."""

    run: str
    examples: int
    """How many dialogues were summarised."""
    language: str
    """ISO 639-1 code of the language that the summaries are scored in."""
    scores: Mapping[str, Scores]
    """By what is scored, such as `fine-tuned` or `base model`."""
    comparisons: tuple[Comparison, ...]
    """The tuned model compared with each of the others."""
    worst: tuple[ScoredSummary, ...]
    """The tuned model's worst summaries, to be looked at first."""
    summaries: str
    """File of all its summaries with their scores and findings, one JSON object a line."""
    judge: JudgeFigures | None
    """None unless the config names a judge."""
    missed: tuple[MissedFigure, ...]
    """Figures that are below what `--fail-under` asks for. The command fails unless this is empty."""
    seconds: float
    artifact: str = ""
    """What was evaluated."""


@dataclass(frozen=True, slots=True)
class TeardownResult:
    """What `teardown` did. With `--all` it is one document of all runs.

    Attributes:
        run: None with `--all`. If the run was swept, its trials are torn down too.
        removed: what was stopped or deleted just now.
        deleted: folders and URIs whose files were deleted.
        remaining: what still runs or costs money, each with the reason. The command fails unless this is empty.
    """

    run: str | None
    removed: tuple[RunResource, ...]
    deleted: tuple[str, ...]
    remaining: tuple[RunResource, ...]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What `lorasum run` did, verb by verb."""

    run: str
    prepare: PrepareResult
    train: TrainResult
    deploy: DeployResult
    evaluate: EvaluateResult
    predict: Prediction
    """Of a random test dialogue."""
    teardown: TeardownResult | None
    """None where the endpoint stays."""
    seconds: float
