"""Results of the verbs that only look: status, runs, report; and of clean."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Literal

from lorasum.formatting import on_disk
from lorasum.ledger.resources import Endpoint, Resource, ResourceState, kind_of


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The page that `report` wrote."""

    run: str
    page: str
    compared_with: str | None
    """The other run or job; None if there is none."""
    missing: tuple[str, ...]
    """What the page lacks and why, one line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResource:
    """A job, an endpoint or a dataset of a run.

    Attributes:
        kind: `training_job`, `batch_job`, `endpoint` or `dataset`.
        account_and_region: where on the backend it is; None on this machine.
        location: the backend's address of it: a folder, a URL, an ARN or a URI; None where it is not known.
        reason: such as why it could not be removed, or why it failed; may be empty.
        usd_per_hour: what it costs while it runs, with all instances that it had last; None if that is unknown.
    """

    run: str
    kind: str
    name: str
    backend: str
    account_and_region: str | None
    location: str | None
    reason: str
    usd_per_hour: float | None

    @staticmethod
    def of_row(row: Resource, reason: str) -> "RunResource":
        """What is on record, and why it is told of."""
        return RunResource(
            run=row.run,
            kind=kind_of(row),
            name=row.name,
            backend=row.backend,
            account_and_region=row.account_and_region or None,
            location=getattr(row, "location", None) or getattr(row, "path", None) or None,
            reason=reason,
            usd_per_hour=row.usd_per_hour and row.usd_per_hour * getattr(row, "instances", 1),
        )

    def __str__(self) -> str:
        """`endpoint chats (http://127.0.0.1:4000): it still runs`."""
        where, why = f" ({self.location})" if self.location else "", f": {self.reason}" if self.reason else ""
        return f"{self.kind.replace('_', ' ')} {self.name}{where}{why}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. A step of a batch job is a row.

    Attributes:
        step: the last of `steps` that is done; 0 before the first one. Both are None once a training job is done.
        steps: how many there are; None too until the job knows.
        train_loss: of the newest step, or of the whole job once it is done.
        eval_loss: on the test split; None before the end.
        seconds_left: until the last step; None where nobody knows.
    """

    step: int | None = None
    steps: int | None = None
    train_loss: float | None = None
    eval_loss: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatus(RunResource):
    """A recorded resource as `status` shows it.

    Attributes:
        state: `live` while it runs, `intended` before it has answered, `unreadable` where its record cannot be read.
        kept_warm: whether it is a job that has ended and whose instance is kept, and billed.
        may_run: whether it may be running or billed.
        created_at: UTC, ISO 8601, as is `updated_at`, the time of its last change.
        usd: what this resource and earlier ones of its name have cost up to now; None if that is unknown.
        artifact: what a job has made or an endpoint serves: a folder or a URI.
        job: the training job that made what an endpoint serves; None for a base model, and for other kinds.
        instance_type: what a training job runs on; None on this machine, and if it may get one of several.
        expires_at: when an endpoint's time is over; None if it has no end.
        ends_itself: whether it is then deleted although no lorasum runs.
        adapters: the runs whose adapters requests can name; empty if the endpoint serves one model.
        instances: how many an endpoint had when it was looked at last.
        most_instances: how many it may grow to. `usd` is that of one.
        alarm: why it may cost money without need; empty if all is well.
        progress: how far a job is; None if that is unknown, and for other kinds.
        asked: whether its backend was asked about it; otherwise it is shown as recorded.
    """

    state: ResourceState
    kept_warm: bool
    may_run: bool
    created_at: str
    updated_at: str
    usd: float | None
    artifact: str | None
    job: str | None
    instance_type: str | None
    expires_at: datetime | None
    ends_itself: bool
    adapters: tuple[str, ...]
    instances: int
    most_instances: int
    alarm: str = ""
    progress: Progress | None = None
    asked: bool = True

    def as_alarm(self) -> RunResource:
        """The resource with its alarm as the reason."""
        plain = RunResource(**{one.name: getattr(self, one.name) for one in fields(RunResource)})
        return replace(plain, reason=self.alarm)

    @classmethod
    def of(
        cls, row: Resource, usd: float | None, alarm: str = "", progress: Progress | None = None, asked: bool = True
    ) -> "ResourceStatus":
        """The record of a row whose cost up to now is `usd`."""
        endpoint = row if isinstance(row, Endpoint) else None
        return cls(
            **asdict(RunResource.of_row(row, row.reason)),
            state=row.state,
            kept_warm=row.kept_warm,
            may_run=row.is_open,
            created_at=row.created_at,
            updated_at=row.updated_at,
            usd=usd,
            artifact=getattr(row, "artifact", None) or None,
            job=getattr(row, "job", None) or None,
            instance_type=getattr(row, "instance_type", None) or None,
            expires_at=endpoint.expires_at if endpoint else None,
            ends_itself=bool(endpoint and endpoint.ends_itself),
            adapters=tuple(one.run for one in endpoint.adapters) if endpoint else (),
            instances=endpoint.instances if endpoint else 1,
            most_instances=endpoint.most_instances if endpoint else 1,
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
    may_run: bool
    """Whether something of it is on record that may be running or billed."""
    usd: float | None
    """What all of it has cost up to now; None where that is unknown."""
    rougeL: float | None  # noqa: N815  the metric's own name
    """Mean ROUGE-L of the newest evaluation, 0 to 100; None where there is none."""
    dialogues: int = 0
    """How many test dialogues that evaluation has: fewer than all after `evaluate --limit`; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class RunsResult:
    """The runs of this machine, the last changed first."""

    runs: tuple[RunSummary, ...]


@dataclass(frozen=True, slots=True)
class CleanFolder:
    """A folder that `clean` deletes.

    Attributes:
        kind: `run` or `model`.
        bytes: what it takes of this disk.
    """

    kind: Literal["run", "model"]
    name: str
    location: str
    bytes: int

    def __str__(self) -> str:
        """`run chats: 1.20 GB in /home/ann/.lorasum/runs/chats`."""
        return f"{self.kind} {self.name}: {on_disk(self.bytes)} in {self.location}"


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What `clean` deleted, or with `--dry-run` would delete.

    Attributes:
        bytes: what this frees of this disk.
    """

    dry_run: bool
    folders: tuple[CleanFolder, ...]
    bytes: int

    @classmethod
    def of(cls, folders: Sequence[CleanFolder], dry_run: bool = False) -> "CleanResult":
        """The folders, with the sum of their bytes."""
        return cls(dry_run, tuple(folders), sum(one.bytes for one in folders))


@dataclass(frozen=True, slots=True)
class StatusResult:
    """What `status` found.

    Attributes:
        alarms: what may cost money without need, each with the reason. The exit code is 3 unless this is empty.
        rebuilt: what `--rebuild` set aside and recorded again, one line each.
        run: the only one that was looked at; null if all were.
        unread_ledgers: files that cannot be read, and whose records may cost money. The exit code is 3 for them too.
    """

    resources: tuple[ResourceStatus, ...]
    alarms: tuple[RunResource, ...] = ()
    rebuilt: tuple[str, ...] = ()
    run: str | None = None
    unread_ledgers: tuple[str, ...] = ()
