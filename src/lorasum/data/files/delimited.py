"""Reads CSV and TSV files. What separates their fields is seen in the header: a comma, semicolon, tab or bar, or any
other sign between the mapped columns."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any

from lorasum.config.data import Columns
from lorasum.data.chats.written import is_unicode
from lorasum.data.files.opening import LONGEST_ROW, Opened, opened
from lorasum.data.files.reading import TICK_ROWS, Reading, needed_columns
from lorasum.data.tally import Rejected, Row
from lorasum.errors import DataError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_JSON = re.compile(rb'\s*(?:\[\s*)?\{\s*"')
_LINES_AHEAD, _RECORDS_AHEAD, _TITLES = 1000, 10, 10  # titles may stand above the header
_LONGEST_HEADER = 100_000  # characters
_BACKSLASH = re.compile(r"\\([\\\"])?")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_NAME = re.compile(r"[\w .-]{,40}")
_RULE = re.compile(r" *(?::?-{2,}:? *)?")  # a cell of the line below the header of a Markdown table
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
        lines.mend, quotes = _quotes(lines, file, delimiter)
        # where blanks behind quotes are none of the text, those before quotes are not either
        spaced = lines.mend not in (str, _escaped) or _is_spaced(lines, delimiter, quotes)
        reader = csv.reader(lines, strict=True, delimiter=delimiter, skipinitialspace=spaced, **quotes)
        header, first = list[str](), ""
        for place, fields in _records(reading, file, lines, reader):
            first = first or place
            if isinstance(fields, Rejected):
                yield place, fields
            elif not header or _is_header(fields, header, reading.columns):
                names = _as_names(fields)
                if header:  # of files that were joined
                    same = "ignored" if names == header else "the columns of the rows below it stand in its order"
                    reading.say(reading.name, f"its header is in it again: {same}")
                needed_columns(reading.name, names, reading.columns)
                header = names
            elif all(map(_RULE.fullmatch, fields)) and (delimiter == "|" or all(fields)):
                if delimiter != "|":  # as in Markdown
                    reading.say(reading.name, "a line of dashes in it is ignored")
            else:
                yield place, _row(header, fields, delimiter)
        named = {reading.columns.dialogue, *reading.columns.summaries} <= {*header} or all(map(_NAME.fullmatch, header))
        if header and place == first and not named:  # of a file that was cut in parts
            yield place, Rejected("not CSV", "its only line is no header", delimiter.join(header))


def _records(
    reading: Reading, file: Opened, lines: "_Lines", reader: Iterator[list[str]]
) -> Iterator[tuple[str, list[str] | Rejected]]:
    """The fields of each record with its place. Empty lines and a spreadsheet's rows of empty cells are none."""
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
        if any(map(str.strip, fields)):
            yield place, fields


class _Lines:
    """The lines of a stream, with the number of lines read. A line that is longer than a row may be is not kept.

    Attributes:
        mend: makes a line one of CSV.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self.number = text, 0
        self.mend: Callable[[str], str] = str
        self._ahead: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._ahead.pop(0) if self._ahead else self._text.readline(LONGEST_ROW)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_ROW and line[-1] not in "\r\n":
            while (rest := self._text.readline(LONGEST_ROW)) and rest[-1] not in "\r\n":
                pass
            raise _TooLong
        return self.mend(line)

    def peek(self, count: int = 1) -> list[str]:
        """The next lines, without moving past them."""
        while len(self._ahead) < count:
            self._ahead.append(self._text.readline(LONGEST_ROW))
        return self._ahead[:count]

    def skip(self, count: int = 1) -> None:
        """Move past lines that `peek` returned."""
        self.number += count
        del self._ahead[:count]


def _delimiter(reading: Reading, lines: _Lines) -> str:
    """The delimiter, from Excel's first line or from the header. What stands above these is ignored."""
    while (line := lines.peek()[0]) and not line.strip("\r\n"):
        lines.skip()
    if said := _EXCEL.fullmatch(line):
        lines.skip()
        return said[1]
    if above := _lines_above_header(lines, reading.columns):
        reading.say(reading.name, f"its header is in line {lines.number + above + 1}: what is above it is ignored")
        lines.skip(above)
    expected = "\t" if ".tsv" in reading.name.lower() else ","
    dialect = _sniffed(lines.peek()[0], expected, reading.columns)
    if dialect != expected:
        reading.say(reading.name, f"its fields are separated by {_DELIMITERS.get(dialect, repr(dialect))}")
    return dialect


def _is_spaced(lines: _Lines, delimiter: str, quotes: Mapping[str, Any]) -> bool:
    """Whether blanks stand between a delimiter and the quote behind it: in the header, or in the first records, if
    only so these have as many fields as the header, or if all of them have it. Else the quotes may be meant."""
    if re.search(rf'{re.escape(delimiter)} +"', lines.peek()[0]):
        return True

    def first_records(skipping: bool) -> list[list[str]]:
        ahead = (lines.mend(lines.peek(count)[-1]) for count in range(1, _LINES_AHEAD))
        reader = csv.reader(
            takewhile(lambda line: 0 < len(line) < _LONGEST_HEADER, ahead),
            strict=True,
            delimiter=delimiter,
            skipinitialspace=skipping,
            **quotes,
        )
        return list(islice(filter(None, reader), _RECORDS_AHEAD))

    try:
        plain, skipped = first_records(skipping=False), first_records(skipping=True)
    except (csv.Error, _TooLong):
        return False
    always = len(plain) > 2 and all(any(re.match(' +"', field) for field in record) for record in plain[1:])
    return len({*map(len, skipped)}) == 1 and (always or len({*map(len, plain)}) > 1)


