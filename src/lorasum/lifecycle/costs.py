"""What a recorded resource costs and has cost."""

from collections.abc import Iterable
from datetime import datetime

from lorasum.backends.base import Backend, ResourceKind
from lorasum.errors import BackendError
from lorasum.formatting import clock
from lorasum.ledger.resources import OPEN, Resource


def cost(row: Resource, now: datetime) -> float | None:
    """USD that a resource, and those before it of its name, have cost up to `now`; None if that is unknown.

    Of a running job it is what the backend said last. What it says nothing of adds its price since it was recorded. If
    an endpoint disappeared while nobody looked, its cost is unknown.
    """
    if row.usd_per_hour == 0:
        return row.usd_before
    if row.state not in OPEN or row.usd_total is not None:
        return row.usd_total
    if row.usd_per_hour is None or row.usd_before is None:
        return None
    hours = (now - datetime.fromisoformat(row.created_at)).total_seconds() / 3600
    return row.usd_before + max(hours, 0.0) * row.usd_per_hour


def total(costs: Iterable[float | None]) -> float | None:
    """All costs together; None if one of them is unknown."""
    every = list(costs)
    return None if None in every else sum(one for one in every if one is not None)


def known_price(backend: Backend, kind: ResourceKind) -> float | None:
    """USD an hour, for a command that starts nothing; None where the backend cannot be asked."""
    try:
        return backend.usd_per_hour(kind)
    except BackendError:
        return None


def until_note(end: datetime | None, began: datetime, usd_per_hour: float | None, instances: int) -> str:
    """How long something runs and what it costs at most by then: `until 18:40 CET, at most $8.12`; empty without end.

    Args:
        began: when its cost began.
        instances: how many it may grow to.
    """
    if end is None:
        return ""
    most = most_usd(end, began, usd_per_hour, instances)
    return f"until {clock(end, began)}{f', at most ${most:,.2f}' if most else ''}"


def most_usd(end: datetime | None, began: datetime, usd_per_hour: float | None, instances: int) -> float | None:
    """What something costs at most by its end; None without an end, or if its price is unknown. As `until_note`."""
    if end is None or usd_per_hour is None:
        return None
    return usd_per_hour * instances * max((end - began).total_seconds(), 0.0) / 3600


def job_note(usd_per_hour: float | None, seconds: int | None, most: float | None) -> str:
    """The price of a job, how long it may run and what it costs at most, for the message before its start.

    Args:
        seconds: after which it is stopped; None if nothing stops it.
        most: USD that it costs at most; None if that is unknown.
    """
    price = price_note(usd_per_hour)
    if seconds is None:
        return price
    at_most = f", ${most:,.2f} at most" if most else ""
    return f"{price}, stopped after {seconds / 3600:.2g} h{at_most}"


def price_note(usd_per_hour: float | None) -> str:
    """The price of a resource, for the message before its start; empty if it is free."""
    if usd_per_hour is None:
        return ", at a price that could not be found out"
    return f", ${usd_per_hour:.2f} an hour" if usd_per_hour else ""
