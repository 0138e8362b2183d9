"""Results of the verbs up to a trained model: init, prepare, plan, train, sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lorasum.backends.records import Check, Room
from lorasum.data.records import Look, Manifest
from lorasum.shared.records import MemoryPlan


@dataclass(frozen=True, slots=True)
class InitResult:
    """The config that `init` wrote.

    Attributes:
        config: its file.
        model: the base model: a hub id, or a folder as the config has it.
        max_length: tokens.
        data: what it saw of the chats.
        next: commands to go on with.
    """

    config: str
    run: str
    backend: str
    model: str
    max_length: int
    data: Look
    next: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """The files that `init --example` wrote, the config first."""

    example: str
    files: tuple[str, ...]
    next: tuple[str, ...]
    """Commands to go on with."""


@dataclass(frozen=True, slots=True)
class TranslatedResult:
    """The config that `init --from` made of another tool's."""

    config: str
    run: str
    tool: str
    left: tuple[str, ...]
    """Keys of that tool without an exact counterpart, with their values."""
    missing: tuple[str, ...]
    """What its config does not say and lorasum's must, one line each."""
    next: tuple[str, ...]
    """Commands to go on with."""


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """The prepared dataset."""

    run: str
    dataset: str
    """Its folder."""
    reused: bool
    """Whether nothing had changed since the last prepare."""
    manifest: Manifest
    """What its manifest.json says."""
    seconds: float
    rejected: str | None = None
    """File of the rows that were left out, one JSON object a line; None if all were kept."""
    shared: str | None = None
    """File of the training rows whose dialogues are in the test split too, with the test rows; None without any."""
    page: str | None = None
    """HTML page of what is in `manifest`."""
    shown: tuple["RenderedExample", ...] = ()
    """The training examples that --show asked for."""


