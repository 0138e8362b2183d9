"""Files of rows to be summarised, and files of their summaries: read and written as streams.

Summaries are JSON Lines, or CSV, TSV or Parquet where the name says so.
"""

import csv
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

from lorasum.config.data import DataConfig
from lorasum.config.schema import PredictConfig
from lorasum.context import RunContext
from lorasum.data.asked import Asked, read_asked
from lorasum.data.duplicates import Seen, key
from lorasum.data.files.opening import Say
from lorasum.data.files.reading import unsaid
from lorasum.errors import LorasumError
from lorasum.lifecycle.answers import Answer
from lorasum.results.serving import RowFailure
from lorasum.system import paths
from lorasum.system.batched import batched
from lorasum.system.files import STDIN, STDOUT, USER_FILE_MODE, make_folder, new_file, open_source, writing

AGAIN: Final = "free some disk or check the folder's permissions, then run the same command again"
_COLUMNS: Final = ("id", "dialogue", "summary", "error", "reference")
"""Of a table, before the other columns of its rows. JSON Lines have those that a row has."""
_TABLES: Final = {".csv": ",", ".tsv": "\t"}
_LINES: Final = (".jsonl", ".ndjson", ".jsonlines", "")
_AT_ONCE: Final = 1024  # rows that are checked together, or written into a Parquet file

Write = Callable[[Asked, Answer], object]
"""Writes a row with its answer."""


class Rows:
    """The rows of a file, which is read several times and must not change meanwhile.

    Attributes:
        count: of the rows that have a dialogue.
        empty: of those that have none.
        digest: a hash of what is summarised.
        others: the names of their other columns.

    Args:
        say: called with remarks on the file.

    Raises:
        DataError: a row cannot be used.
    """

    def __init__(self, path: Path, data: DataConfig, say: Say) -> None:
        self._path, self._data = path, data
        self.count, self.empty, self.digest, self._known = 0, 0, "", ""
        self.others: dict[str, None] = {}
        seen, repeated, line = Seen(), 0, 0
        for some in batched(self._read(say), _AT_ONCE):
            self.count += sum(row.error is None for row in some)
            self.empty += sum(row.error is not None for row in some)
            self.others |= {name: None for row in some for name in row.others if name not in _COLUMNS}
            named = [row for row in some if row.id is not None]
            known = seen.add([key(repr(row.id)) for row in named])
            again = [row.line for row, known_before in zip(named, known, strict=True) if known_before]
            repeated, line = repeated + len(again), line or next(iter(again), 0)
        if repeated:
            say(path.name, f"{repeated} rows have an id that a row before them has, the first in line {line}")

    def __iter__(self) -> Iterator[Asked]:
        return self._read(unsaid)

    def asked(self) -> Iterator[Asked]:
        """Those that have a dialogue. Answers go by their places."""
        return (row for row in self if row.error is None)

    def _read(self, say: Say) -> Iterator[Asked]:
        """Raises LorasumError at the end if these are not the rows that were read first."""
        digest, known = hashlib.sha256(), hashlib.sha256()
        for row in read_asked(self._path, self._data, say):
            digest.update(json.dumps(row[:-2]).encode() + b"\n")  # no ticket's number makes another summary
            known.update(json.dumps(row).encode() + b"\n")
            yield row
        self.digest, self._known = self.digest or digest.hexdigest(), self._known or known.hexdigest()
        if known.hexdigest() != self._known:
            raise LorasumError(f"{self._path} was changed while it was summarised", "run the same command again")


def key_of(artifact: str, template: str, asked: PredictConfig, rows: Rows) -> str:
    """A hash of the rows, the model and how it is asked. Answers are resumed only under the same key."""
    decides = [artifact, template, asked.max_new_tokens, asked.temperature, rows.digest]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:8]


@contextmanager
def open_rows(run: RunContext, source: Path) -> Iterator[Rows]:
    """The rows of a file, or of stdin or a pipe, whose content is copied, so that it can be read again.

    Raises:
        DataError: a row cannot be used.
        LorasumError: the copy cannot be written.
    """

    def say(name: str, text: str) -> None:
        run.reporter.step(f"{name}: {text}")

    if source != STDIN and (source.is_file() or not source.exists() or source.is_dir()):
        yield Rows(source, run.config.data, say)
        return
    with TemporaryDirectory(dir=predictions(run.name)) as folder:
        copy = Path(folder) / source.name  # a message about a row has the pipe's name
        with open_source(source) as given, writing(copy), copy.open("wb") as kept:
            shutil.copyfileobj(given, kept)
        yield Rows(copy, run.config.data, say)


