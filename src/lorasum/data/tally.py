"""Counts the rows that are left out, and writes each down with its reason."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from lorasum.system.files import new_file, remove_stale_part_files, writing


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not an example.

    Attributes:
        reason: one of a few reasons, by which rows are counted.
        detail: what is wrong with this row.
        raw: the text in its place, if it could not be read as a row.
    """

    reason: str
    detail: str = ""
    raw: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Row = Mapping[str, Any] | Rejected
"""A row of a source by column, or why it could not be read."""


class RejectFile:
    """The file of the rows that were left out, one JSON object a line. It is made with the first row.

    It is a context manager. The file gets its name when the block ends, also after an error: then it is needed most.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._finish = ExitStack()
        self._file: IO[str] | None = None

    def __enter__(self) -> "RejectFile":
        """Remove the files of earlier attempts."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            remove_stale_part_files(self.path.parent)
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            LorasumError: it cannot be written.
        """
        self._file = None
        with writing(self.path):
            self._finish.close()

    def write(self, split: str, where: str, why: Rejected, row: object) -> None:
        """Add a row."""
        if self._file is None:
            self._file = self._finish.enter_context(new_file(self.path, errors="backslashreplace"))
        line = {"split": split, "where": where, **asdict(why), "row": None if why.raw else row}
        self._file.write(_json_line({key: value for key, value in line.items() if value not in ("", None)}) + "\n")


def _json_line(line: Mapping[str, Any]) -> str:
    """The line as JSON, without its row if that is nested too deeply."""
    try:
        return json.dumps(line, default=str)
    except (RecursionError, ValueError):
        return json.dumps({key: value for key, value in line.items() if key != "row"})


@dataclass(slots=True)
class TooLong:
    """Examples with too many tokens: their number, the longest, the shortest, and the place of the first."""

    count: int = 0
    longest: int = 0
    shortest: int = 0
    first: str = ""

    def add(self, where: str, length: int) -> None:
        """Count one of `length` tokens."""
        self.first = self.first or f"{where}: {length} tokens"
        self.count += 1
        self.longest = max(self.longest, length)
        self.shortest = min(self.shortest or length, length)


@dataclass(slots=True)
class Tally:
    """Counts the rows of a split: those left out, by reason, those that are too long, and those that were cut.

    Attributes:
        repeated: how many rows have the summary of the row above and another dialogue, of `kept` ones.
        nameless: the place of the first row whose messages tell no speaker, and their keys.
    """

    split: str = ""
    file: RejectFile | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    kept: int = 0
    repeated: int = 0
    nameless: str = ""
    too_long: TooLong = field(default_factory=TooLong)

    def reject(self, where: str, why: Rejected, row: object = None) -> None:
        """Count a row as left out, and write it down."""
        self.dropped[why.reason] += 1
        if self.file:
            self.file.write(self.split, where, why, dict(row) if isinstance(row, Mapping) else row)