@dataclass(frozen=True, slots=True)
class RenderedExample:
    """An example as the model sees it: decoded from the dataset's tokens."""

    prompt: str
    completion: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """The training job, which is done, or was started with `--no-wait`.

    The figures are None while the job runs, and if it reported none.

    Attributes:
        location: the backend's address of the job: a folder or an ARN.
        artifact: the folder or URI of what it made; None while it runs.
        reused: whether this very job had already completed.
        seconds: what this command took.
        job_seconds: what the job took.
        tokens: how many its steps saw.
        kept_step: the step whose weights the artifact has.
        kept_because: why it is this step, such as `highest rougeL of 3 evaluations`.
        score: of these weights, 0 to 100, if the training was evaluated by a score; `scored_by` is its name.
        generation_seconds: what generating summaries for the score took. `job_seconds` has it, `tokens_per_second` not.
        not_merged: why the artifact has the adapter alone, for `deploy.serve: adapter`; empty if it has a merged model.
        changed: what was different when the job was made, such as the container scripts; `--again` makes another one.
        gguf: whether it has a merged model of a type that `export` writes.
    """

    run: str
    job: str
    location: str
    state: Literal["live", "done"]
    artifact: str | None
    reused: bool
    seconds: float
    job_seconds: float | None
    train_loss: float | None
    eval_loss: float | None
    tokens: int | None
    tokens_per_second: float | None
    kept_step: int | None
    kept_because: str
    score: float | None
    scored_by: str
    generation_seconds: float | None
    not_merged: str = ""
    changed: tuple[str, ...] = ()
    gguf: bool = False


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What `train --dry-run` prints: the job that `train` would start, whose name changes with the data."""

    run: str
    job: str
    entry_point: str
    """The script that it runs."""
    model: str
    dataset: str
    """Its folder."""
    hyperparameters: Mapping[str, str]
    """Flags of that script."""
    request: Mapping[str, Any] | None = None
    """The request that would be sent to the cloud; None on this machine."""


@dataclass(frozen=True, slots=True)
class TimeBand:
    """The time that the steps of a training take by arithmetic, where no earlier job has measured it."""

    shortest_seconds: float
    """With the highest of `shares`."""
    longest_seconds: float
    """With the lowest."""
    operations: float
    """Floating-point operations of all steps."""
    peak_operations_per_second: float
    """What the device reaches at most."""
    shares: tuple[float, float]
    """The lowest and the highest share of that peak that trainings are known to reach."""


@dataclass(frozen=True, slots=True)
class InstanceOption:
    """An instance type that a run could take.

    Attributes:
        gpu_bytes: free on each GPU before a model is loaded; 0 if it is not known, as with `host_bytes`.
        host_bytes: main memory that a job may use.
        disk_bytes: its own disks, or the volume of the config.
        trains: whether the config has the training on it.
        serves: whether the config has the endpoint on it.
        fits: whether the training fits; None if that is unknown.
        short_of: `GPU`, `RAM` or `disk`, where it does not fit.
        endpoint_fits: whether the GPUs have room for the model on an endpoint; None if that is unknown.
        usd_per_hour: of the training job, with all of its instances; None if it is unknown.
        training_seconds: what its steps take, as an earlier job on this type has measured; None if none has.
        overhead_seconds: what start and end of the job take besides, an estimate; 0 if that is not known.
        usd: of the job, for `training_seconds` and `overhead_seconds`; None if time or price is unknown.
        band: the time by arithmetic; None if it was measured or is unknown, and where the training does not fit.
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
    training_seconds: float | None
    usd: float | None
    endpoint_usd_per_hour: float | None
    endpoint_usd_per_day: float | None
    endpoint_usd_in_30_days: float | None
    band: TimeBand | None = None
    endpoint_fits: bool | None = None
    overhead_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What `plan` found out before anything costs money.

    Attributes:
        job: the name that its job has; another one as long as nothing is prepared, because the data is part of it.
        prepared: whether a dataset is prepared. Without one there is no work to count.
        packs: of one epoch.
        steps: of the optimizer.
        tokens: how many all steps see; three epochs see each token three times.
        training_seconds: what its steps take at the speed of `measured_job`; None if no such job was measured.
        band: the time by arithmetic; None if `training_seconds` is known, or there is no estimate.
        overhead_seconds: what its start and end take besides on SageMaker, an estimate; 0 if that is not known.
        usd_per_hour: price of the job on demand; 0 if it is free, None if it is unknown.
        spot_least_usd_per_hour: the price less 90%, the most that `sagemaker.spot` saves; None without it.
        limit_seconds: the time after which the job is stopped; None if nothing stops it.
        endpoint_usd_per_hour: price of one instance of the endpoint.
        max_usd: what it costs at most, the end after `limit_seconds` included; None if that or the price is unknown.
        checks: what must be right before the training, or the endpoint, can start.
        memory: what the training needs of its GPU, or of this machine; None where it does not fit or is unknown.
        memory_unknown: why `memory` is unknown; empty if it is known.
        host: main memory of an instance; None on this machine, whose main memory is in `memory`, or if unknown.
        disk: of an instance, or of this machine; None where it is unknown.
        instances: types to choose from, the smallest GPU first; none on this machine.
    """

    run: str
    job: str
    prepared: bool
    packs: int
    steps: int
    tokens: int
    training_seconds: float | None
    measured_job: str | None
    usd_per_hour: float | None
    spot_least_usd_per_hour: float | None
    limit_seconds: int | None
    endpoint_usd_per_hour: float | None
    checks: tuple[Check, ...]
    memory: MemoryPlan | None = None
    memory_unknown: str = ""
    host: Room | None = None
    disk: Room | None = None
    instances: tuple[InstanceOption, ...] = ()
    band: TimeBand | None = None
    overhead_seconds: float = 0.0
    max_usd: float | None = None


TrialState = Literal["waiting", "live", "done", "stopped", "failed", "left_out"]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial of a sweep."""

    run: str
    """The name of its run."""
    values: Mapping[str, bool | int | float | str]
    """Of the swept keys."""
    state: TrialState
    value: float | None
    """Its result by the sweep's metric, the last one seen if it was stopped; None before there is one."""
    evaluations: int
    """How many it had before its last step."""
    usd: float | None
    """What it has cost; None if that is unknown."""
    reason: str = ""
    """Why it failed, was stopped or left out."""
    job: str | None = None
    """Its training job; None before there is one."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What `sweep` found: the trials, the best first. `best` is the run of the best that is done, None without one.

    Attributes:
        metric: `loss`, where less is better, or the name of a ROUGE score.
        page: the HTML page with the charts; None if none was written.
        usd: what all trials have cost; None if that is unknown.
        next: commands that serve the best trial and make its merged model; FILE is the config with the sweep's `--set`.
    """

    run: str
    metric: str
    trials: tuple[TrialResult, ...]
    best: str | None
    page: str | None
    usd: float | None
    seconds: float
    next: tuple[str, ...] = ()
