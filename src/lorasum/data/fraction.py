"""Takes a test split from the training data. The hash of a dialogue as it is written decides, so equal ones stay
together. Not what messages are rendered to: that would divide the chats of every list of messages anew."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lorasum.config.data import DataConfig
from lorasum.data.chats.written import with_plain_breaks
from lorasum.data.files.opening import Say
from lorasum.data.files.reading import Tick, unsaid, unticked
from lorasum.data.records import Example
from lorasum.data.tally import Row
from lorasum.data.validate import check
from lorasum.errors import DataError

_HASHES = 2**64
_SEEN = 10_000  # rows for testing: a source with more is not small, even if the other rows are unusable


class Division:
    """Divides a source: dialogues with a hash below the limit are for testing.

    The limit is `data.test_fraction` of the largest hash. If all dialogues of a small source are on one side of it, it
    moves just far enough that one dialogue is on the other side.
    """

    def __init__(self, whole: Any, data: DataConfig) -> None:
        self.whole, self.data = whole, data
        self.fraction, self.seed = float(data.test_fraction or 0), data.test_seed

    def hash_of(self, row: Row) -> int | None:
        """A 64-bit hash of the row's dialogue; None if the row has no dialogue."""
        if not isinstance(row, dict):
            return None
        value = row.get(self.data.columns.dialogue)
        if value is None:  # a row in one of the forms that need no columns
            checked = check(row, self.data.columns, self.data.messages)
            value = checked.dialogue if isinstance(checked, Example) else None
        if value is None:
            return None
        try:
            json_text = "" if isinstance(value, str) else json.dumps(value, default=str)
        except (RecursionError, ValueError):
            return None
        text = with_plain_breaks(value.strip()) if isinstance(value, str) else json_text.replace(r"\r\n", r"\n")
        digest = hashlib.blake2b(f"{self.seed} {text}".encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest, "little")

    def rows(self, chosen: bool, tick: Tick, say: Say) -> Iterator[tuple[str, Row]]:
        """The rows for testing, or the others, with those that have no dialogue: so these are reported once.

        If no row is usable, each part is all rows, so that they are reported.
        """
        for where, row in self.whole.rows(tick, say):
            digest = self.hash_of(row)
            is_test = digest is not None and self._limit is not None and digest < self._limit
            if is_test == chosen or self._limit is None:
                yield where, row

    @cached_property
    def _limit(self) -> int | None:
        """Dialogues with a hash below it are for testing; None if no row is usable.

        Raises:
            DataError: there is one usable dialogue only.
        """
        limit = round(self.fraction * _HASHES)
        below: set[int] = set()  # hashes of usable rows of each side
        above: set[int] = set()  # the lowest two
        seen = 0
        for _, row in self.whole.rows(unticked, unsaid):
            digest = self.hash_of(row)
            if digest is None:
                continue
            seen += digest < limit
            if self._is_usable(row):
                (below if digest < limit else above).add(digest)
                above = set(sorted(above)[:2])
            if (below and above) or seen > _SEEN:
                return limit
        if len(below | above) == 1:
            raise DataError(
                f"{self.whole.name} has only one usable dialogue: there is none left to train on", "add more dialogues"
            )
        return min(above) + 1 if above else max(below, default=None)

    def _is_usable(self, row: Row) -> bool:
        return isinstance(check(row, self.data.columns, self.data.messages), Example)


@dataclass(frozen=True, slots=True)
class Fraction:
    """One of the two parts of a divided source."""

    division: Division
    chosen: bool

    @property
    def name(self) -> str:
        """The source's name and the part, such as `chats.jsonl, test part`."""
        return f"{self.division.whole.name}, {'test' if self.chosen else 'training'} part"

    def identity(self) -> str:
        """A text that differs whenever the rows differ."""
        return f"{self.division.whole.identity()} {self.division.fraction} {self.division.seed} {self.chosen}"

    def rows(self, tick: Tick, say: Say = unsaid) -> Iterator[tuple[str, Row]]:
        """Yield every row with its place."""
        return self.division.rows(self.chosen, tick, say)
