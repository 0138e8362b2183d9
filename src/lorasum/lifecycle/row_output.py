"""Writes rows with their summaries, one after another: JSON Lines, or CSV, TSV or Parquet where the name says so."""

import csv
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from lorasum.data.asked import Asked
from lorasum.data.files.opening import COMPRESSED
from lorasum.data.files.readers import file_type
from lorasum.errors import LorasumError
from lorasum.files import OWN_CHOICE, STDOUT, new_file
from lorasum.lifecycle.answers import Answer

Write = Callable[[Asked, Answer], object]
"""Writes a row with its answer."""

_COLUMNS: Final = ("id", "dialogue", "summary", "error", "reference")
"""Of a table. JSON Lines have those that a row has."""
_TABLES: Final = {".csv": ",", ".tsv": "\t"}
_LINES: Final = (".jsonl", ".ndjson", ".jsonlines", None)
_ROWS_AT_ONCE: Final = 1024  # of a Parquet file


def check_type(output: Path) -> None:
    """Refuse a name of a type that is not written.

    Raises:
        LorasumError: it is one.
    """
    if output.suffix.lower() in COMPRESSED or file_type(output) not in (*_LINES, *_TABLES, ".parquet"):
        raise LorasumError(
            f"cannot write {output}: summaries are written as .jsonl, .csv, .tsv or .parquet",
            "give --output a name that ends so",
        )


@contextmanager
def output_rows(output: Path) -> Iterator[Write]:
    """The output to write to: a stream, or a file that is replaced once all of it is written."""
    if output == STDOUT:  # opened by its name, a file that stdout is would be emptied
        with os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n") as stream:
            yield _lines(stream)
        return
    if is_stream(output):
        with output.open("w", encoding="utf-8", newline="\n") as stream:
            yield _lines(stream)
        return
    kind = file_type(output)
    permissions = stat.S_IMODE(output.stat().st_mode) if output.exists() else OWN_CHOICE
    with new_file(output, "wb" if kind == ".parquet" else "w", permissions) as file:
        if kind == ".parquet":
            with _parquet(file) as write:
                yield write
        elif kind in _TABLES:
            yield _table(file, _TABLES[kind])
        else:
            yield _lines(file)


def is_stream(output: Path) -> bool:
    """Whether the output is stdout, a pipe or a character device, which must not be replaced by a file."""
    return output == STDOUT or output.is_fifo() or output.is_char_device()


def _values(row: Asked, answer: Answer) -> dict[str, Any]:
    """What there is of a row, in the order of `_COLUMNS`."""
    own = {} if row.id is None else {"id": row.id}
    reference = {} if row.reference is None else {"reference": row.reference}
    return {**own, "dialogue": row.dialogue, **answer.as_row(), **reference}


def _lines(file: IO[str]) -> Write:
    return lambda row, answer: file.write(json.dumps(_values(row, answer), ensure_ascii=False) + "\n")


def _table(file: IO[str], delimiter: str) -> Write:
    table = csv.DictWriter(file, _COLUMNS, delimiter=delimiter, lineterminator="\n")
    table.writeheader()
    return lambda row, answer: table.writerow(_values(row, answer))


@contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Write]:
    """A table of texts; an id that is a number is written as its digits, because other ids may be none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in _COLUMNS])
    held: list[dict[str, Any]] = []

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist(held, schema))
        held.clear()

    def write(row: Asked, answer: Answer) -> None:
        values = _values(row, answer)
        held.append({**values, "id": None if row.id is None else str(row.id)})
        if len(held) == _ROWS_AT_ONCE:
            flush()

    with pq.ParquetWriter(file, schema) as writer:
        yield write
        flush()
