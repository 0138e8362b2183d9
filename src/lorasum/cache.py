"""Small JSON files in lorasum's home with answers that take time to get, such as prices. Losing one is harmless."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lorasum import paths
from lorasum.files import write_file

_MOST = 1000  # of what was looked at and found right


def read_cache(name: str) -> dict[str, Any]:
    """The values stored under `name`, such as `prices`; empty if they cannot be read."""
    try:
        return dict(json.loads((paths.home() / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def write_cache(name: str, known: dict[str, Any]) -> None:
    """Store `known` under `name`, in place of earlier values. A file that cannot be written is no error."""
    with suppress(OSError):
        write_file(paths.home() / f"{name}.json", json.dumps(known))


def once(name: str, about: object, look: Callable[[], None]) -> None:
    """Call `look`, unless it has returned before for the same `about`, a value that JSON can hold."""
    key, known = hashlib.sha256(json.dumps(about).encode()).hexdigest(), read_cache(name)
    if key not in known:
        look()
        write_cache(name, dict(list(known.items())[1 - _MOST :]) | {key: True})
