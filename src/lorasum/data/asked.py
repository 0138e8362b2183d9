"""Reads the rows of a file to be summarised, one after another; any number of them take the memory of one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lorasum.config.data import Columns, DataConfig, Messages
from lorasum.data.chats.exports import dialogue_in
from lorasum.data.chats.message import MessageError
from lorasum.data.chats.written import is_unicode, with_plain_breaks
from lorasum.data.files.json_rows import read_json
from lorasum.data.files.opening import Say
from lorasum.data.files.readers import file_type, read_rows
from lorasum.data.files.reading import Reading, unsaid, unticked
from lorasum.data.rows import fields_of, value_at
from lorasum.data.tally import Rejected
from lorasum.data.validate import is_missing
from lorasum.errors import DataError

_ID = "id"


class Asked(NamedTuple):
    """A row of an input file; `line` is its number, in files of lines that of its line. `id` is the row's own.

    `others` are its other columns of texts, numbers and times, by which it is found again. `error` is why a row has
    no dialogue to be summarised, else None.
    """

    line: int
    dialogue: str
    reference: str | None
    id: str | int | None
    others: Mapping[str, str | int | float]
    error: str | None = None


def read_asked(path: Path, data: DataConfig, say: Say = unsaid) -> Iterator[Asked]:
    """The rows of a file, in each type and form that `prepare` takes; JSON where the suffix tells no type.

    Args:
        say: called with remarks on the file.

    Raises:
        DataError: the file has no rows, none with a dialogue, or one that cannot be used.
    """
    if path.is_dir():
        hint = "--input takes one file of rows, such as CSV or JSONL; --file takes one chat"
        raise DataError(f"{path} is a folder", hint)
    reading = Reading(path, data.columns, "test", unticked, say, others=True, speakers=(*data.messages.speakers,))
    wrong: DataError | None = DataError(f"{path.name} has no rows", _hint(data.columns))
    for number, (place, row) in enumerate((read_rows if file_type(path) else read_json)(reading)):
        if isinstance(row, Rejected):
            raise DataError(f"{place}: {row}", "repair the row, or take it out")
        asked = _asked(row, place, data.columns, data.messages)
        if asked.error is None:
            wrong = None
        elif number == 0:
            wrong = DataError(f"{place}: {asked.error}", _hint(data.columns, row))
        yield asked
    if wrong:
        raise wrong


def _hint(columns: Columns, row: Mapping[str, Any] | None = None) -> str:
    if row is not None and columns.dialogue not in row:
        has = ", ".join(map(repr, row))
        return f"it has {has}: name the dialogue's column with --set data.columns.dialogue=NAME"
    return f'a row is an object such as {{"{columns.dialogue}": "Ana: hi"}}, in UTF-8'


def _asked(row: Mapping[str, Any], place: str, columns: Columns, how: Messages) -> Asked:
    """A row's number, dialogue, reference and id."""
    given = columns if value_at(row, columns.dialogue) is not None else Columns()
    try:
        fields = fields_of(row, given)
        dialogue = dialogue_in(fields.dialogue, how)
    except MessageError as error:
        raise DataError(f"{place}: {columns.dialogue!r} is not a dialogue: {error}", _hint(columns)) from error
    reference = None if is_missing(fields.summary) else fields.summary
    lacks = None
    if not isinstance(dialogue, str) or not dialogue.strip():
        dialogue, lacks = "", f"no text in {columns.dialogue!r}"
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"{place}: {columns.summaries[0]!r} is not text", "leave it out where there is no reference")
    own = row.get(_ID)
    own = own if isinstance(own, str | int) and not isinstance(own, bool) else None
    others = _others(row, given)
    if not all(map(is_unicode, (dialogue, f"{reference}{own}", *others, *map(str, others.values())))):
        raise DataError(f"{place}: half a character (surrogates not allowed)", "repair the row's \\u escapes")
    return Asked(_number(place), with_plain_breaks(dialogue), reference, own, others, lacks)


def _others(row: Mapping[str, Any], columns: Columns) -> dict[str, str | int | float]:
    known = {name.partition(".")[0] for name in (columns.dialogue, *columns.summaries)}
    known |= {columns.dialogue, *columns.summaries, _ID}
    return {
        str(name): value if isinstance(value, str | int | float) else str(value)
        for name, value in row.items()
        if name not in known and not isinstance(value, Mapping | list | bytes) and value is not None and value == value
    }


def _number(place: str) -> int:
    """17 for chats.jsonl:17 and for chats.parquet row 17."""
    return int(place[len(place.rstrip("0123456789")) :])
