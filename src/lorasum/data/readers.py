"""Files of rows, read as streams. A row that cannot be read is told, not lost; a file that cannot be is an error.

The suffix tells the type: .jsonl, .json, .csv, .tsv, .parquet, .arrow; of the text ones, .gz and .zst too.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lorasum.config.schema import Columns
from lorasum.data.validate import Rejected, Row
from lorasum.errors import DataError

Tick = Callable[[float], None]
"""Called now and then with the share of the source that has been read, 0 to 1."""

_TICK_ROWS = 1024
_LONGEST_LINE = 64 * 2**20  # bytes; a line that is longer is no row but a file of another type
_COMPRESSED = (".gz", ".zst")


def file_type(path: Path) -> str | None:
    """The suffix that tells how to read a file, such as `.jsonl` for chats.jsonl.gz; None for one of no known type."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in _TEXT else None
    return suffixes[-1] if suffixes and suffixes[-1] in _READERS else None


def known_types() -> str:
    """For messages."""
    return f"{', '.join(_READERS)}, and {', '.join(_TEXT)} with {' or '.join(_COMPRESSED)}"


def read_rows(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    """Yield every row in order with its place, such as `train.jsonl:17` (1-based).

    Raises:
        DataError: the file cannot be read any further.
    """
    return _READERS[str(file_type(path))](path, columns, tick)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file's bytes, decompressed, and how far into the file on disk they go."""

    plain: Any  # a binary stream
    disk: IO[bytes]
    size: int

    def share(self) -> float:
        return self.disk.tell() / self.size if self.size else 1.0


@contextmanager
def _open(path: Path) -> Iterator[_Opened]:
    """Open a file, decompressing it; whatever is wrong with it while it is read is a DataError."""
    try:
        with path.open("rb") as disk:
            size = path.stat().st_size
            if path.suffix.lower() == ".gz":
                with gzip.open(disk) as plain:
                    yield _Opened(plain, disk, size)
            elif path.suffix.lower() == ".zst":
                import pyarrow as pa

                with pa.input_stream(disk, compression="zstd") as stream:
                    yield _Opened(io.BufferedReader(stream), disk, size)
            else:
                yield _Opened(disk, disk, size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path.name}: not a whole gzip file ({error})", "copy it again, or unpack it") from error
    except OSError as error:  # pyarrow's too, for a broken .zst
        if path.suffix.lower() == ".zst" and error.errno is None:
            raise DataError(f"{path.name}: not a whole zstd file ({_line(error)})", "copy it again") from error
        raise DataError(
            f"cannot read {path}: {error.strerror or _line(error)}", "check the file and its permissions"
        ) from error


def _jsonl(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    with _open(path) as file:
        number = 0
        while line := file.plain.readline(_LONGEST_LINE):
            number += 1
            if number % _TICK_ROWS == 0:
                tick(file.share())
            if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                yield f"{path.name}:{number}", Rejected("line too long", f"over {_LONGEST_LINE:,} bytes")
                while (rest := file.plain.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
            elif line.strip():
                yield f"{path.name}:{number}", _json_row(line, "utf-8-sig" if number == 1 else "utf-8")


def _json_row(line: bytes, encoding: str) -> Row:
    try:
        row = json.loads(line.decode(encoding))
    except UnicodeDecodeError as error:
        return Rejected("not UTF-8", f"byte {error.start + 1} of the line", _raw(line))
    except json.JSONDecodeError as error:
        return Rejected("not JSON", f"{error.msg}, column {error.colno}", _raw(line))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, endless nesting
        return Rejected("not JSON", _line(error), _raw(line))
    return _object(row)


def _object(row: Any) -> Row:
    if isinstance(row, dict):
        return row
    return Rejected("not a JSON object", type(row).__name__, json.dumps(row))


def _json(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    """A JSON array, read whole: the format leaves no choice. Lines of objects are often called .json too."""
    with _open(path) as file:
        content = file.plain.read()
    if not content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _jsonl(path, columns, tick)
        return
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path.name}:{line}: not UTF-8", "save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path.name}:{error.lineno}: not JSON ({error.msg}, column {error.colno})",
            "fix the file, or write one JSON object per line and call it .jsonl",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: not JSON ({_line(error)})", "fix the file") from error
    for number, row in enumerate(rows, 1):
        if number % _TICK_ROWS == 0:
            tick(number / len(rows))
        yield f"{path.name} row {number}", _object(row)


def _csv(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    """Comma- or tab-separated with a header; a quoted field may span lines: the record's first one is its place."""
    csv.field_size_limit(2**31 - 1)  # dialogues are longer than the 128 KiB of old
    delimiter = "\t" if file_type(path) == ".tsv" else ","
    # surrogateescape keeps a wrong byte inside its own record; `_unescaped` finds it there
    with _open(path) as file, io.TextIOWrapper(file.plain, "utf-8-sig", "surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True, delimiter=delimiter)
        header: list[str] = []
        while True:
            place = f"{path.name}:{reader.line_num + 1}"
            if (reader.line_num + 1) % _TICK_ROWS == 0:
                tick(file.share())
            try:
                fields = next(reader, None)
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise DataError(f"{place}: a quote is opened and never closed", 'write a quote as ""') from error
                yield place, Rejected("not CSV", str(error))
                continue
            if fields is None:
                return
            if not fields:
                continue  # an empty line
            raw = delimiter.join(fields)
            if not header:
                header = fields
            elif len(fields) != len(header):
                yield place, Rejected("not CSV", f"{len(fields)} fields, the header has {len(header)}", raw)
            elif not _unescaped(fields):
                yield (
                    place,
                    Rejected("not UTF-8", raw=_raw(raw.encode("utf-8", "surrogateescape"))),
                )
            else:
                yield place, dict(zip(header, fields, strict=True))


def _unescaped(fields: Sequence[str]) -> bool:
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parquet(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet

    with _arrow_errors(path, "Parquet"):
        file = pyarrow.parquet.ParquetFile(path)
        batches = file.iter_batches(_TICK_ROWS, columns=needed_columns(file.schema_arrow.names, columns))
        yield from _batch_rows(path, batches, file.metadata.num_rows, tick)


def _arrow(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    """Arrow's IPC format, as a file or as a stream, which is what `datasets` writes."""
    import pyarrow as pa

    with _arrow_errors(path, "Arrow"), pa.memory_map(str(path)) as mapped:
        try:
            file = pa.ipc.open_file(mapped)
            batches: Iterator[Any] = (file.get_batch(index) for index in range(file.num_record_batches))
            names = file.schema.names
        except pa.ArrowInvalid:
            mapped.seek(0)
            stream = pa.ipc.open_stream(mapped)
            batches, names = iter(stream), stream.schema.names
        needed = needed_columns(names, columns)
        parts = (part for batch in batches for part in _slices(batch.select(needed)))
        yield from _batch_rows(path, parts, 0, tick)


def _slices(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, _TICK_ROWS):
        yield batch.slice(start, _TICK_ROWS)


def _batch_rows(path: Path, batches: Any, rows: int, tick: Tick) -> Iterator[tuple[str, Row]]:
    number = 0
    for batch in batches:
        for row in _python_rows(batch):
            number += 1
            yield f"{path.name} row {number}", row
        if rows and number >= _TICK_ROWS:
            tick(number / rows)


@contextmanager
def _arrow_errors(path: Path, what: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: {_line(error)}", f"check that it is a whole {what} file") from error


def _python_rows(batch: Any) -> Iterator[Row]:
    """The rows of an Arrow batch. The formats check neither texts nor, in Arrow's own files, offsets: we do."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
        yield from batch.to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError, ValueError):  # find the rows
        for index in range(batch.num_rows):
            row = batch.slice(index, 1)
            try:
                row.validate(full=True)
                yield row.to_pylist()[0]
            except (pa.ArrowInvalid, UnicodeDecodeError, ValueError) as error:
                utf8 = "utf" in str(error).lower()
                yield Rejected("not UTF-8") if utf8 else Rejected("damaged", _line(error))


def needed_columns(names: list[str], columns: Columns) -> list[str]:
    """The columns to read: the mapped ones; all, for the error to list, when one of them is missing."""
    mapped = list(dict.fromkeys((columns.dialogue, columns.summary)))
    return mapped if set(mapped) <= set(names) else names


def _raw(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_READERS: dict[str, Callable[[Path, Columns, Tick], Iterator[tuple[str, Row]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
_TEXT = (".jsonl", ".json", ".csv", ".tsv")
