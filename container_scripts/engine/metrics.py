"""A training job's events as JSON lines: on stdout, where CloudWatch reads metrics from them, and in a file."""

from collections.abc import Callable
from pathlib import Path

from shared.events import Event, event_line
from shared.names import METRICS_FILE


class Metrics:
    """Writes one event a line to stdout and to metrics.jsonl in `folder`, and flushes both; nothing if it is None."""

    def __init__(self, folder: Path | None) -> None:
        self._file = None
        self._listeners: list[Callable[[Event], None]] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / METRICS_FILE).open("a", encoding="utf-8", buffering=1)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have `listener` called with each event from now on, after it is written."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Write the event.

        Raises:
            TypeError: a field holds a value of another type.
        """
        if self._file is None:
            return
        line = event_line(event)
        print(line, flush=True)
        self._file.write(line + "\n")
        for listener in self._listeners:
            listener(event)
