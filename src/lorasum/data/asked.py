"""Reads the rows of a file to be summarised, one after another; any number of them take the memory of one."""

import codecs
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lorasum.config.data import Columns, DataConfig, Messages
from lorasum.data.chats.exports import dialogue_in
from lorasum.data.chats.messages import MessageError
from lorasum.data.files.opening import Say
from lorasum.data.files.readers import file_type, known_types, read_rows
from lorasum.data.files.reading import Reading, unsaid
from lorasum.data.rows import fields_of, value_at
from lorasum.data.validate import Rejected
from lorasum.errors import DataError


class Asked(NamedTuple):
    """A row of an input file; `line` is its number, in JSONL that of its line. `id` is the row's own, if it has one."""

    line: int
    dialogue: str
    reference: str | None
    id: str | int | None


def read_asked(path: Path, data: DataConfig, say: Say = unsaid) -> Iterator[Asked]:
    """The rows of a file, in each type and form that `prepare` takes; JSONL where the suffix tells no type.

    Args:
        say: called with remarks on the file.

    Raises:
        DataError: the file has no rows, or one that cannot be used.
    """
    number = 0
    for number, row in _rows(path, data.columns, say):
        yield _asked(row, number, f"{path}:{number}", data.columns, data.messages)
    if not number:
        raise DataError(f"{path} has no rows", _hint(data.columns))


def _rows(path: Path, columns: Columns, say: Say) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row that is not blank, with its number (in JSONL the number of its line)."""
    if file_type(path) in (None, ".jsonl"):
        yield from _json_lines(path, _hint(columns))
        return
    reading = Reading(path, columns, "test", lambda share: None, say)
    for number, (where, row) in enumerate(read_rows(reading), 1):
        if isinstance(row, Rejected):
            raise DataError(f"{where}: {row}", "repair the row, or leave it out")
        yield number, row


def _json_lines(path: Path, hint: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if line.strip():
                    yield number, _object(line, f"{path}:{number}", hint)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", f"give --input a file: {known_types()}") from error


def _object(line: bytes, place: str, hint: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # json's and utf-8's; nested without end
        raise DataError(f"{place}: not JSON in UTF-8 ({error})", hint) from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: not an object", hint)
    return row


def _hint(columns: Columns) -> str:
    return f'a row is an object such as {{"{columns.dialogue}": "Ana: hi"}}, in UTF-8'


def _asked(row: Mapping[str, Any], number: int, place: str, columns: Columns, how: Messages) -> Asked:
    """A row's dialogue, reference and id."""
    given = columns if value_at(row, columns.dialogue) is not None else Columns()
    try:
        fields = fields_of(row, given)
        dialogue = dialogue_in(fields.dialogue, how)
    except MessageError as error:
        raise DataError(f"{place}: {columns.dialogue!r} is no dialogue: {error}", _hint(columns)) from error
    reference = fields.summary
    if not isinstance(dialogue, str) or not dialogue.strip():
        raise DataError(f"{place}: no text in {columns.dialogue!r}", _hint(columns))
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"{place}: {columns.summaries[0]!r} is not text", "leave it out where there is no reference")
    own = row.get("id")
    own = own if isinstance(own, str | int) and not isinstance(own, bool) else None
    try:
        f"{dialogue}{reference}{own}".encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: half a character ({error.reason})", "repair the row's \\u escapes") from error
    return Asked(number, dialogue, reference, own)
