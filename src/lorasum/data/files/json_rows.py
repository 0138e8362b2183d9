"""Reads JSON files of every shape: an object a line, objects one after another, an array, or one document of rows.

Lines and arrays are read as streams. One document (json_shapes.py) is read whole, because its shape requires that.
"""

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from lorasum.data.files.delimited import is_table
from lorasum.data.files.json_shapes import rows_of
from lorasum.data.files.opening import LONGEST_ROW, Opened, opened
from lorasum.data.files.reading import TICK_ROWS, Reading
from lorasum.data.tally import Rejected, Row
from lorasum.errors import DataError
from lorasum.system.files import first_line

_CHUNK = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")
_HINT = "fix the file, or write one JSON object per line and call it .jsonl"
_LINES_TRIED = 200
_JSON = json.JSONDecoder(strict=False)  # a tab in a text does no harm
_COMMA = re.compile(r'("(?:[^"\\]++|\\.)*+(?:"|\\?\Z))|,(?=\s*(?:[}\]]|\Z))', re.DOTALL)
"""A text, or a comma behind the last value of an object, an array or a line."""


def read_json(reading: Reading) -> Iterator[tuple[str, Row]]:
    """The rows of a .json, .jsonl or .ndjson file. The content tells its form, not the name."""
    with opened(reading.path, reading.say) as file:
        first = file.head.lstrip().partition(b"\n")[0]
        if first[:1] not in (b"{", b"[", b"") and is_table(first.decode(errors="replace"), reading.columns):
            raise DataError(f"{reading.name} is CSV", "call it .csv")
        yield from (_lines if _is_lines(reading, file) else _documents)(reading, file)


def _is_lines(reading: Reading, file: Opened) -> bool:
    """Whether each line is a row. One complete row is enough, because other lines may be broken."""
    lines = [line for line in file.head.split(b"\n") if line.strip()]
    if not file.whole:
        lines = lines[:-1] or lines  # the last one is cut
    if not lines or file.head.lstrip()[:1] not in (b"{", b"["):
        return True
    first = _parsed(lines[0])
    if first and isinstance(first, list):
        return len(lines) > 1 and _is_chat(first, reading)
    if isinstance(first, dict):
        return len(lines) > 1 or not file.whole or _is_row(reading, first)
    if file.whole and _parsed(file.head) is not None:
        return False
    below = map(_parsed, islice(lines, 1, _LINES_TRIED))
    return any(isinstance(one, dict) or _is_chat(one, reading) for one in below)


def _is_row(reading: Reading, document: dict[str, Any]) -> bool:
    try:
        return list(rows_of(document, reading.columns, reading.split)) == [document]
    except ValueError:
        return False


def _parsed(text: bytes) -> Any:
    try:
        return _JSON.decode(text.decode())
    except (ValueError, RecursionError):
        return None


def _lines(reading: Reading, file: Opened) -> Iterator[tuple[str, Row]]:
    number = 0
    while line := file.plain.readline(LONGEST_ROW):
        number += 1
        if number % TICK_ROWS == 0:
            reading.tick(file.share())
        if len(line) == LONGEST_ROW and not line.endswith(b"\n"):
            yield f"{reading.name}:{number}", Rejected("line too long", f"over {LONGEST_ROW:,} bytes")
            while (rest := file.plain.readline(LONGEST_ROW)) and not rest.endswith(b"\n"):
                pass
        elif line.strip():
            yield f"{reading.name}:{number}", _line_row(line, reading)


def _line_row(line: bytes, reading: Reading) -> Row:
    try:
        text = line.decode().lstrip("\ufeff\x1e")  # of files that were joined, and of RFC 7464
        try:
            row = _JSON.decode(text)
        except json.JSONDecodeError:
            row = _JSON.decode(_without_commas(text))
    except UnicodeDecodeError as error:
        return Rejected("not UTF-8", f"byte {error.start + 1} of the line", _raw(line))
    except json.JSONDecodeError as error:
        return Rejected("not JSON", f"{error.msg}, column {error.colno}", _raw(line))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, endless nesting
        return Rejected("not JSON", first_line(error), _raw(line))
    return _object(row, reading)


def _without_commas(text: str) -> str:
    """JSON without the commas behind last values, which many languages allow."""
    return _COMMA.sub(lambda match: match[1] or " ", text)


def _object(row: Any, reading: Reading) -> Row:
    if _is_chat(row, reading):
        return {"messages": row}
    if isinstance(row, str) and row.lstrip().startswith("{"):  # JSON that was encoded twice
        row = _parsed(row.encode("utf-8", "surrogatepass")) or row
    if isinstance(row, dict | Rejected):
        return row
    try:
        return Rejected("not a JSON object", type(row).__name__, json.dumps(row))
    except RecursionError:
        return Rejected("not a JSON object", type(row).__name__)


