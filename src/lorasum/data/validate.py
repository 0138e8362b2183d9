"""Decides which rows are examples. Every row that is left out is counted (tally.py)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorasum.config.data import Columns, DataConfig, Messages
from lorasum.data.chats.exports import dialogue_in
from lorasum.data.chats.message import MessageError
from lorasum.data.chats.messages import keys_without_speaker
from lorasum.data.chats.written import is_unicode, mended, with_plain_breaks
from lorasum.data.records import Example
from lorasum.data.rows import KNOWN, batch_in, fields_of, mark_against, value_at
from lorasum.data.tally import Rejected, Row, Tally
from lorasum.errors import DataError
from lorasum.formatting import listing

_WHOLE_FILE = {
    "not UTF-8": "save the file as UTF-8; in Excel, as 'CSV UTF-8'",
    "not JSON": "write one JSON object per line, or an array of objects",
    "not CSV": "check what separates the file's fields, and that a quote in a field is written twice",
    "not a JSON object": 'write each row as an object, such as {"dialogue": "Ana: hi", "summary": "Ana greets."}',
}
"""What to do about a file, by the reason why all its rows are unusable."""
_MISSING = frozenset(("nan", "none", "null", "n/a", "#n/a", "na", "<na>", "\\n"))
"""What spreadsheets, pandas and databases (`\\N`) write for a missing text, in lower case."""
_LOOKED_AT = 100  # rows whose messages are searched for speakers
_LONGEST_MISSING = 20  # characters, white space around it included


def is_missing(value: Any) -> bool:
    """Whether there is nothing in a column: None, NaN, or what spreadsheets write for it."""
    if isinstance(value, str):
        return len(value) < _LONGEST_MISSING and value.strip().lower() in _MISSING
    return value is None or bool(value != value)  # NaN


def check(row: Row, columns: Columns, messages: Messages | None = None) -> Example | Rejected:
    """The example in `row`, with plain line breaks and no white space around, or the reason why there is none."""
    if isinstance(row, Rejected):
        return row
    texts = []
    try:
        fields = fields_of(row, columns)
        if mark := mark_against(row, columns):
            return Rejected("not to be learnt", mark)
        if batch := batch_in(row, columns):
            return Rejected(
                "dialogue is a list of dialogues", f"{batch} beside as many summaries: a row holds one of each"
            )
        dialogue = dialogue_in(fields.dialogue, messages or Messages())
    except MessageError as error:
        return Rejected("dialogue is not text", str(error))
    for role, given, value in (
        ("dialogue", fields.dialogue, dialogue),
        ("summary", fields.summary, fields.summary),
    ):
        if is_missing(given):
            return Rejected(f"no {role}", repr(given.strip()) if isinstance(given, str) else "")
        if not isinstance(value, str):
            keys = f" with {_some(given)}" if isinstance(given, Mapping) else ""
            return Rejected(f"{role} is not text", f"{type(given).__name__}{keys}")
        if not value.strip():
            return Rejected(f"empty {role}")
        if not value.isascii() and not is_unicode(value):
            return Rejected(f"{role} is not valid Unicode")
        texts.append(with_plain_breaks(value.strip() if role == "dialogue" else mended(value.strip())))
    others = (with_plain_breaks(mended(one.strip())) for one in fields.other_references if is_unicode(one))
    dialogue, summary = texts
    return Example(dialogue, summary, tuple(others))


@dataclass(slots=True)
class _File:
    """What one file of a source held.

    Attributes:
        columns: all columns of its rows, in order.
        last: its last row.
        reasons: the reasons why rows of it are unusable.
    """

    name: str
    good: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)


class Files:
    """What each file of a source held, by its rows."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def note(self, where: str, row: Row, checked: Example | Rejected) -> None:
        """Take a row into account."""
        start = where.rstrip("0123456789")
        if (file := self._files.get(start)) is None:
            file = self._files[start] = _File(start.removesuffix(":").removesuffix(" row "))
        if isinstance(row, Mapping):
            file.columns |= dict.fromkeys(row)
            file.last = row
        if isinstance(checked, Rejected):
            file.reasons[checked.reason] += 1
        else:
            file.good += 1

    def check_columns(self, columns: Columns) -> None:
        """Check that each file without a usable row has the columns of the mapping.

        Raises:
            DataError: one lacks them; the message lists the columns that it has.
        """
        for file in self._files.values():
            _check_columns(file, columns)

    @property
    def has_usable(self) -> bool:
        """Whether any row is usable."""
        return any(file.good for file in self._files.values())

    def first_bad(self) -> _File:
        """The first file with an unusable row."""
        return next(file for file in self._files.values() if file.reasons)


