"""Metrics as JSON lines: on stdout, where CloudWatch and its metric definitions read them, and in a file."""

import json
from pathlib import Path
from typing import Any


class Metrics:
    """Writes one JSON object a line, key `event` first. Floats are rounded to six digits."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)

    def emit(self, event: str, **values: Any) -> None:
        rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
        line = json.dumps({"event": event, **rounded})
        print(line, flush=True)
        self._file.write(line + "\n")
