"""The records that verbs return. `ui/render.py` shows them to people, and `--json` prints them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from lorasum.backends.records import Check, Room
from lorasum.contract import MemoryPlan
from lorasum.data.records import Look, Manifest
from lorasum.files import STDOUT
from lorasum.resources import Resource, ResourceState, details, kind_of
from lorasum.scoring.evaluation import Comparison, ScoredSummary, Scores


@dataclass(frozen=True, slots=True)
class InitResult:
    """The config that `init` wrote, what it saw of the data, and the commands to go on with."""

    config: str
    run: str
    backend: str
    model: str
    max_length: int
    """Tokens."""
    data: Look
    next: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """The files that `init --example` wrote, the config first, and the commands to go on with."""

    example: str
    files: tuple[str, ...]
    next: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TranslatedResult:
    """The config that `init --from` wrote of another tool's."""

    config: str
    run: str
    tool: str
    left: tuple[str, ...]
    """Keys of theirs without an exact counterpart, with their values."""
    next: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrepareResult:
    run: str
    dataset: str
    reused: bool
    """True when nothing had changed since the last prepare."""
    manifest: Manifest
    seconds: float
    rejected: str | None = None
    """File of the rows that were left out, one JSON object a line; None if all were kept."""
    shared: str | None = None
    """File of the training rows whose dialogues stand in the test split, with the test rows; None if there are none."""
    report: str | None = None
    """HTML page of the figures above."""
    shown: tuple["RenderedExample", ...] = ()
    """The training examples that --show asked for."""


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
    """The step whose weights the artifact has."""
    kept_because: str
    """Why it is this step, such as `highest rougeL of 3 evaluations`; empty for jobs of earlier versions."""
    score: float | None
    """Of these weights, 0 to 100, where the training was evaluated by a score; `scored_by` is its name."""
    scored_by: str
    generation_seconds: float
    """What generating summaries for that took; in `seconds`, and not in `tokens_per_second`."""
    changed: tuple[str, ...] = ()
    """What the job was not made with, but would be today, such as the container scripts; `--again` makes another."""


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What `train --dry-run` prints: the job that `train` would start."""

    run: str
    job: str
    entry_point: str
    model: str
    dataset: str
    hyperparameters: Mapping[str, str]
    request: Mapping[str, Any] | None = None
    """The request that would be sent to the cloud; None on this machine."""


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What `deploy --dry-run` prints: the endpoint that `deploy` would start."""

    run: str
    endpoint: str
    artifact: str
    requests: Mapping[str, Any]
    """What would be sent to the cloud, by operation; on this machine the `command` that would be run."""
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True)
class TimeBand:
    """The time that the steps of a training take by arithmetic, where no earlier job has measured it.

    Attributes:
        shortest: seconds, if the highest of `shares` is reached; `longest`, if the lowest is.
        operations: floating-point operations of all steps.
        peak: operations a second that the device reaches at most.
        shares: of the peak, that trainings are known to reach.
    """

    shortest: float
    longest: float
    operations: float
    peak: float
    shares: tuple[float, float]


