"""Records between commands and backends: what to start, what was started, and its state."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lorasum.ledger.resources import Adapter

if TYPE_CHECKING:  # it brings pydantic, and `lorasum --help` reads these records
    from lorasum.models.source import ModelRef

JobStatus = Literal["running", "completed", "failed", "stopped", "absent"]
EndpointStatus = Literal["creating", "in_service", "failed", "absent"]
SCRIPTS: Final = "container scripts"
"""Their key in what a job was made with."""


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """All a backend needs to start one training job.

    Attributes:
        job_name: unique; the same spec always gets the same name, so starting it again adopts the job.
        checkpoints: the job of the run whose checkpoints it goes on from and adds to; empty: it has its own.
        dataset: prepared dataset folder (manifest.json, train/, test/).
        hyperparameters: flag name → value as SageMaker passes them: strings of at most 256 characters.
        max_seconds: how long the job may run; None where only the backend limits it. It decides nothing about the name.
        base_seconds: how long the base model may summarise test dialogues at the job's end. It decides nothing about
            the name either.
        base_summaries: folder with what an earlier job has had it say; the job takes that into its artifact.
        adapter_only: whether it leaves its adapter alone, without a merged model. It decides nothing about the name.
        base_as_trained: whether it is then asked with the prompt of the training, although it has a chat format.
        processes: how many processes train or answer together. They decide nothing about the name either.
        report_to: trackers that get the job's figures. They decide nothing about the name either.
        program: the container script that the job runs.
        artifact: folder or URI of an artifact, which the job gets in the place of a base model.
    """

    run: str
    job_name: str
    model: "ModelRef"
    dataset: Path
    hyperparameters: Mapping[str, str]
    max_seconds: int | None = None
    base_seconds: int = 0
    base_summaries: Path | None = None
    adapter_only: bool = False
    base_as_trained: bool = False
    processes: int = 1
    report_to: tuple[str, ...] = ()
    program: str = "train.py"
    artifact: str = ""
    checkpoints: str = ""

    @property
    def kind(self) -> Literal["training_job", "batch_job"]:
        """What the job is: one that has an artifact answers with it."""
        return "batch_job" if self.artifact else "training_job"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be right before the training, or the endpoint, can start.

    Attributes:
        found: what is there, or what is wrong with it.
        fix: what to do about it; empty if it is right.
        stops_training: whether the training cannot start if it is not right; otherwise only the endpoint cannot.
        unknown: whether nobody could be asked just now; `ok` is false then.
    """

    what: str
    ok: bool
    found: str
    fix: str = ""
    stops_training: bool = True
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What a training takes of a main memory or a disk, and what is there; bytes."""

    parts: Mapping[str, int]
    there_bytes: int

    @property
    def needed_bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Also where it is not known what is there."""
        return not self.there_bytes or self.needed_bytes <= self.there_bytes


@dataclass(frozen=True, slots=True)
class JobRef:
    """A training job that was started; `location` is the backend's own address of it (folder, ARN)."""

    name: str
    location: str


@dataclass(frozen=True, slots=True)
class JobState:
    """The state of a job; `reason` is one line for failed and stopped jobs."""

    status: JobStatus
    reason: str = ""
    hint: str = ""
    no_capacity: bool = False
    """It failed because no instance was free: nothing ran, nothing was billed, and it may be started again."""
    by_request: bool = False
    """Somebody asked it to stop: no limit, and no spot instance that was taken away."""
    pending: bool = False
    """It runs and has no instance yet."""


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """All a backend needs to start one endpoint.

    Attributes:
        artifact: folder or URI holding a model, its tokenizer and (unless `code` is given) code/inference.py.
        code: folder with inference.py for a model that carries none (a base model).
        base: with it, the artifact's adapter is served on top of this base model, instead of the merged one.
        adapters: with `base`, the adapters that requests can name; the artifact's own is the first.
        gpus: among how many GPUs of its instance the model is divided, where the engine divides it.
        shortens_context: whether one text of the model's whole context has no room beside the weights.
        port: local port, 0 for any free one.
        startup_timeout: seconds until /ping must answer 200.
        mark: tells this start from one of another client at the same time; empty where there can be none.
    """

    run: str
    name: str
    artifact: str
    code: Path | None = None
    base: "ModelRef | None" = None
    port: int = 0
    startup_timeout: float = 300.0
    adapters: tuple[Adapter, ...] = ()
    gpus: int = 1
    shortens_context: bool = False
    mark: str = ""


@dataclass(frozen=True, slots=True)
class EndpointRef:
    """An endpoint that was started.

    Attributes:
        location: its address (URL, ARN).
        artifact: what it serves.
        load_seconds: how long it may take from now on until its model is loaded and it answers its first request.
    """

    name: str
    location: str
    artifact: str
    load_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class EndpointState:
    """The state of an endpoint; `ref` is set unless it is absent.

    `created` is when it was started; what it serves may have been replaced since. None where nobody knows.
    `instances` is how many it runs on; 0 where that is not shown.
    """

    status: EndpointStatus
    ref: EndpointRef | None = None
    reason: str = ""
    created: datetime | None = None
    instances: int = 1
