"""Values as a person reads them: numbers of things, money, time, moments, memory, losses."""

from collections.abc import Iterable, Sequence
from datetime import datetime


def counted(number: int, noun: str) -> str:
    """A number and its noun, such as `1 row` or `2,000 rows`."""
    plural = f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def listing(names: Sequence[str], most: int) -> str:
    """Names, and how many more there are than are named: `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def some(names: Iterable[str]) -> str:
    """A few names, in order, for messages."""
    return listing(sorted(names), 3)


def loss(value: float | None) -> str:
    """A loss with three digits, or a dash if there is none."""
    return "–" if value is None else f"{value:.3f}"


def dollars(amount: float | None) -> str:
    """An amount in USD: `$2.03`, `<$0.01`, `unknown`."""
    if amount is None:
        return "unknown"
    return "<$0.01" if 0 < amount < 0.005 else f"${amount:,.2f}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `3.4 s`, `6 min 40 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def gigabytes(size: float) -> str:
    """Bytes in GiB, with two digits below 10: `1.32 GiB`, `23.5 GiB`."""
    gib = size / 2**30
    return f"{gib:,.2f} GiB" if gib < 10 else f"{gib:,.1f} GiB"


def on_disk(size: float) -> str:
    """Bytes of files in the units of disks: `0 kB`, `412 kB`, `26.1 MB`, `1.32 GB`."""
    if size < 1e6:
        return f"{size / 1e3:,.0f} kB"
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.2f} GB"


def clock(moment: datetime, now: datetime) -> str:
    """A moment by this machine's clock: `18:40 CET`, and with its day where that is not today."""
    local = moment.astimezone()
    today = local.date() == now.astimezone().date()
    return f"{local:%H:%M %Z}" if today else f"{local:%Y-%m-%d %H:%M %Z}"
