"""Lengths of time as people write them: `90m`, `4h`, `1.5h`, `2d`, `1d12h`. They are read here, and nowhere else."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_PATTERN = r"(?:\d+(?:\.\d+)?[mhd])+"
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=365)


def parse_duration(text: object) -> timedelta:
    """The length of time that a text such as `4h` names.

    Raises:
        ValueError: it is none, it is zero, or it is longer than a year.
    """
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not re.fullmatch(_PATTERN, text):
        raise ValueError("must be a number with a unit: m, h or d, such as 90m, 4h or 2d")
    parts = re.findall(r"([\d.]+)([mhd])", text)
    days = sum(float(number) * (_UNITS[unit] / _UNITS["d"]) for number, unit in parts)
    if not 0 < days <= _LONGEST.days:
        raise ValueError(f"must be longer than nothing, and {_LONGEST.days} days at most")
    return timedelta(days=days)


def duration_text(length: timedelta) -> str:
    """A length of time in the form that `parse_duration` reads: `4h`, `90m`."""
    unit = next((unit for unit in "dh" if not length % _UNITS[unit]), "m")
    return f"{length / _UNITS[unit]:.10g}{unit}"


def _parse(value: object) -> timedelta | str:
    return "never" if value == "never" else parse_duration(value)


def _text(value: timedelta | str) -> str:
    return duration_text(value) if isinstance(value, timedelta) else value


DurationOrNever = Annotated[
    timedelta | Literal["never"],
    BeforeValidator(_parse),
    PlainSerializer(_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^(never|{_PATTERN})$"}),
]
"""A length of time, or that there is no end."""
