"""Parquet and Arrow files, read in batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorasum.data.files.class_labels import features_in, with_names
from lorasum.data.files.opening import check_is_data
from lorasum.data.files.reading import TICK_ROWS, Reading, needed_columns
from lorasum.data.tally import Rejected, Row
from lorasum.errors import DataError
from lorasum.system.files import first_line


def read_parquet(reading: Reading) -> Iterator[tuple[str, Row]]:
    """The rows of a Parquet file. Only the needed columns are read."""
    import pyarrow.parquet

    check_is_data(reading.path, b"PAR1")
    with _arrow_errors(reading.path, "Parquet"):
        file = pyarrow.parquet.ParquetFile(reading.path)
        needed = _needed(reading, file.schema_arrow)
        batches = file.iter_batches(TICK_ROWS, columns=needed)
        yield from _batch_rows(reading, batches, file.metadata.num_rows, features_in(file.schema_arrow.metadata))


def read_arrow(reading: Reading) -> Iterator[tuple[str, Row]]:
    """The rows of an Arrow file, in the IPC file format or the stream format, which `datasets` writes."""
    import pyarrow as pa

    check_is_data(reading.path, b"ARROW1")
    with _arrow_errors(reading.path, "Arrow"), pa.memory_map(str(reading.path)) as mapped:
        try:
            file = pa.ipc.open_file(mapped)
            batches: Iterator[Any] = (file.get_batch(index) for index in range(file.num_record_batches))
            schema = file.schema
        except pa.ArrowInvalid:
            mapped.seek(0)
            stream = pa.ipc.open_stream(mapped)
            batches, schema = iter(stream), stream.schema
        needed = _needed(reading, schema)
        parts = (part for batch in batches for part in _slices(batch.select(needed)))
        yield from _batch_rows(reading, parts, 0, features_in(schema.metadata))


def _needed(reading: Reading, schema: Any) -> list[str]:
    """The columns to read. Of the others, lists and bytes are left out, because embeddings and images take memory."""
    from pyarrow import types

    large = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    others = [one.name for one in schema if reading.others and not any(is_it(one.type) for is_it in large)]
    names = schema.names
    return needed_columns(reading.name, names, reading.columns, [one for one in others if names.count(one) == 1])


def _slices(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, TICK_ROWS):
        yield batch.slice(start, TICK_ROWS)


def _batch_rows(reading: Reading, batches: Any, rows: int, features: Any) -> Iterator[tuple[str, Row]]:
    number = 0
    for batch in batches:
        for row in _python_rows(batch):
            number += 1
            yield f"{reading.name} row {number}", with_names(row, features, reading.speakers)
        if rows and number >= TICK_ROWS:
            reading.tick(number / rows)


@contextmanager
def _arrow_errors(path: Path, what: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: {first_line(error)}", f"check that it is a whole {what} file") from error


def _python_rows(batch: Any) -> Iterator[Row]:
    """The rows of an Arrow batch. Texts and offsets are checked here, because the libraries do not check them."""
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
                yield Rejected("not UTF-8") if utf8 else Rejected("damaged", first_line(error))
