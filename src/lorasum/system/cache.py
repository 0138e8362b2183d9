"""Small JSON files in lorasum's home with answers that take time to get, such as prices. Losing one is harmless."""

import json
from contextlib import suppress
from typing import Any

from lorasum.system import paths
from lorasum.system.files import write_file


def read_cache(name: str) -> dict[str, Any]:
    """The values stored under `name`, such as `prices`; empty if they cannot be read."""
    try:
        return dict(json.loads((paths.home() / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def write_cache(name: str, known: dict[str, Any]) -> None:
    """Store `known` under `name`, in place of earlier values. A file that cannot be written is not an error."""
    with suppress(OSError):
        write_file(paths.home() / f"{name}.json", json.dumps(known))


def keep(name: str, key: str, value: object, most: int) -> None:
    """Store one more value under `name`; only the newest `most` are kept."""
    write_cache(name, dict(list(read_cache(name).items())[1 - most :]) | {key: value})
