"""Results of the verbs up to a trained model: init, prepare, plan, train, sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lorasum.backends.records import Check, Room
from lorasum.data.records import Look, Manifest
from lorasum.shared.records import MemoryPlan


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
    """Why it is this step, such as `highest rougeL of 3 evaluations`."""
    score: float | None
    """Of these weights, 0 to 100, where the training was evaluated by a score; `scored_by` is its name."""
    scored_by: str
    generation_seconds: float
    """What generating summaries for that took; in `seconds`, and not in `tokens_per_second`."""
    not_merged: str = ""
    """Why the artifact has the adapter alone, which `deploy.serve: adapter` serves; empty if it has a merged model."""
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
        endpoint_fits: whether the GPUs have room for the model on an endpoint; None if that is unknown.
        usd_per_hour: of the training job, with all of its instances; None if it is unknown.
        seconds: that the job takes as an earlier one on this type has measured; None if none has.
        beside_seconds: that start and end of the job are estimated to take on top; 0 if that is not known.
        usd: of the job in all of that time.
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
    beside_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What `plan` found out before anything costs money.

    Attributes:
        prepared: whether a dataset is prepared. Without one there is no work to count.
        tokens: that all steps see; three epochs see each token three times.
        seconds: that the steps take at the speed of the job named by `seconds_from`; None if no such job was measured.
        band: the time by arithmetic; None if `seconds` is known, or nobody here can tell.
        beside_seconds: that its start and end are estimated to take on top, on SageMaker; 0 if that is not known.
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
    beside_seconds: float = 0.0


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
