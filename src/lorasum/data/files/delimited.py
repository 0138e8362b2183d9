"""Reads CSV and TSV files. What separates their fields is seen in the header: a comma, semicolon, tab or bar, or any
other sign between the mapped columns."""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from lorasum.config.data import Columns
from lorasum.data.chats.written import is_unicode
from lorasum.data.files.opening import LONGEST_ROW, opened
from lorasum.data.files.reading import TICK_ROWS, Reading, needed_columns
from lorasum.data.tally import Rejected, Row
from lorasum.errors import DataError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_JSON = re.compile(rb'\s*(?:\[\s*)?\{\s*"')
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's own first line


class _TooLong(Exception):  # noqa: N818
    """A line is longer than a row may be."""


def read_csv(reading: Reading) -> Iterator[tuple[str, Row]]:
    """The rows of a .csv or .tsv file. A quoted field may span lines; the place of a row is its first line."""
    csv.field_size_limit(LONGEST_ROW)  # dialogues may be longer than the default of 128 KiB
    # surrogateescape keeps a wrong byte inside its own record; `is_unicode` finds it there
    with (
        opened(reading.path, reading.say) as file,
        io.TextIOWrapper(file.plain, "utf-8", "surrogateescape", newline="") as text,
    ):
        if _JSON.match(file.head):
            raise DataError(f"{reading.name} is JSON", "call it .json or .jsonl")
        lines = _Lines(text)
        delimiter = _delimiter(reading, lines)
        spaced = bool(re.search(rf'{re.escape(delimiter)} +"', lines.peek()))
        reader = csv.reader(lines, strict=True, delimiter=delimiter, skipinitialspace=spaced)
        header: list[str] = []
        while True:
            place = f"{reading.name}:{lines.number + 1}"
            if (lines.number + 1) % TICK_ROWS == 0:
                reading.tick(file.share())
            try:
                fields = next(reader, None)
            except _TooLong:
                yield place, Rejected("line too long", f"over {LONGEST_ROW:,} characters")
                continue
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise DataError(f"{place}: a quote is opened and never closed", 'write a quote as ""') from error
                yield place, Rejected("not CSV", str(error))
                continue
            if fields is None:
                return
            if not fields:
                continue  # an empty line
            if header:
                yield place, _row(header, fields, delimiter)
            else:
                header = [name.strip() for name in fields]
                needed_columns(reading.name, header, reading.columns)


class _Lines:
    """The lines of a stream, with the number of lines read. A line that is longer than a row may be is not kept."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self.number = text, 0
        self._ahead: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._ahead.pop() if self._ahead else self._text.readline(LONGEST_ROW)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_ROW and line[-1] not in "\r\n":
            while (rest := self._text.readline(LONGEST_ROW)) and rest[-1] not in "\r\n":
                pass
            raise _TooLong
        return line

    def peek(self) -> str:
        """The next line, without moving past it."""
        if not self._ahead:
            self._ahead.append(self._text.readline(LONGEST_ROW))
        return self._ahead[0]

    def skip(self) -> None:
        """Move past the line that `peek` returned."""
        self.number += 1
        self._ahead.clear()


def _delimiter(reading: Reading, lines: _Lines) -> str:
    """The delimiter, from Excel's first line or from the header."""
    while lines.peek() and not lines.peek().strip("\r\n"):
        lines.skip()
    if said := _EXCEL.fullmatch(lines.peek()):
        lines.skip()
        return said[1]
    expected = "\t" if ".tsv" in reading.name.lower() else ","
    dialect = _sniffed(lines.peek(), expected, reading.columns)
    if dialect != expected:
        reading.say(reading.name, f"its fields are separated by {_DELIMITERS.get(dialect, repr(dialect))}")
    return dialect


def is_table(first_line: str, columns: Columns) -> bool:
    """Whether the first line of a text is the header of a table with the mapped columns."""
    return _mapped(first_line, _sniffed(first_line, ",", columns), columns) > 1


def _sniffed(header: str, expected: str, columns: Columns) -> str:
    """The delimiter under which the header has the mapped columns, or else the most columns."""
    others = {sign for sign in header if not (sign.isalnum() or sign in " _-.\"'\r\n\\")} - set(_DELIMITERS)
    able = (sign for sign in sorted(others) if _mapped(header, sign, columns) > 1)
    return max(
        (*_DELIMITERS, *able),
        key=lambda sign: (_mapped(header, sign, columns), len(_names(header, sign)), sign == expected),
    )


def _mapped(header: str, delimiter: str, columns: Columns) -> int:
    """How many of the mapped columns the header has."""
    return len({columns.dialogue, *columns.summaries} & set(_names(header, delimiter)))


def _names(header: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([header], delimiter=delimiter, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []


def _row(header: Sequence[str], fields: list[str], delimiter: str) -> Row:
    raw = delimiter.join(fields)
    if len(fields) > len(header) and not any(fields[len(header) :]):
        fields = fields[: len(header)]  # a spreadsheet's empty cells
    if not is_unicode(raw):
        return Rejected("not UTF-8", raw=raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    if len(fields) != len(header):
        return Rejected("not CSV", f"{len(fields)} fields, the header has {len(header)}", raw)
    return dict(zip(header, fields, strict=True))
