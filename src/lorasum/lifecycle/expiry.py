"""When an endpoint ends by itself: the time that is asked for, and what is on record of it."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from lorasum.config.schema import Config, DeployConfig
from lorasum.context import RunContext
from lorasum.errors import BackendError, LorasumError, OutageError
from lorasum.formatting import clock
from lorasum.ledger.resources import Dataset, Endpoint, Resource, Unreadable
from lorasum.lifecycle.limits import endpoint_end
from lorasum.lock import HeldRun

LATE: Final = timedelta(minutes=2)
"""How much later than its time an endpoint may go: EventBridge Scheduler is precise to a minute."""


def end_of(
    run: RunContext, before: Endpoint | None, began: datetime | None, usd_per_hour: float | None
) -> datetime | None:
    """When an endpoint that is deployed now ends by itself: at the time that was asked for, or at a limit before it.

    Args:
        before: what is on record of an endpoint of this name.
        began: when the one that serves now was started, whatever it has served since: its limits count from then. None
            if there is none.
        usd_per_hour: of one instance; None if that is unknown.

    Raises:
        LorasumError: it has reached its limits.
    """
    config, now = run.config, run.ledger.now()
    limit = endpoint_end(config.limits, began or now, usd_per_hour, most_instances(config), run.reporter)
    if limit and limit <= now:
        raise LorasumError(
            f"endpoint {config.name} has reached its `limits`: it was to end at {clock(limit, now)}",
            "raise limits.max_usd or limits.max_hours, or delete it with `lorasum teardown`",
        )
    ends = [end for end in (limit, _asked_for(config.deploy, before, now)) if end]
    return min(ends, default=None)


def is_wanted(config: Config) -> bool:
    """Whether a config asks for an end of its endpoint."""
    limits = config.limits
    return config.deploy.expires_after not in (None, "never") or (limits.max_hours, limits.max_usd) != (None, None)


def most_instances(config: Config) -> int:
    """How many instances an endpoint may grow to."""
    return config.sagemaker.max_instances if config.backend == "sagemaker" else 1


def _asked_for(wanted: DeployConfig, before: Endpoint | None, now: datetime) -> datetime | None:
    """The end that the config asks for; None for never.

    Args:
        before: what is on record of the endpoint that serves under this name. Its end stays unless the config sets
            another one, so that no limit is lost silently.
    """
    if wanted.expires_after == "never":
        return None
    if wanted.expires_after is not None:
        return now + wanted.expires_after
    ahead = before is not None and before.state == "live" and before.expires_at is not None and before.expires_at > now
    return before.expires_at if before and ahead else None


def arrange(held: HeldRun, row: Endpoint, end: datetime | None, before: Endpoint | None) -> Endpoint:
    """Have an endpoint end by itself at `end`, or no more where that is None. Returns `row` with what holds now.

    If that cannot be arranged, the endpoint starts all the same. A warning says so, and `status` exits with 3 once its
    time is over. An end that was arranged before still holds then.

    Args:
        before: the row of the endpoint that is there now; None if there is none.

    Raises:
        BackendError: an end that was arranged before cannot be taken away.
    """
    try:
        held.backend.expire_endpoint(held.name, row.name, end)
    except BackendError as error:
        if end is None:
            raise
        still, warning = _refused(row.name, end, before, held.ledger.now(), error)
        held.reporter.warn(warning)
        return replace(row, expires_at=still or end, ends_itself=still is not None)
    return replace(row, expires_at=end, ends_itself=end is not None)


def foreseen(run: RunContext, end: datetime | None, before: Endpoint | None) -> tuple[datetime | None, str]:
    """When an endpoint would end by itself, and the warning that `arrange` would give; None: nothing would end it.

    Args:
        end: when it is to end.
        before: as of `arrange`.
    """
    try:
        if end:
            run.backend.check_expiry()
    except OutageError:
        return end, ""  # nobody knows: `arrange` will tell
    except BackendError as error:
        assert end, "only an end is asked about"  # noqa: S101
        return _refused(run.name, end, before, run.ledger.now(), error)
    return end, ""


def _refused(
    name: str, end: datetime, before: Endpoint | None, now: datetime, error: BackendError
) -> tuple[datetime | None, str]:
    """When an endpoint still ends by itself, where `end` cannot be arranged, and the warning that says so."""
    at, why = clock(end, now), f"{error.message}. {error.hint}"
    if before and before.ends_itself and before.expires_at and before.expires_at > now:
        still = clock(before.expires_at, now)
        return before.expires_at, f"endpoint {name} still ends by itself at {still}, and not at {at}: {why}"
    return None, f"endpoint {name} will NOT end by itself at {at}: {why}"


def extend(held: HeldRun, row: Endpoint, end: datetime | None) -> Endpoint:
    """Move the end of an endpoint that serves, or try once more to arrange it, and record that."""
    if (row.expires_at, row.ends_itself) == (end, end is not None):
        return row
    return held.ledger.note(arrange(held, row, end, row))


def ended_itself(row: Endpoint, now: datetime) -> bool:
    """Whether an endpoint that is no longer there went because its time was over."""
    return row.ends_itself and row.expires_at is not None and row.expires_at <= now


def alarm(row: Resource, now: datetime, was_asked: bool, is_busy: bool) -> str:
    """Why a recorded resource may cost money without need; empty if all is well.

    Args:
        was_asked: whether the backend was asked about it just now.
        is_busy: whether it was not, because another command is at work on its run.
    """
    if not row.is_open or isinstance(row, Dataset):
        return ""
    if isinstance(row, Endpoint) and row.expires_at is not None and now > row.expires_at + LATE:
        runs = "still runs" if was_asked else "may still run: nobody asked"
        return f"its time was over at {clock(row.expires_at, now)}, and it {runs}"
    if isinstance(row, Unreadable):
        return "its record cannot be read, so it is unknown whether it runs"
    if row.state == "intended" and was_asked:
        return row.reason or "it runs, and the command that started it ended before it had answered"
    if isinstance(row, Endpoint) and row.state == "failed" and was_asked:
        return "it has failed, and may be billed until `lorasum teardown` deletes it"
    if not (was_asked or is_busy or row.usd_per_hour == 0 or (isinstance(row, Endpoint) and row.ends_itself)):
        return "nobody could be asked whether it still runs, and is billed"
    return ""
