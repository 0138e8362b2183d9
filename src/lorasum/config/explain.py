"""Says what pydantic found wrong with a config in the words of its file: place, key, what is wrong, what was given."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from lorasum.config.key_paths import KeyPath, Places, Problems, dotted
from lorasum.config.suggest import suggestion


def explain(errors: Sequence[ErrorDetails], data: Any, places: Places, file: str, most: int) -> Problems:
    """One line per wrong field. Only the first `most` are worked out: a suggestion takes a millisecond.

    Args:
        data: what was validated.
        file: given as the place of a key that is missing.
    """
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in errors:
        by_path.setdefault(_key_path(detail, data), []).append(detail)
    problems: Problems = []
    for path, details in by_path.items():
        if _list_was_meant(path, details, by_path):
            continue
        shown = len(problems) < most
        messages = [_message(detail) for detail in details] if shown else [""]
        message = " or ".join(dict.fromkeys(messages)).replace(" or must be", " or")
        place = place_of(places, path, file)
        problems.append((path, f"{place}: {dotted(path)}{': ' if path else ''}{message}{_got(details[-1])}"))
    return problems


def place_of(places: Places, path: KeyPath, otherwise: str) -> str:
    """Where `path` was written, or the section it is missing from."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), otherwise)


def shorten(text: str, most: int = 60) -> str:
    """At most so many characters of `text`, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def _list_was_meant(path: KeyPath, details: Sequence[ErrorDetails], by_path: dict[KeyPath, list[ErrorDetails]]) -> bool:
    """Whether a field that takes `auto` or a list was given a list: then the errors of the items say enough."""
    if not all(isinstance(detail["input"], list) for detail in details):
        return False
    return any(other != path and other[: len(path)] == path for other in by_path)


def _key_path(detail: ErrorDetails, data: Any) -> KeyPath:
    """The keys in pydantic's location, without the branches of unions that stand among them."""
    path: KeyPath = ()
    for part in detail["loc"]:
        known = isinstance(part, int) if isinstance(data, list) else isinstance(data, dict) and part in data
        if known:
            data = data[part]
        if known or detail["type"] == "missing":
            path = (*path, part)
    return path


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"unknown key, {suggestion([str(part) for part in detail['loc']])}"
        case "model_type":
            return "must be a section of keys and values"
        case "string_pattern_mismatch" if detail["loc"] == ("name",):
            return "must be lower-case letters and digits, with single hyphens between them"
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            message = detail["msg"].replace("Input should", "must").replace("String should", "must")
            return message.replace("a valid array", "a list").replace("a valid integer", "a whole number")


def _got(detail: ErrorDetails) -> str:
    value = detail["input"]
    if detail["type"] in ("missing", "extra_forbidden") or isinstance(value, dict | list):
        return ""
    return f" (got {'nothing' if value is None else shorten(json.dumps(value, ensure_ascii=False))})"
