"""Where rows come from: local files and hub datasets, read as streams. A row that cannot be read is told, not lost."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from lorasum.config import Columns, DataConfig
from lorasum.data.validate import Rejected, Row
from lorasum.errors import DataError
from lorasum.hub import hub_commit, hub_error
from lorasum.quiet import quiet_datasets

Split = Literal["train", "test"]
Tick = Callable[[float], None]
"""Called now and then with the share of the source that has been read, 0 to 1."""

_TICK_ROWS = 1024


class Source(Protocol):
    """One split of a dataset."""

    @property
    def name(self) -> str:
        """What messages call it: a file name, or a hub dataset and its split."""

    def identity(self) -> str:
        """A text that differs whenever the rows do."""

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        """Yield every row in order with its place, such as `train.jsonl:17` (1-based).

        Raises:
            DataError: the source cannot be read any further.
        """


def open_sources(data: DataConfig) -> dict[Split, Source]:
    """The source of each split, training first; no row is read yet.

    Raises:
        DataError: a file is missing or of an unknown type; the hub dataset does not exist or cannot be reached.
    """
    if data.dataset:
        commit = hub_commit(data.dataset, data.revision, "dataset")
        return {
            "train": HubSource(data.dataset, data.subset, data.train_split, commit, data.columns),
            "test": HubSource(data.dataset, data.subset, data.test_split, commit, data.columns),
        }
    return {"train": _file(data.train, "train", data.columns), "test": _file(data.test, "test", data.columns)}


def _file(path: Path | None, split: Split, columns: Columns) -> "FileSource":
    if path is None or not path.is_file():
        raise DataError(f"data.{split}: there is no file {path}", "check the path and that the file is there")
    if path.suffix.lower() not in _READERS:
        raise DataError(f"data.{split}: the type of {path.name} is not known", f"use one of {', '.join(_READERS)}")
    return FileSource(path, columns)


@dataclass(frozen=True, slots=True)
class FileSource:
    """A local file; its suffix tells the type."""

    path: Path
    columns: Columns

    @property
    def name(self) -> str:
        return self.path.name

    def identity(self) -> str:
        with _open(self.path) as file:
            return f"{self.path.suffix.lower()} {hashlib.file_digest(file, 'sha256').hexdigest()}"

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        return _READERS[self.path.suffix.lower()](self.path, self.columns, tick)


@dataclass(frozen=True, slots=True)
class HubSource:
    """A split of a hub dataset at one commit."""

    dataset: str
    subset: str | None
    split: str
    commit: str
    columns: Columns

    @property
    def name(self) -> str:
        return f"{self.dataset}[{self.split}]"

    def identity(self) -> str:
        return f"hub {self.dataset} {self.subset} {self.split} {self.commit}"

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        with quiet_datasets(), _hub_errors(self.dataset):
            table = _prepared(self.dataset, self.subset, self.commit).as_dataset(split=self.split)
        table = table.select_columns(_needed(table.column_names, self.columns))
        for number, row in enumerate(table, 1):
            if number % _TICK_ROWS == 0:
                tick(number / len(table))
            yield f"{self.name} row {number}", row


@lru_cache(maxsize=1)  # both splits are of one download
def _prepared(dataset: str, subset: str | None, commit: str) -> Any:
    """The builder of a hub dataset that is downloaded and in Arrow files."""
    import datasets

    builder = datasets.load_dataset_builder(dataset, subset, revision=commit)
    if builder.hash != commit:  # without a hub the library takes any revision it has in its cache
        raise DataError(
            f"hub dataset {dataset!r} is not downloaded at {commit[:12]}, and the hub cannot be reached",
            "check the network, or pin data.revision to the commit that was downloaded",
        )
    builder.download_and_prepare()
    return builder


@contextmanager
def _hub_errors(dataset: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the library raises whatever its parsers and HTTP client do
        raise hub_error(error, dataset, "dataset") from error


def _jsonl(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    size = path.stat().st_size
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if number % _TICK_ROWS == 0:
                tick(file.tell() / size)
            if line.strip():
                yield f"{path.name}:{number}", _json_row(line, "utf-8-sig" if number == 1 else "utf-8")


def _json_row(line: bytes, encoding: str) -> Row:
    try:
        row = json.loads(line.decode(encoding))
    except UnicodeDecodeError as error:
        return Rejected("not UTF-8", f"byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return Rejected("not JSON", f"{error.msg}, column {error.colno}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, endless nesting
        return Rejected("not JSON", str(error).splitlines()[0])
    return _object(row)


def _object(row: Any) -> Row:
    return row if isinstance(row, dict) else Rejected("not a JSON object", type(row).__name__)


def _json(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    """A JSON array, read whole: the format leaves no choice. Lines of objects are often called .json too."""
    with _open(path) as file:
        content = file.read()
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
        raise DataError(f"{path.name}: not JSON ({error})", "fix the file") from error
    for number, row in enumerate(rows, 1):
        if number % _TICK_ROWS == 0:
            tick(number / len(rows))
        yield f"{path.name} row {number}", _object(row)


def _csv(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    """Comma-separated with a header; a quoted field may span lines, and the record's first line is its place."""
    csv.field_size_limit(2**31 - 1)  # dialogues are longer than the 128 KiB of old
    size = path.stat().st_size
    # surrogateescape keeps a wrong byte inside its own record; `_unescaped` finds it there
    with _open(path) as file, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True)
        header: list[str] = []
        while True:
            place = f"{path.name}:{reader.line_num + 1}"
            if (reader.line_num + 1) % _TICK_ROWS == 0:
                tick(file.tell() / size)
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
            if not header:
                header = fields
            elif len(fields) != len(header):
                yield place, Rejected("not CSV", f"{len(fields)} fields, the header has {len(header)}")
            elif not _unescaped(fields):
                yield place, Rejected("not UTF-8")
            else:
                yield place, dict(zip(header, fields, strict=True))


def _unescaped(fields: Sequence[str]) -> bool:
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parquet(path: Path, columns: Columns, tick: Tick) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(_TICK_ROWS, columns=_needed(file.schema_arrow.names, columns)):
            for row in _python_rows(batch):
                number += 1
                yield f"{path.name} row {number}", row
            if number >= _TICK_ROWS:
                tick(number / file.metadata.num_rows)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name}: {str(error).splitlines()[0]}", "check that it is a whole Parquet file"
        ) from error


def _python_rows(batch: Any) -> Iterator[Row]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # Parquet does not check its texts: find the rows
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield Rejected("not UTF-8")


def _needed(names: list[str], columns: Columns) -> list[str]:
    """The columns to read: the mapped ones; all, for the error to list, when one of them is missing."""
    mapped = list(dict.fromkeys((columns.dialogue, columns.summary)))
    return mapped if set(mapped) <= set(names) else names


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from error


_READERS: dict[str, Callable[[Path, Columns, Tick], Iterator[tuple[str, Row]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
