"""Files of rows to be summarised, and files of their summaries: read and written as streams."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lorasum import paths
from lorasum.batched import batched
from lorasum.config.data import DataConfig
from lorasum.config.schema import PredictConfig
from lorasum.data.asked import Asked, read_asked
from lorasum.data.duplicates import Seen, key
from lorasum.data.files.opening import Say
from lorasum.data.files.reading import unsaid
from lorasum.errors import LorasumError
from lorasum.files import make_folder
from lorasum.lifecycle.answers import Answer
from lorasum.lifecycle.row_output import check_type, is_stream, output_rows
from lorasum.results import RowFailure

AGAIN: Final = "free some disk or check the folder's permissions, then run the same command again"
_AT_ONCE = 1024  # rows


class Rows:
    """The rows of a file, which is read several times and must not change meanwhile.

    Attributes:
        count: of the rows.
        digest: a hash of them.

    Args:
        say: called with remarks on the file.

    Raises:
        DataError: a row cannot be used.
    """

    def __init__(self, path: Path, data: DataConfig, say: Say) -> None:
        self._path, self._data = path, data
        self.count, self.digest = 0, ""
        seen, repeated, line = Seen(), 0, 0
        for some in batched(self._read(say), _AT_ONCE):
            self.count += len(some)
            named = [row for row in some if row.id is not None]
            known = seen.add([key(repr(row.id)) for row in named])
            again = [row.line for row, known_before in zip(named, known, strict=True) if known_before]
            repeated, line = repeated + len(again), line or next(iter(again), 0)
        if repeated:
            say(path.name, f"{repeated} rows have an id that a row before them has, the first in line {line}")

    def __iter__(self) -> Iterator[Asked]:
        return self._read(unsaid)

    def _read(self, say: Say) -> Iterator[Asked]:
        """Raises LorasumError at the end if these are not the rows that were read first."""
        digest = hashlib.sha256()
        for row in read_asked(self._path, self._data, say):
            digest.update(json.dumps(row).encode() + b"\n")
            yield row
        self.digest = self.digest or digest.hexdigest()
        if digest.hexdigest() != self.digest:
            raise LorasumError(f"{self._path} was changed while it was summarised", "run the same command again")


def key_of(artifact: str, template: str, asked: PredictConfig, rows: Rows) -> str:
    """A hash of the rows, the model and how it is asked. Answers are resumed only under the same key."""
    decides = [artifact, template, asked.max_new_tokens, asked.temperature, rows.digest]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:8]


@contextmanager
def as_file(source: Path, run: str) -> Iterator[Path]:
    """A file that can be read again: a pipe's content is copied into one of the same name."""
    if source.is_file() or not source.exists() or source.is_dir():
        yield source
        return
    with TemporaryDirectory(dir=predictions(run)) as folder:
        copy = Path(folder) / source.name
        with source.open("rb") as given, copy.open("wb") as kept:
            shutil.copyfileobj(given, kept)
        yield copy


def write_output(rows: Rows, answers: Iterator[Answer], output: Path) -> tuple[RowFailure, ...]:
    """Write the rows with their answers, which come in order. Returns those that were refused."""
    failures = []
    with output_rows(output) as write:
        for row in rows:
            answer = next(answers)
            write(row, answer)
            if answer.error is not None:
                failures.append(RowFailure(row.line, answer.error))
    return tuple(failures)


def check_output(source: Path, output: Path) -> None:
    if output.exists() and source.exists() and output.samefile(source):
        raise LorasumError(f"--output is the same file as --input: {output}", "give it another name")
    special = output.exists() and not output.is_file() and not is_stream(output)
    if special or not output.parent.is_dir():
        raise LorasumError(f"cannot write {output}: not a file in an existing folder", "give --output a file name")
    check_type(output)


def part_of(output: Path, run: str, key: str) -> Path:
    """The file of the answers until all rows are answered."""
    return predictions(run) / f"{key}.part" if is_stream(output) else output.with_name(f"{output.name}.{key}.part")


def predictions(run: str) -> Path:
    folder = paths.run_dir(run) / "predictions"
    make_folder(folder)
    return folder
