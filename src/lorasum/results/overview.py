"""Results of the verbs that only look: status, runs, report; and of clean."""

from collections.abc import Mapping
from dataclasses import dataclass

from lorasum.ledger.resources import Resource, ResourceState, details, kind_of


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
class StatusResult:
    resources: tuple[ResourceStatus, ...]
    rebuilt: tuple[str, ...] = ()
    """What was set aside and recorded again, one line each."""

    @property
    def alarms(self) -> tuple[str, ...]:
        """What may cost money that it should not, one line each."""
        named = [(f"{row.kind.replace('_', ' ')} {row.name} of run {row.run}", row) for row in self.resources]
        return tuple(f"{name}: {row.alarm}" for name, row in named if row.alarm)
