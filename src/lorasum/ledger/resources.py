"""What the ledger records: one frozen dataclass for each kind of thing a run creates."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import ClassVar, Final, Literal

from lorasum.shared.events import DoneEvent

ResourceState = Literal["intended", "live", "done", "stopped", "failed", "gone", "unreadable"]
OPEN: Final = ("intended", "live", "unreadable")
"""The states in which a resource may be running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something a run created, or was about to create.

    Attributes:
        account_and_region: where on the backend it is; empty on the user's own machine.
        access: the keys of the config by which it is reached there, such as region and profile; none on this machine.
        reason: one line on why it stopped, failed or is gone, or is only intended.
        asked: whether the backend may have been asked to create it.
        usd_per_hour: its price while it runs; None if that is unknown.
        usd_before: what earlier ones of this name, such as attempts of a job, had cost then; None if that is unknown.
        usd_total: `usd_before` plus its own cost, a job's so far and an endpoint's at its end; None where unknown.
        created_at: UTC, ISO 8601; set by the ledger, as is `updated_at`.
    """

    kind: ClassVar[str] = "resource"

    run: str
    name: str
    backend: str
    state: ResourceState = "intended"
    account_and_region: str = ""
    access: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    asked: bool = False
    usd_per_hour: float | None = 0.0
    usd_before: float | None = 0.0
    usd_total: float | None = None
    created_at: str = ""
    updated_at: str = ""

    @property
    def kept_warm(self) -> bool:
        """Whether it is a job that has ended and whose instance is kept, and billed."""
        return False

    @property
    def is_open(self) -> bool:
        """Whether it may be running, or billed for an instance that is kept."""
        return self.state in OPEN or self.kept_warm

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What an endpoint needs to know about the training that made its artifact.

    Attributes:
        dataset: folder of the prepared dataset.
        fingerprint: that dataset's.
        template: the prompt template.
        control_tokens: texts that the tokenizer reads as control tokens. In a dialogue they are escaped.
        model: location of the base model, as transformers takes it; `model_revision` is that of a hub model, or empty.
    """

    template: str
    control_tokens: tuple[str, ...] = ()
    dataset: str = ""
    fingerprint: str = ""
    model: str = ""
    model_revision: str = ""


NO_FIGURES: Final = DoneEvent(None, None, 0, 0.0, 0.0, 0)
"""The figures of a job that has not completed, or that reported none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Resource):
    """A prepared dataset; `path` is its folder."""

    kind: ClassVar[str] = "dataset"

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob(Resource):
    """A training job.

    Attributes:
        asked_as: the name that its config, data and model come to. Its own is another if it was made `--again`.
        location: the backend's address of its newest attempt (folder, ARN); empty before the first was started.
        artifact: folder or URI of its artifact; empty before it completed.
        warm: whether its instance is kept, and billed, after its end.
        figures: its duration, losses and speed, from its `done` event.
        hyperparameters: of its training script; none where the job was recorded from what the backend shows.
        planned_seconds: how long its steps were expected to take when it was started; None if nobody had measured.
        instance_type: it runs on; empty on this machine, or where it may get one of several.
    """

    kind: ClassVar[str] = "training_job"

    origin: Origin
    asked_as: str = ""
    location: str = ""
    artifact: str = ""
    warm: bool = False
    figures: DoneEvent = NO_FIGURES
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    planned_seconds: float | None = None
    instance_type: str = ""

    @property
    def kept_warm(self) -> bool:
        return self.state not in OPEN and self.warm


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob(Resource):
    """A job that summarises a file of rows; `location` is the backend's address of it."""

    kind: ClassVar[str] = "batch_job"

    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One of the adapters that an endpoint serves, by the name of its run.

    Attributes:
        job: the training job that made it.
        artifact: folder or URI of that job's artifact.
        rank: of its A and B.
    """

    run: str
    job: str
    artifact: str
    rank: int
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Resource):
    """An endpoint.

    Attributes:
        artifact: what it serves.
        job: the training job that made the artifact; empty for a base model.
        settings: the config's sections that decide about the endpoint, as JSON with sorted keys.
        mark: of the start that made it, by which it is told from one that another client has started.
        location: its address (URL, ARN); empty before it was started.
        expires_at: when its time is over, with its zone; None if it has no end.
        ends_itself: whether it then goes without any lorasum running. Where that could not be arranged, `status` tells.
        adapters: that requests can name, the run's own first; none if it serves one model.
        instances: how many it had when it was looked at last.
        most_instances: how many it may grow to under load. Its cost is that of one; nobody tells how many ran.
        for_one_run: whether `run` started it, to remove it at its end. A `deploy` makes it one that stays.
    """

    kind: ClassVar[str] = "endpoint"

    artifact: str
    origin: Origin
    job: str = ""
    settings: str = ""
    mark: str = ""
    location: str = ""
    expires_at: datetime | None = None
    ends_itself: bool = False
    adapters: tuple[Adapter, ...] = ()
    instances: int = 1
    most_instances: int = 1
    for_one_run: bool = False

    @property
    def is_open(self) -> bool:  # a failed one may be there, and billed, until it is known what it has cost
        return self.state in OPEN or (self.state == "failed" and self.usd_total is None and self.usd_per_hour != 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable(Resource):
    """A row of the ledger that this version cannot read; `reason` says why. The resource may be running.

    Attributes:
        stored_kind: the kind that the row names.
        stored: its details, as they are stored.
    """

    kind: ClassVar[str] = "unreadable"

    stored_kind: str
    stored: str
    state: ResourceState = "unreadable"

    @property
    def is_open(self) -> bool:
        return self.state == "unreadable" and self.stored_kind != Dataset.kind

    def __str__(self) -> str:
        return f"{self.stored_kind.replace('_', ' ')} {self.name}"


COLUMNS: Final = ("run", "kind", "name", "backend", "state", "created_at", "updated_at", "usd_per_hour")
"""Fields that have columns in the ledger. The other fields of a resource are its details, stored as JSON."""


def kind_of(resource: Resource) -> str:
    """The kind that is on record: dataset, training_job or endpoint, also of a row that cannot be read."""
    return resource.stored_kind if isinstance(resource, Unreadable) else resource.kind


def is_of_unknown_place(resource: Resource) -> bool:
    """Whether its record cannot be read, and does not tell in which account and region it is either."""
    return isinstance(resource, Unreadable) and resource.backend != "local" and not resource.account_and_region


def details(resource: Resource) -> dict[str, object]:
    """The fields of a resource that have no column of their own, ready for JSON."""
    fields = {name: value for name, value in asdict(resource).items() if name not in COLUMNS}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
