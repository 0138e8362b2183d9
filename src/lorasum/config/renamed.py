"""Keys and values of a config that have a new name. The old one is accepted, and said to be old.

To rename a key, change it in schema.py and add a line to `KEYS`; to rename a choice, add one to `VALUES`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lorasum.config.key_paths import KeyPath, Places, Problems, dotted, put, section_at

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
        section = section_at(data, old)
        if section is None or old[-1] not in section:
            continue
        place = places.get(old, source)
        target = section_at(data, new)
        if target is not None and new[-1] in target and (not source or places.get(new) == place):
            problems.append((new, f"{place}: {dotted(old)} is the old name of {dotted(new)}, give one of them"))
        warn(f"{place}: {dotted(old)} is an old name, write {dotted(new)}")
        put(data, new, section.pop(old[-1]))
        _move_places(places, old, new)
    for path, names in VALUES.items():
        section = section_at(data, path) or {}
        value = section.get(path[-1])
        if isinstance(value, str) and value in names:
            section[path[-1]] = names[value]
            warn(f"{places.get(path, source)}: {dotted(path)}: {value} is an old name, write {names[value]}")
    return problems


def _move_places(places: Places, old: KeyPath, new: KeyPath) -> None:
    moved = {
        (*new, *path[len(old) :]) if path[: len(old)] == old else path: place
        for path, place in places.items()
        if path[: len(new)] != new
    }
    places.clear()
    places.update(moved)
