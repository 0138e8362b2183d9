"""Frozen records passed between modules. Commands return them, render.py shows them, `--json` prints them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

JobStatus = Literal["running", "completed", "failed", "stopped", "absent"]
EndpointStatus = Literal["creating", "in_service", "failed", "absent"]
ResourceState = Literal["intended", "live", "done", "failed", "gone"]
OPEN: Final = ("intended", "live")
"""States of a resource that may be running."""


class Reporter(Protocol):
    """Where commands say what they are doing while they do it (stderr). render.py implements it."""

    def step(self, text: str) -> None:
        """Say one finished or starting step in one line."""

    def warn(self, text: str) -> None:
        """Say one thing that is odd but does not stop the command."""

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
        """Move the progress bar `label` to `done` of `total`; the bar goes away when done ≥ total."""

    def event(self, event: "TrainEvent") -> None:
        """Show one event of a training job."""


class Silent:
    """A Reporter that shows nothing, for library use and tests."""

    def step(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def progress(self, label: str, done: float, total: float, detail: str = "") -> None: ...
    def event(self, event: "TrainEvent") -> None: ...


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A base model: a hub id the container downloads itself, or a local folder passed to it as a channel.

    Attributes:
        id: what the user wrote; shown and recorded.
        revision: hub commit, tag or branch; None for local folders.
        path: folder with config.json, tokenizer files and *.safetensors; None for a hub model.
    """

    id: str
    revision: str | None = None
    path: Path | None = None

    @property
    def location(self) -> str:
        """What transformers' from_pretrained takes."""
        return str(self.path) if self.path else self.id


@dataclass(frozen=True, slots=True)
class SplitStats:
    """Counts of one split after packing. Tokens are the tokenizer's."""

    examples: int
    packs: int
    tokens: int
    completion_tokens: int
    longest_example: int
    fill: float
    """tokens / (packs * chunk_length), 0 to 1."""
    shortest_example: int = 0
    longest_at: str = ""
    """Where the longest example stands, such as train.jsonl:17."""
    shortest_at: str = ""
    histogram: tuple[int, ...] = ()
    """Examples by length: equal steps from 0 to `longest_example` tokens, both included."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json beside a prepared dataset says; the only way others learn about the dataset."""

    fingerprint: str
    template: str
    tokenizer: str
    tokenizer_revision: str | None
    eos_token_id: int
    chunk_length: int
    splits: Mapping[str, SplitStats]
    dropped: Mapping[str, int]
    """Rows left out, by reason."""
    lorasum_version: str
    shared_with_test: Mapping[str, int] = field(default_factory=dict)
    """Training examples whose dialogue is in the test split: `exact`, and `near` ones."""
    personal: Mapping[str, int] = field(default_factory=dict)
    """Email addresses, phone and card numbers that there seem to be in the dialogues and summaries, by kind."""


@dataclass(frozen=True, slots=True)
class Example:
    """One dialogue and its summary."""

    dialogue: str
    summary: str


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """All a backend needs to start one training job.

    Attributes:
        job_name: unique; the same spec always gets the same name, so starting it again adopts the job.
        dataset: prepared dataset folder (manifest.json, train/, test/).
        hyperparameters: flag name → value as SageMaker passes them: strings of at most 256 characters.
    """

    run: str
    job_name: str
    model: ModelRef
    dataset: Path
    hyperparameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class JobRef:
    """A training job that was started; `location` is the backend's own address of it (folder, ARN)."""

    name: str
    location: str


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job stands; `reason` is one line for failed and stopped jobs."""

    status: JobStatus
    reason: str = ""
    hint: str = ""
    log: tuple[str, ...] = ()
    """Last lines of a failed job's log, where the user has no file of it."""


@dataclass(frozen=True, slots=True)
class TrainEvent:
    """What a training job says.

    Kinds: start, step, eval, saved, merged and done are the script's own; status is the backend's; log is any other
    line of its log.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """All a backend needs to start one endpoint.

    Attributes:
        artifact: folder or URI holding a model, its tokenizer and (unless `code` is given) code/inference.py.
        code: folder with inference.py for a model that carries none (a base model).
        base: with it, the artifact's adapter is served on top of this base model, instead of the merged one.
        port: local port, 0 for any free one.
        startup_timeout: seconds until /ping must answer 200.
    """

    run: str
    name: str
    artifact: str
    code: Path | None = None
    base: ModelRef | None = None
    port: int = 0
    startup_timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class EndpointRef:
    """An endpoint that was started. `location` is its address (URL, ARN)."""

    name: str
    location: str
    artifact: str


@dataclass(frozen=True, slots=True)
class EndpointState:
    """Where an endpoint stands; `ref` is set unless absent."""

    status: EndpointStatus
    ref: EndpointRef | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One ledger row: something a run created, or was about to create."""

    run: str
    kind: Literal["dataset", "training_job", "endpoint"]
    name: str
    backend: str
    state: ResourceState
    detail: Mapping[str, Any]
    created_at: str
    updated_at: str
    """UTC, ISO 8601."""
    usd_per_hour: float | None = 0.0
    """While it runs; None where the price is unknown."""
    usd: float | None = 0.0
    """What it has cost up to now; None where that is unknown. Set by `status`."""

    @property
    def kept_warm(self) -> bool:
        """Whether it is a job that has ended while its instance is kept, and billed like a running one."""
        return self.state not in OPEN and bool(self.detail.get("warm"))

    @property
    def is_open(self) -> bool:
        """Whether it may be running, or billed for an instance that is kept."""
        return self.state in OPEN or self.kept_warm


@dataclass(frozen=True, slots=True)
class Rouge:
    """ROUGE F1 scores, 0 to 100 (rouge-score library, stemming on), means over examples."""

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815  the metric's own name


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
    reused: bool
    seconds: float


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
class EvaluateResult:
    run: str
    examples: int
    before: Rouge | None
    """The base model on the same prompts; None with --no-base."""
    after: Rouge
    seconds: float


@dataclass(frozen=True, slots=True)
class TeardownResult:
    run: str
    removed: tuple[str, ...]
    """What was stopped or deleted just now, one line each."""
    remaining: tuple[str, ...]
    """What still runs or costs money; the command fails unless this is empty."""


@dataclass(frozen=True, slots=True)
class StatusResult:
    resources: tuple[Resource, ...]


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