def _raw(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _documents(reading: Reading, file: Opened) -> Iterator[tuple[str, Row]]:
    """The elements of an array, objects one after another, or the rows of a single document."""
    scanner = _Scanner(reading, file)
    in_arrays = scanner.next_sign() == "[" and _header(_parsed(file.head.partition(b"\n")[0]), reading) is None
    rows = scanner.elements() if in_arrays else scanner.values()
    first = list(islice(rows, 1))
    if first and scanner.is_document and scanner.next_sign() == "" and isinstance(first[0], dict):
        try:
            say = partial(reading.say, reading.name)
            rows = iter(rows_of(first.pop(), reading.columns, reading.split, say))
        except ValueError as error:
            hint = "leave one list of rows in it, each with a dialogue and a summary"
            raise DataError(f"{reading.name}: {error}", hint) from error
    header = _header(first[0], reading) if first else None
    for number, row in enumerate(chain(() if header else first, rows), 1):
        if number % TICK_ROWS == 0:
            reading.tick(file.share())
        if header and isinstance(row, list) and len(row) == len(header):
            row = dict(zip(header, row, strict=True))
        yield f"{reading.name} row {number}", _object(row, reading)


def _is_chat(row: Any, reading: Reading) -> bool:
    """Whether a row is a bare list of messages, as of fine-tuning tools, and not a list of rows."""
    if not isinstance(row, list) or not all(isinstance(one, dict) for one in row):
        return False
    columns = {reading.columns.dialogue, *reading.columns.summaries}
    keys = [{*one} for one in row]
    spoken = all({"role", "from"} & one and not columns & one for one in keys)
    return spoken and any({"content", "value"} & one for one in keys)


def _header(row: Any, reading: Reading) -> list[str] | None:
    """The names of the columns, if a row is a list of them: `["dialogue", "summary"]`."""
    names = isinstance(row, list) and all(isinstance(name, str) for name in row)
    return row if names and {reading.columns.dialogue} < {*row} and {*reading.columns.summaries} & {*row} else None


class _Scanner:
    """Reads JSON values one after another from a stream, and holds one of them at a time."""

    def __init__(self, reading: Reading, file: Opened) -> None:
        self._reading, self._file = reading, file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._lines, self._ended = "", 0, 0, False
        self._limit = max(LONGEST_ROW, file.size)
        self._rows = 0
        self.is_document = False

    def next_sign(self) -> str:
        """The next character that is not white space, without moving past it; empty at the end."""
        while True:
            if space := _SPACE.match(self._text, self._at):
                self._at = space.end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def values(self) -> Iterator[Any]:
        """Values one after another, with or without commas between them."""
        self.is_document = True
        while self.next_sign():
            yield self._value()
            if self.next_sign() == ",":
                self._at += 1

    def elements(self) -> Iterator[Any]:
        """The elements of the arrays that begin here. Nothing else may follow them."""
        while self.next_sign() == "[":
            self._at += 1
            if self.next_sign() != "]":
                yield self._value()
            while (sign := self.next_sign()) == ",":
                self._at += 1
                if self.next_sign() != "]":  # a comma behind the last one does no harm
                    yield self._value()
            if sign != "]":
                raise self._fault("Expecting ',' delimiter" if sign else "the array is not closed", self._at)
            self._at += 1
        if self.next_sign():
            raise self._fault("Extra data", self._at)

    def _value(self) -> Any:
        self.next_sign()
        self._rows += 1
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if "Unterminated" not in error.msg and self._text[error.pos : error.pos + 1] != "":
                    mended = self._text[: self._at] + _without_commas(self._text[self._at :])
                    if mended != self._text:
                        self._text = mended
                        continue
                cut_off = error.pos >= len(self._text) - 8 or error.msg.startswith("Unterminated string")
                if not (cut_off and self._more()):
                    raise self._fault(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                place = f"{self._reading.name} row {self._rows}"
                raise DataError(f"{place}: not JSON ({first_line(error)})", "fix the row, or take it out") from error
            else:
                if end < len(self._text) or not self._more():  # a number may go on
                    self._at = end
                    return value

    def _more(self) -> bool:
        """Read more, twice as much each time for one value. False at the end of the file."""
        if self._ended:
            return False
        self._lines += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > self._limit:
            place = f"{self._reading.name} row {self._rows}"
            raise DataError(f"{place}: one JSON value of over {self._limit:,} characters", _HINT)
        chunk = self._file.plain.read(max(_CHUNK, len(self._text)))
        self._ended = not chunk
        try:
            self._text += self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            line = self._lines + self._text.count("\n") + error.object.count(b"\n", 0, error.start) + 1
            raise DataError(f"{self._reading.name}:{line}: not UTF-8", "save the file as UTF-8") from error
        return True

    def _fault(self, what: str, at: int) -> DataError:
        line = self._lines + self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        return DataError(f"{self._reading.name}:{line}: not JSON ({what}, column {column})", _HINT)
