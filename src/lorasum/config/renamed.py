"""Keys of a config that are accepted under another name too: `data.chunk_length` is the published recipe's word."""

from collections.abc import Callable, Mapping
from typing import Any

from lorasum.config.key_paths import KeyPath, Places, Problems, dotted, put, section_at

KEYS: Mapping[KeyPath, KeyPath] = {("data", "chunk_length"): ("data", "max_length")}


def rename(data: dict[str, Any], places: Places, warn: Callable[[str], None], source: str = "") -> Problems:
    """Give every such key in `data` and `places` its own name, and tell `warn` of each.

    Args:
        source: the override that was just put into `data`, such as `--set lora.r=8`; empty for the file's content. An
            override replaces the same key of the file, whichever name each is written with.

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
            problems.append((new, f"{place}: {dotted(old)} is another name of {dotted(new)}, give one of them"))
        warn(f"{place}: {dotted(old)} is another name of {dotted(new)}")
        put(data, new, section.pop(old[-1]))
        _move_places(places, old, new)
    return problems


def _move_places(places: Places, old: KeyPath, new: KeyPath) -> None:
    moved = {
        (*new, *path[len(old) :]) if path[: len(old)] == old else path: place
        for path, place in places.items()
        if path[: len(new)] != new
    }
    places.clear()
    places.update(moved)
