"""Dataclasses to JSON and back.

Writing is strict: a record cannot be made without all of its fields, and a value of another type raises TypeError.
Reading is lenient, because the other side may be older or newer: unknown keys are passed over, and a key that is
missing or holds another type gives an empty value (0, "", None).
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin

Record = TypeVar("Record")


class _Kind(NamedTuple):
    """How values of one field type are checked and read."""

    fits: Callable[[Any], bool]
    read: Callable[[Any], Any]
    empty: Any


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or isinstance(value, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(map(_is_text, value))


def _maps_to(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(_is_text, value)) and all(map(fits, value.values()))


def _optional(kind: _Kind) -> _Kind:
    return _Kind(lambda value: value is None or kind.fits(value), lambda v: None if v is None else kind.read(v), None)


def _list_of(record: type[Any]) -> _Kind:
    """Records: a list of JSON objects where they are read."""
    return _Kind(
        lambda value: isinstance(value, list), lambda found: tuple(from_values(record, values) for values in found), ()
    )


def _records(record: type[Any]) -> _Kind:
    """Names and records: JSON objects where they are read."""
    return _Kind(
        _maps_to(lambda value: isinstance(value, Mapping | record)),
        lambda found: {name: from_values(record, values) for name, values in found.items()},
        {},
    )


_INT = _Kind(_is_int, int, 0)
_FLOAT = _Kind(_is_number, float, 0.0)
_TEXT = _Kind(_is_text, str, "")
_TYPES: Final[Mapping[Any, _Kind]] = {
    bool: _Kind(lambda value: isinstance(value, bool), bool, False),
    int: _INT,
    float: _FLOAT,
    str: _TEXT,
    int | None: _optional(_INT),
    float | None: _optional(_FLOAT),
    str | None: _optional(_TEXT),
    tuple[str, ...]: _Kind(_are_texts, tuple, ()),
    Mapping[str, int]: _Kind(_maps_to(_is_int), dict, {}),
    Mapping[str, float]: _Kind(_maps_to(_is_number), dict, {}),
    Mapping[str, str]: _Kind(_maps_to(_is_text), dict, {}),
}


def _kind(type_: Any) -> _Kind:
    """How values of a type are checked and read: one above, `tuple[MemoryPlan, ...]`, or `Mapping[str, FileFacts]`."""
    if type_ in _TYPES:
        return _TYPES[type_]
    return _list_of(get_args(type_)[0]) if get_origin(type_) is tuple else _records(get_args(type_)[1])


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: the text is not one, or it is nested too deep.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def from_values(record: type[Record], values: Any) -> Record:
    """A record of what a JSON object holds."""
    given = values if isinstance(values, Mapping) else {}
    return record(**{one.name: _field(one.type, given.get(one.name)) for one in fields(record)})  # type: ignore[arg-type]


def _field(type_: Any, value: Any) -> Any:
    if is_dataclass(type_):
        return from_values(type_, value)  # type: ignore[arg-type]
    kind = _kind(type_)
    return kind.read(value) if kind.fits(value) else kind.empty


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def six_digits(value: Any) -> Any:
    """A float with the digits that a figure needs; any other value as it is."""
    value = _finite(value)
    return float(f"{value:.6g}") if isinstance(value, float) else value


def to_values(record: Any, written: Callable[[Any], Any] = _finite) -> dict[str, Any]:
    """A record's fields as JSON values."""
    values = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if is_dataclass(one.type):
            value = to_values(value, written)
        elif not _kind(one.type).fits(value):
            raise TypeError(f"{type(record).__name__}.{one.name} is {value!r}, not {one.type}")
        elif isinstance(value, Mapping):
            value = {key: to_values(item, written) if is_dataclass(item) else item for key, item in value.items()}
        values[one.name] = written(value)
    return values