@dataclass(frozen=True, slots=True)
class InstanceOption:
    """An instance type that a run could take.

    Attributes:
        gpu_bytes: free on each GPU before a model is loaded; 0 if it is not known, as with `host_bytes`.
        host_bytes: main memory that a job may use.
        disk_bytes: its own disks, or the volume of the config.
        trains: whether the config has the training on it, and `serves` the endpoint.
        fits: whether the training fits; None if that is unknown. If not, it is short of `GPU`, `RAM` or `disk`.
        endpoint_fits: the same of the endpoint, which may be short of `GPU` or `RAM`.
        usd_per_hour: of the training job, with all of its instances; None if it is unknown.
        seconds: that the job takes as an earlier one on this type has measured; None if none has.
        usd: of the job in that time.
        band: the time by arithmetic; None if `seconds` is known, if the training does not fit, or if that is unknown.
        endpoint_usd_per_hour: of one instance of an endpoint.
    """

    instance_type: str
    gpus: int
    gpu_bytes: int
    host_bytes: int
    disk_bytes: int
    trains: bool
    serves: bool
    fits: bool | None
    short_of: str
    usd_per_hour: float | None
    seconds: float | None
    usd: float | None
    endpoint_usd_per_hour: float | None
    endpoint_usd_per_day: float | None
    endpoint_usd_in_30_days: float | None
    band: TimeBand | None = None
    endpoint_fits: bool | None = None
    endpoint_short_of: str = ""


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What `plan` found out before anything costs money.

    Attributes:
        prepared: whether a dataset is prepared. Without one there is no work to count.
        tokens: that all steps see; three epochs see each token three times.
        seconds: that the steps take at the speed of the job named by `seconds_from`; None if no such job was measured.
        band: the time by arithmetic; None if `seconds` is known, or nobody here can tell.
        usd_per_hour: price of the job on demand; 0 if it is free, None if it is unknown.
        spot_least_usd_per_hour: the price less the 90% that AWS names as the most that spot saves. It publishes no
            prices of SageMaker's spot instances. None if there is no spot.
        longest_seconds: after which the job is stopped; None if nothing stops it.
        endpoint_usd_per_hour: price of one instance of the endpoint.
        memory: what the training needs of its GPU, or of this machine; None where it does not fit or is unknown.
        memory_unknown: why nobody here can tell; empty if it is known.
        host: main memory of an instance; None where it is that of `memory`, or unknown.
        disk: of an instance, or of this machine; None where it is unknown.
        instances: types to choose from, the smallest GPU first; none on this machine.
    """

    run: str
    job: str
    prepared: bool
    packs: int
    steps: int
    tokens: int
    seconds: float | None
    seconds_from: str
    usd_per_hour: float | None
    spot_least_usd_per_hour: float | None
    longest_seconds: int | None
    endpoint_usd_per_hour: float | None
    checks: tuple[Check, ...]
    memory: MemoryPlan | None = None
    memory_unknown: str = ""
    host: Room | None = None
    disk: Room | None = None
    instances: tuple[InstanceOption, ...] = ()
    band: TimeBand | None = None


@dataclass(frozen=True, slots=True)
class TrainStarted:
    """What `train --no-wait` returns: the job runs, and nobody follows it."""

    run: str
    job: str
    location: str
    status: str


TrialState = Literal["waiting", "running", "done", "stopped", "failed", "left out"]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial of a sweep.

    Attributes:
        run: the name of its run.
        values: of the swept keys.
        value: what it came to, by the sweep's metric; the last one seen if it was stopped. None before there is one.
        evaluations: how many it had before its last step.
        usd: what it has cost; None if that is unknown.
        reason: why it failed, was stopped or left out.
        job: its training job; empty before there is one.
    """

    run: str
    values: Mapping[str, bool | int | float | str]
    state: TrialState
    value: float | None
    evaluations: int
    usd: float | None
    reason: str = ""
    job: str = ""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What `sweep` found: the trials, the best first. `best` is the run of the best that is done, empty without one.

    Attributes:
        metric: `loss`, of which less is better, or the name of a ROUGE score.
        page: the HTML page with the charts; empty if none was written.
        usd: what all trials have cost; None if that is unknown.
    """

    run: str
    metric: str
    trials: tuple[TrialResult, ...]
    best: str
    page: str
    usd: float | None
    seconds: float


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
    """When its time is over; None if it has no end."""
    ends_itself: bool = False
    """Whether it then goes without any lorasum running."""
    until: str = ""
    """The same for people: `until 18:40 CET, at most $8.12`."""
    adapters: tuple[str, ...] = ()
    """The runs whose adapters requests can name, this run first; empty if the endpoint serves one model."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One summary; `reference` is set where one is known (--sample, or a summary column in --input)."""

    dialogue: str
    summary: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """More of a summary that is being generated."""

    piece: str