def examples(
    rows: Iterable[tuple[str, Row]], source: str, data: DataConfig, tally: Tally
) -> Iterator[tuple[str, Example]]:
    """Yield (where, example) for each usable row of one split, and count the others in `tally`.

    Raises:
        DataError: after the last row: there was none at all, none was usable, a column of the mapping was in no row of
            a file, or more than `data.max_bad_rows` were unusable (the message names the first).
    """
    bad = 0
    first_bad = ""
    files, above = Files(), Example("", "")
    for number, (where, row) in enumerate(rows):
        checked = check(row, data.columns, data.messages)
        files.note(where, row, checked)
        if isinstance(checked, Rejected):
            first_bad = first_bad or f"{where}: {checked}"
            bad += 1
            tally.reject(where, checked, row if isinstance(row, Mapping) else None)
            continue
        if number < _LOOKED_AT and not tally.nameless and isinstance(row, Mapping):
            keys = keys_without_speaker(fields_of(row, data.columns).dialogue)
            tally.nameless = f"{where} has {_some(keys)}" if keys else ""
        tally.kept += 1
        tally.repeated += checked.summary == above.summary and checked.dialogue != above.dialogue
        above = checked
        if bad <= data.max_bad_rows:  # beyond that the split fails, and only the bad rows matter
            yield where, checked
    files.check_columns(data.columns)
    if bad > data.max_bad_rows:
        others = f" (and {bad - 1:,} more unusable row{'s' if bad > 2 else ''})" if bad > 1 else ""
        raise DataError(f"{first_bad}{others}", _hint(files.first_bad(), data, tally))
    if not files.has_usable:
        raise DataError(
            f"{source} has no usable row; first: {first_bad}" if bad else f"{source} is empty",
            "give it rows with a dialogue and a summary",
        )


def _check_columns(file: _File, columns: Columns) -> None:
    mapped = {name: [one] if isinstance(one, str) else one for name, one in columns.model_dump().items()}
    missing = [
        name
        for name, several in mapped.items()
        if all(column not in file.columns and value_at(file.last, column) is None for column in several)
    ]
    if file.columns and missing and not file.good:
        keys = " and ".join(f"data.columns.{name}" for name in missing)
        what = "columns that hold them" if len(missing) > 1 else f"column that holds the {missing[0]}"
        raise DataError(
            f"{file.name} has no column {' or '.join(map(repr, mapped[missing[0]]))}; it has {_some(_names(file))}",
            f"set {keys} to the {what}; known without columns: {KNOWN}",
        )


def _names(file: _File) -> list[str]:
    """The columns of a file's rows, those inside of objects too."""
    inside = {key: value for key, value in file.last.items() if isinstance(value, Mapping)}
    return [name for key in file.columns for name in ([f"{key}.{inner}" for inner in inside.get(key, ())] or [key])]


def _hint(file: _File, data: DataConfig, tally: Tally) -> str:
    """What to do about unusable rows; advice about the whole file if all its rows are unusable."""
    where = f"; all are in {tally.file.path}" if tally.file else ""
    reason, *others = file.reasons
    if not file.good and not others and reason in _WHOLE_FILE:
        return f"{_WHOLE_FILE[reason]}{where}"
    now = f"data.max_bad_rows (now {data.max_bad_rows})"
    return f"fix the row, or raise {now} to leave such rows out{where}"


def _some(names: Iterable[object]) -> str:
    return listing([repr(str(name)) for name in names], 12)
