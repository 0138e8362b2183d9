"""Reads files of rows as streams. An unreadable row is reported, and an unreadable file is an error.

The suffix tells the type: .jsonl, .json, .csv, .tsv, .parquet or .arrow; of the text ones, .gz, .zst, .bz2 and .xz too.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from lorasum.data.files.arrow import read_arrow, read_parquet
from lorasum.data.files.delimited import read_csv
from lorasum.data.files.json_rows import read_json
from lorasum.data.files.opening import COMPRESSED
from lorasum.data.files.reading import Reading
from lorasum.data.tally import Row

_TEXT = {
    ".jsonl": read_json,
    ".json": read_json,
    ".ndjson": read_json,
    ".jsonlines": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
}
_READERS: dict[str, Callable[[Reading], Iterator[tuple[str, Row]]]] = {
    **_TEXT,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
_SHOWN = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")


def file_type(path: Path) -> str | None:
    """The suffix that tells how to read a file, such as `.jsonl` for chats.jsonl.gz; None if its type is not known."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in _TEXT else None
    return suffixes[-1] if suffixes and suffixes[-1] in _READERS else None


def known_types() -> str:
    """For messages."""
    text = [suffix for suffix in _SHOWN if suffix in _TEXT]
    return f"{', '.join(_SHOWN)}, and {', '.join(text)} with {' or '.join(COMPRESSED)}"


def read_rows(reading: Reading) -> Iterator[tuple[str, Row]]:
    """Yield every row in order with its place, such as `train.jsonl:17` (1-based).

    Raises:
        DataError: the file cannot be read any further.
    """
    return _READERS[str(file_type(reading.path))](reading)