@dataclass(frozen=True, slots=True)
class BatchPrediction:
    """What `predict --input --output` did."""

    input: str
    output: str
    rows: int
    seconds: float
    failures: tuple["RowFailure", ...] = ()
    """Rows that the endpoint refused; in `output` they have `error` instead of a summary."""

    @property
    def took_stdout(self) -> bool:
        """Whether the rows were written to stdout, where nothing else may stand then."""
        return self.output == str(STDOUT)


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row of `predict --input` without an answer."""

    line: int
    """Of the input file, from 1."""
    reason: str


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """The judgement of a language model: mean marks from 1 to 5, and comparisons with the base model's summaries.

    The marks are NaN where nothing was judged.
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
    language: str
    """ISO 639-1 code of the language that the summaries are scored in."""
    scores: Mapping[str, Scores]
    """Scores by the name of what is scored, such as `fine-tuned` or `base model`."""
    comparisons: tuple[Comparison, ...]
    """The tuned model compared with each of the others."""
    worst: tuple[ScoredSummary, ...]
    """The tuned model's worst summaries, to be looked at first."""
    summaries: str
    """File of all its summaries with their scores and findings, one JSON object a line."""
    judge: JudgeFigures | None
    missed: tuple[str, ...]
    """Figures that are below what `--fail-under` asks for, one line each."""
    seconds: float
    artifact: str = ""
    """What was evaluated; empty in records of earlier versions."""


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The page that `report` wrote."""

    run: str
    page: str
    compared_with: str
    """The other run or job; empty if there is none."""
    missing: tuple[str, ...]
    """What the page lacks and why, one line each."""


@dataclass(frozen=True, slots=True)
class PushResult:
    """What `push` uploaded."""

    run: str
    job: str
    repository: str
    address: str
    private: bool
    what: str
    """`merged model` or `adapter`."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The file that `export` wrote."""

    run: str
    job: str
    file: str
    bytes: int
    architecture: str
    """As GGUF names it."""
    tensors: int


@dataclass(frozen=True, slots=True)
class TeardownResult:
    run: str
    removed: tuple[str, ...]
    """What was stopped or deleted just now, one line each."""
    remaining: tuple[str, ...]
    """Resources that still run or cost money. The command fails unless this is empty."""


@dataclass(frozen=True, slots=True)
class TeardownAllResult:
    """What `teardown --all` did.

    Attributes:
        runs: those of this machine of which something ran.
        elsewhere: what is on record as running in an account: only its own config says where that is.
    """

    runs: tuple[TeardownResult, ...]
    elsewhere: tuple[str, ...]

    @property
    def remaining(self) -> tuple[str, ...]:
        """What still runs, one line each."""
        return (*(one for run in self.runs for one in run.remaining), *self.elsewhere)


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """A recorded resource as `status` shows it.

    Attributes:
        usd: what this resource and earlier ones of its name have cost up to now; None if that is unknown.
        alarm: why it may cost money without need; empty if all is well.
        progress: how far a training job is, or the losses that it ended with.
        asked: whether its backend was asked about it; otherwise it is shown as recorded.
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
    progress: str = ""
    asked: bool = True

    @classmethod
    def of(
        cls, row: Resource, usd: float | None, alarm: str = "", progress: str = "", asked: bool = True
    ) -> "ResourceStatus":
        """The record of a row whose cost up to now is `usd`."""
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
            progress=progress,
            asked=asked,
        )


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as `runs` lists it."""

    run: str
    bytes: int
    """What its folder takes of this disk."""
    changed_at: str
    """When it was last changed: UTC, ISO 8601."""
    live: bool
    """Whether something of it is on record as running."""
    usd: float | None
    """What all of it has cost up to now; None where that is unknown."""
    rouge_l: float | None
    """Mean ROUGE-L of the newest evaluation, 0 to 100; None where there is none."""


@dataclass(frozen=True, slots=True)
class RunsResult:
    runs: tuple[RunSummary, ...]


@dataclass(frozen=True, slots=True)
class CleanPlan:
    """What `clean --dry-run --json` prints: what would be deleted, a line each, and the bytes that this would free."""

    would_delete: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What `clean` deleted, one line each, and the bytes that this freed."""

    deleted: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class EnvResult:
    """What `env` says of this machine.

    Attributes:
        gpus: each with its memory and driver.
        home: the folder of everything that lorasum writes; `free_bytes` are left on its disk.
        packages: version by name.
        variables: those of the environment that lorasum or its libraries read; secrets are left out.
    """

    lorasum: str
    python: str
    system: str
    cpu: str
    gpus: tuple[str, ...]
    home: str
    free_bytes: int
    container_scripts: str
    packages: Mapping[str, str]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StatusResult:
    resources: tuple[ResourceStatus, ...]
    rebuilt: tuple[str, ...] = ()
    """What was set aside and recorded anew, one line each."""

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
