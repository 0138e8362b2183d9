"""Paths of keys in nested sections, such as ("training", "epochs"), and the values at them."""

from typing import Any

KeyPath = tuple[str | int, ...]
"""A key's path from the top of the file."""
Places = dict[KeyPath, str]
"""Where each key was written, `configs/x.yaml:12` or `--set training.epochs=1`, in the order they were written."""
Problems = list[tuple[KeyPath, str]]
"""What is wrong, by the path of the value: one line each, which begins with its place."""

_LONGEST_WORD = 60  # characters of a key that are shown


def dotted(path: KeyPath) -> str:
    """The path as a person writes it: `training.epochs`."""
    return ".".join(str(part)[:_LONGEST_WORD] for part in path)


def section_at(data: dict[str, Any], path: KeyPath) -> dict[Any, Any] | None:
    """The section that holds the last key of `path`; None if there is none."""
    section: Any = data
    for key in path[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else None


def put(data: dict[str, Any], path: KeyPath, value: object) -> None:
    """Set the value at `path`, and make the sections that it lacks.

    Raises:
        AttributeError: a key on the way has a value that is not a section.
    """
    section: dict[Any, Any] = data
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = value
