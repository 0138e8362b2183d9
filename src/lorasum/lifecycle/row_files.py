"""Files of rows to be summarised, and files of their summaries: read and written as streams."""

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Final

from lorasum import paths
from lorasum.config.data import DataConfig
from lorasum.config.schema import PredictConfig
from lorasum.data.asked import Asked, read_asked
from lorasum.data.files.opening import Say
from lorasum.data.files.reading import unsaid
from lorasum.errors import LorasumError
from lorasum.files import OWN_CHOICE, make_folder, new_file
from lorasum.lifecycle.answers import Answer
from lorasum.results import RowFailure

AGAIN: Final = "free some disk or check the folder's permissions, then run the same command again"


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
        for _ in self._read(say):
            self.count += 1

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
    """A file that can be read again: a pipe's content is copied into one."""
    if source.is_file() or not source.exists() or source.is_dir():
        yield source
        return
    folder = predictions(run)
    with NamedTemporaryFile(dir=folder, suffix="".join(source.suffixes)) as copy:
        with source.open("rb") as given:
            shutil.copyfileobj(given, copy)
        copy.flush()
        yield Path(copy.name)


def write_output(rows: Rows, answers: Iterator[Answer], output: Path) -> tuple[RowFailure, ...]:
    """Write the rows with their answers, which come in order. Returns those that were refused."""
    failures = []
    with _opened(output) as written:
        for row in rows:
            answer = next(answers)
            written.write(_line(row, answer))
            if answer.error is not None:
                failures.append(RowFailure(row.line, answer.error))
    return tuple(failures)


@contextmanager
def _opened(output: Path) -> Iterator[IO[str]]:
    """The output to write to: a stream, or a file that is replaced once all of it is written."""
    if is_stream(output):
        with output.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    with new_file(output, "w", stat.S_IMODE(output.stat().st_mode) if output.exists() else OWN_CHOICE) as file:
        yield file


def _line(row: Asked, answer: Answer) -> str:
    own = {} if row.id is None else {"id": row.id}
    reference = {} if row.reference is None else {"reference": row.reference}
    return json.dumps({**own, "dialogue": row.dialogue, **answer.as_row(), **reference}, ensure_ascii=False) + "\n"


def check_output(source: Path, output: Path) -> None:
    if output.exists() and source.exists() and output.samefile(source):
        raise LorasumError(f"--output is the same file as --input: {output}", "give it another name")
    special = output.exists() and not output.is_file() and not is_stream(output)
    if special or not output.parent.is_dir():
        raise LorasumError(f"cannot write {output}: not a file in an existing folder", "give --output a file name")


def is_stream(output: Path) -> bool:
    """Whether the output is a pipe or a character device, such as /dev/stdout, that must not be replaced by a file."""
    return output.is_fifo() or output.is_char_device()


def part_of(output: Path, run: str, key: str) -> Path:
    """The file of the answers until all rows are answered."""
    return predictions(run) / f"{key}.part" if is_stream(output) else output.with_name(f"{output.name}.{key}.part")


def predictions(run: str) -> Path:
    folder = paths.run_dir(run) / "predictions"
    make_folder(folder)
    return folder
