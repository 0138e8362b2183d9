"""Keys and values of a config that have a new name. The old one is accepted, and said to be old.

To rename a key, change it in schema.py and add a line to `KEYS`; to rename a choice, add one to `VALUES`.
"""

from collections.abc import Callable, Mapping
from typing import Any

# A key's path from the top of the file, such as ("training", "epochs"), and where it was written:
# `configs/x.yaml:12` or `--set training.epochs=1`. Places are in the order they were written.
KeyPath = tuple[str | int, ...]
Places = dict[KeyPath, str]
# What is wrong, by the path of the value: one line each, which begins with its place.
Problems = list[tuple[KeyPath, str]]

_LONGEST_WORD = 60  # characters of a key that are shown

KEYS: Mapping[KeyPath, KeyPath] = {("data", "chunk_length"): ("data", "max_length")}
VALUES: Mapping[KeyPath, Mapping[str, str]] = {("training", "engine", "linear"): {"widened": "dequantized"}}


def rename(data: dict[str, Any], places: Places, warn: Callable[[str], None], source: str = "") -> Problems:
    """Give every old key and value in `data` and `places` its new name, and tell `warn` of each.

    Args:
        source: the override that was just put into `data`, such as `--set lora.r=8`; empty for the file's content. An
            override replaces the same key of the file, whether each is written with its old or its new name.

    Returns:
        One problem for each key that is given under both names.
    """
    problems = []
    for old, new in KEYS.items():
        section = _section(data, old)
        if section is None or old[-1] not in section:
            continue
        place = places.get(old, source)
        target = _section(data, new)
        if target is not None and new[-1] in target and (not source or places.get(new) == place):
            problems.append((new, f"{place}: {dotted(old)} is the old name of {dotted(new)}, give one of them"))
        warn(f"{place}: {dotted(old)} is an old name, write {dotted(new)}")
        _put(data, new, section.pop(old[-1]))
        _move_places(places, old, new)
    for path, names in VALUES.items():
        section = _section(data, path) or {}
        value = section.get(path[-1])
        if isinstance(value, str) and value in names:
            section[path[-1]] = names[value]
            warn(f"{places.get(path, source)}: {dotted(path)}: {value} is an old name, write {names[value]}")
    return problems


def dotted(path: KeyPath) -> str:
    """The path as a person writes it: `training.epochs`."""
    return ".".join(str(part)[:_LONGEST_WORD] for part in path)


def _section(data: dict[str, Any], path: KeyPath) -> dict[Any, Any] | None:
    """The section that holds the last key of `path`; None if there is none."""
    section: Any = data
    for key in path[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else None


def _put(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    section: dict[Any, Any] = data
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = value


def _move_places(places: Places, old: KeyPath, new: KeyPath) -> None:
    moved = {
        (*new, *path[len(old) :]) if path[: len(old)] == old else path: place
        for path, place in places.items()
        if path[: len(new)] != new
    }
    places.clear()
    places.update(moved)