def write_output(rows: Rows, answers: Iterator[Answer], output: Path) -> tuple[RowFailure, ...]:
    """Write the rows with their answers, which come in order. Returns those that have none."""
    failures = []
    with _output_rows(output, [*_COLUMNS, *rows.others]) as write:
        for row in rows:
            answer = next(answers) if row.error is None else Answer(error=row.error)
            write(row, answer)
            if answer.error is not None:
                failures.append(RowFailure(row.line, answer.error))
    return tuple(failures)


def checked_output(output: Path, source: Path) -> Path:
    """Where to write the summaries: a stream, or the file that a link leads to.

    Raises:
        LorasumError: it cannot be written, is the file of the rows, or has a name of a type that is not written.
    """
    if source.is_file() and output.exists() and output.samefile(source):  # a terminal or socket loses nothing
        raise LorasumError(f"--output is the same file as --input: {output}", "give it another name")
    special = output.exists() and not output.is_file() and not is_stream(output)
    if special or not output.parent.is_dir():
        raise LorasumError(f"cannot write {output}: not a file in an existing folder", "give --output a file name")
    if not is_stream(output) and output.suffix.lower() not in (*_LINES, *_TABLES, ".parquet"):
        raise LorasumError(
            f"cannot write {output}: summaries are written as .jsonl, .csv, .tsv or .parquet",
            "give --output a name that ends so",
        )
    return output if is_stream(output) else output.resolve()


def is_stream(output: Path) -> bool:
    """Whether the output is stdout, a pipe or a character device, which must not be replaced by a file."""
    return output == STDOUT or output.is_fifo() or output.is_char_device()


def part_of(output: Path, run: str, key: str) -> Path:
    """The file of the answers until all rows are answered."""
    return predictions(run) / f"{key}.part" if is_stream(output) else output.with_name(f"{output.name}.{key}.part")


def predictions(run: str) -> Path:
    folder = paths.run_dir(run) / "predictions"
    make_folder(folder)
    return folder


@contextmanager
def _output_rows(output: Path, columns: Sequence[str]) -> Iterator[Write]:
    """The output to write to: a stream, or a file that is replaced once all of it is written."""
    if is_stream(output):  # a file that stdout was sent to would be emptied, were it opened by its name
        descriptor = os.dup(1) if output == STDOUT else os.open(output, os.O_WRONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            yield _lines(stream)
        return
    kind = output.suffix.lower()
    permissions = stat.S_IMODE(output.stat().st_mode) if output.exists() else USER_FILE_MODE
    with new_file(output, "wb" if kind == ".parquet" else "w", permissions) as file:
        if kind == ".parquet":
            with _parquet(file, columns) as write:
                yield write
        elif kind in _TABLES:
            yield _table(file, columns, _TABLES[kind])
        else:
            yield _lines(file)


def _values(row: Asked, answer: Answer) -> dict[str, Any]:
    """What there is of a row, in the order of `_COLUMNS`, and its other columns."""
    own = {} if row.id is None else {"id": row.id}
    reference = {} if row.reference is None else {"reference": row.reference}
    others = {name: value for name, value in row.others.items() if name not in _COLUMNS}
    return {**own, "dialogue": row.dialogue, **answer.as_row(), **reference, **others}


def _lines(file: IO[str]) -> Write:
    return lambda row, answer: file.write(json.dumps(_values(row, answer), ensure_ascii=False) + "\n")


def _table(file: IO[str], columns: Sequence[str], delimiter: str) -> Write:
    table = csv.DictWriter(file, columns, delimiter=delimiter, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    return lambda row, answer: table.writerow(_values(row, answer))


@contextmanager
def _parquet(file: IO[bytes], columns: Sequence[str]) -> Iterator[Write]:
    """A table of texts; a number is written as its digits, because the column may have something else in other rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in columns])
    held: list[dict[str, Any]] = []

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist(held, schema))
        held.clear()

    def write(row: Asked, answer: Answer) -> None:
        held.append({name: str(value) for name, value in _values(row, answer).items()})
        if len(held) == _AT_ONCE:
            flush()

    with pq.ParquetWriter(file, schema) as writer:
        yield write
        flush()
