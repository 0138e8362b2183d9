"""Small JSON files in lorasum's home of what would take time to find out again. Losing one costs that time, no more."""

import json
from contextlib import suppress
from typing import Any

from lorasum import paths


def recall(name: str) -> dict[str, Any]:
    """What was remembered under `name`, such as `prices`; nothing where it cannot be read."""
    try:
        return dict(json.loads((paths.home() / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def remember(name: str, known: dict[str, Any]) -> None:
    """Remember all of `known` under `name`; where that cannot be written, it is found out again."""
    part = paths.home() / f"{name}.json.part"
    with suppress(OSError):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known), encoding="utf-8")
        part.replace(paths.home() / f"{name}.json")
