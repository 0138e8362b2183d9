"""Moments as a person reads them."""

from datetime import datetime


def clock(moment: datetime, now: datetime) -> str:
    """A moment by this machine's clock: `18:40 CET`, and with its day where that is not today."""
    local = moment.astimezone()
    today = local.date() == now.astimezone().date()
    return f"{local:%H:%M %Z}" if today else f"{local:%Y-%m-%d %H:%M %Z}"