def _quotes(lines: _Lines, file: Opened, delimiter: str) -> tuple[Callable[[str], str], dict[str, Any]]:
    """What makes a line one of CSV, if the file is none as it is, and how fields are quoted, for csv.reader.

    Quotes are `"` as a rule, or `'`, or none, as in some files of tabs. A quote inside of a field may be written `\\"`,
    and blanks may stand behind a field's last quote.
    """
    if _has_single_quotes(lines, delimiter):
        return str, {"quotechar": "'"}
    blanks = re.compile(rf'(?<!\\)" +(?={re.escape(delimiter)}|[\r\n]|\Z)')

    def trimmed(line: str) -> str:
        return blanks.sub('"', line)

    text = file.head.decode("utf-8", "replace")
    escaped = {"escapechar": "\\"}
    ways: Any = ((str, {}), (_escaped, escaped), (trimmed, {}), (lambda line: trimmed(_escaped(line)), escaped))
    mend, quotes = next((way for way in ways if _is_csv(way[0](text), file, delimiter, way[1])), ways[0])
    if delimiter == "\t" and mend is str and _has_bare_quotes(file):
        return str, {"quoting": csv.QUOTE_NONE}
    return mend, quotes


def _has_single_quotes(lines: _Lines, delimiter: str) -> bool:
    """Whether `'` quotes fields: each of the first records has such a field, and all have as many as the header."""
    quoted = re.compile(rf"'|.*{re.escape(delimiter)} *'")
    if not quoted.match(lines.peek(2)[1]):
        return False
    ahead = [line for line in lines.peek(_LINES_AHEAD) if line.strip() and len(line) < _LONGEST_HEADER]
    records = csv.reader(ahead, strict=True, delimiter=delimiter, quotechar="'")
    at = 0
    try:
        width, at = len(next(records)), records.line_num
        for record in records:
            if len(record) != width or not quoted.match(ahead[at]):
                return False
            at = records.line_num
    except csv.Error as error:  # the last record may go on below the lines that were looked at
        return at > 2 and "unexpected end" in str(error) and bool(lines.peek(_LINES_AHEAD)[-1])
    return True


def _has_bare_quotes(file: Opened) -> bool:
    """Whether `"` is a letter as any other in a file of tabs: it is no CSV else, and each line has as many fields."""
    text = file.head.decode("utf-8", "replace").rstrip("\r\n")
    rows = [line.split("\t") for line in (text if file.whole else text.rpartition("\n")[0]).split("\n")]
    quoted = (field for row in rows for field in row if _QUOTED.fullmatch(field.strip()))
    return len({*map(len, rows)}) == 1 and not _is_csv(text, file, "\t", {}) and not any(quoted)


def _lines_above_header(lines: _Lines, columns: Columns) -> int:
    """How many lines stand above the one with the mapped columns; 0 if there is none such."""
    for above in range(_TITLES):
        line = lines.peek(above + 1)[-1]
        if not line or len(line) > _LONGEST_HEADER:
            break
        if is_table(line, columns):
            return above
    return 0


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
        return _as_names(next(csv.reader([header], delimiter=delimiter, skipinitialspace=True)))
    except (csv.Error, StopIteration):
        return []


def _is_header(fields: list[str], header: Sequence[str], columns: Columns) -> bool:
    """Whether a record is the header again, perhaps of another file with other columns."""
    if columns.dialogue not in fields and fields[-1].strip() not in header:
        return False
    names = _as_names(fields)
    mapped = {columns.dialogue, *columns.summaries} <= {*names} and all(map(_NAME.fullmatch, names))
    return mapped or sorted(names) == sorted(header)


def _as_names(fields: Sequence[str]) -> list[str]:
    return [name.strip().strip("\ufeff\u200b\u2060").strip() for name in fields]


def _is_csv(text: str, file: Opened, delimiter: str, quotes: Mapping[str, Any]) -> bool:
    lines = io.StringIO(text, newline="")
    try:
        for _ in csv.reader(lines, strict=True, delimiter=delimiter, skipinitialspace=True, **quotes):
            pass
    except csv.Error as error:
        return not file.whole and "unexpected end" in str(error)
    return True


def _escaped(line: str) -> str:
    """A line in which a backslash that escapes nothing, as in `C:\\new`, is escaped itself."""
    return _BACKSLASH.sub(lambda match: match[0] if match[1] else "\\\\", line)


def _row(header: Sequence[str], fields: list[str], delimiter: str) -> Row:
    raw = delimiter.join(fields)
    if len(fields) > len(header) and not any(fields[len(header) :]):
        fields = fields[: len(header)]  # a spreadsheet's empty cells
    if len(fields) < len(header) and not any(header[len(fields) :]):
        fields = fields + [""] * (len(header) - len(fields))  # of a header that ends with the delimiter
    if not is_unicode(raw):
        return Rejected("not UTF-8", raw=raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    if len(fields) != len(header):
        return Rejected("not CSV", f"{len(fields)} fields, the header has {len(header)}", raw)
    return dict(zip(header, fields, strict=True))
