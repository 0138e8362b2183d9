"""Which rows are examples, and why the others are not. Pure: rows in, examples out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lorasum.config import Columns
from lorasum.errors import DataError
from lorasum.models import Example


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is no example. `reason` is one of a few, to count by; `detail` is about this row."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Row = Mapping[str, Any] | Rejected
"""A row of a source by column, or why it could not be read."""


def check(row: Row, columns: Columns) -> Example | Rejected:
    """The example in `row`, its texts stripped of surrounding white space, or why there is none."""
    if isinstance(row, Rejected):
        return row
    texts = []
    for role, column in (("dialogue", columns.dialogue), ("summary", columns.summary)):
        value = row.get(column)
        if value is None:
            return Rejected(f"no {role}")
        if not isinstance(value, str):
            return Rejected(f"{role} is not text", type(value).__name__)
        if not value.strip():
            return Rejected(f"empty {role}")
        if not value.isascii() and not _is_unicode(value):
            return Rejected(f"{role} is not valid Unicode")
        texts.append(value.strip())
    return Example(*texts)


def examples(
    rows: Iterable[tuple[str, Row]], source: str, columns: Columns, max_bad_rows: int, dropped: Counter[str]
) -> Iterator[tuple[str, Example]]:
    """Yield (where, example) for each usable row of one split, and count the others in `dropped`, by reason.

    Raises:
        DataError: after the last row: there was none at all, none was usable, a column of the mapping was in none, or
            more than `max_bad_rows` were unusable (the message names the first).
    """
    good = bad = 0
    first_bad = ""
    seen: dict[str, None] = {}  # an ordered set
    for where, row in rows:
        if isinstance(row, Mapping):
            seen.update(dict.fromkeys(row))
        checked = check(row, columns)
        if isinstance(checked, Rejected):
            first_bad = first_bad or f"{where}: {checked}"
            bad += 1
            dropped[checked.reason] += 1
            continue
        good += 1
        if bad <= max_bad_rows:  # else the split is lost, and only the count of bad rows is of interest
            yield where, checked
    for field, column in (("dialogue", columns.dialogue), ("summary", columns.summary)):
        if seen and column not in seen:
            raise DataError(
                f"{source} has no column {column!r}; it has {_some(list(seen))}",
                f"set data.columns.{field} to the column that holds the {field}",
            )
    if bad > max_bad_rows:
        others = f" (and {bad - 1:,} more unusable row{'s' if bad > 2 else ''})" if bad > 1 else ""
        raise DataError(
            f"{first_bad}{others}",
            f"fix the row, or raise data.max_bad_rows (now {max_bad_rows}) to leave such rows out",
        )
    if not good:
        raise DataError(
            f"{source} has no usable row; first: {first_bad}" if bad else f"{source} is empty",
            "give it rows with a dialogue and a summary",
        )


def _is_unicode(text: str) -> bool:
    """False for text with a lone surrogate, which no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _some(names: list[str], limit: int = 12) -> str:
    return ", ".join(repr(name) for name in names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )
