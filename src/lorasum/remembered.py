"""Small JSON files in lorasum's home of what would take time to find out again. Losing one costs that time, no more."""

import json
from contextlib import suppress
from typing import Any

from lorasum import paths
from lorasum.files import write_file


def recall(name: str) -> dict[str, Any]:
    """What was remembered under `name`, such as `prices`; nothing where it cannot be read."""
    try:
        return dict(json.loads((paths.home() / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def remember(name: str, known: dict[str, Any]) -> None:
    """Remember all of `known` under `name`; where that cannot be written, it is found out again."""
    with suppress(OSError):
        write_file(paths.home() / f"{name}.json", json.dumps(known))
