"""Puts messages in order of time. Pure functions."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_TIMES = (
    "timestamp", "ts", "time", "date", "datetime", "created_at", "createdAt", "created", "createdDateTime", "sent_at",
    "sentAt", "date_sent", "dateCreated", "timestamp_ms",
)  # fmt: skip
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_YEAR_1973 = 1e8  # seconds since 1970: a smaller number is not a time, but a duration or an offset


def oldest_first(messages: list[Any]) -> list[Any]:
    """`messages`, turned round if all tell their time and the newest is first, as many services answer."""
    times = _times_of(messages)
    if not (all(map(_is_number, times)) or all(isinstance(time, str) and _DATE.match(time) for time in times)):
        return messages
    turned = bool(times) and times[0] > times[-1] and all(one >= next_one for one, next_one in pairwise(times))
    return messages[::-1] if turned else messages


def by_time(messages: list[Any]) -> list[Any]:
    """The messages in order of time, if all tell it in one type."""
    times = _times_of(messages)
    if all(isinstance(time, str) for time in times) or all(isinstance(time, int | float) for time in times):
        return [messages[place] for place in sorted(range(len(times)), key=times.__getitem__)]
    return messages


def _times_of(messages: list[Any]) -> list[Any]:
    """What each message has under the key by which the first one tells its time; None for those that have nothing."""
    first = messages[0] if messages else None
    key = next((key for key in _TIMES if key in first), None) if isinstance(first, Mapping) else None
    if key is None:
        return [None] * len(messages)
    return [message.get(key) if isinstance(message, Mapping) else None for message in messages]


def _is_number(time: Any) -> bool:
    return isinstance(time, int | float) and time > _YEAR_1973
