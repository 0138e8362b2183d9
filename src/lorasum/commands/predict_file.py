"""Predict a file: summarise its rows, with several requests at once. An interrupted file is resumed.

Any number of rows take the memory of one window of them: the file is read three times, to check it, to ask, and to
put the answers in order.
"""

import hashlib
import json
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from lorasum import paths
from lorasum.config.data import DataConfig
from lorasum.context import RunContext
from lorasum.data.asked import Asked, read_asked
from lorasum.data.files.opening import Say
from lorasum.data.files.reading import unsaid
from lorasum.errors import LorasumError
from lorasum.files import OWN_CHOICE, make_folder, new_file, writing
from lorasum.lifecycle.answers import Answer, AnswerLog, ask
from lorasum.lifecycle.serving import Summarizer
from lorasum.results import BatchPrediction, RowFailure

_AGAIN = "free some disk or check the folder's permissions, then run the same command again"
_WINDOW_REQUESTS = 16
"""Requests of a window for each that is under way at once: its rows are sorted by length, and it ends with a wait."""
_WINDOW_ROWS = 1024
_WINDOW_CHARACTERS = 1 << 24


class _Rows:
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


def predict_file(run: RunContext, input: Path, output: Path, concurrency: int = 1) -> BatchPrediction:  # noqa: A002
    """Summarise every row of `input` into the JSONL file `output`: dialogue, summary, and its id and reference.

    Rows keep their order. Until all are answered, the answers are in a .part file beside `output`, from which the same
    command resumes; then it becomes `output`. A row that the endpoint refuses has `error` instead of a summary. If
    `output` is a link, its target is written. If it is a pipe or a terminal, the .part file is in lorasum's home.

    Args:
        concurrency: requests under way at once.

    Raises:
        DataError: a row cannot be used; nothing was sent.
        LorasumError: `output` cannot be written, or as `predict`.
    """
    began = time.monotonic()
    _check_output(input, output)
    with _as_file(input, run.name) as source:
        rows = _Rows(source, run.config.data, lambda name, text: run.reporter.step(f"{name}: {text}"))
        summarizer = run.summarizer()
        output = output if _is_stream(output) else output.resolve()
        part = _part(output, run.name, _key(summarizer, rows.digest))
        with writing(output, _AGAIN), AnswerLog(part, OWN_CHOICE) as answers:
            _answer_all(run, summarizer, rows, answers, part, concurrency)
            failures = _write_output(rows, answers, output)
            part.unlink()
    return BatchPrediction(str(input), str(output), rows.count, time.monotonic() - began, failures)


@contextmanager
def _as_file(source: Path, run: str) -> Iterator[Path]:
    """A file that can be read again: a pipe's content is copied into one."""
    if source.is_file() or not source.exists() or source.is_dir():
        yield source
        return
    folder = _predictions(run)
    with NamedTemporaryFile(dir=folder, suffix="".join(source.suffixes)) as copy:
        with source.open("rb") as given:
            shutil.copyfileobj(given, copy)
        copy.flush()
        yield Path(copy.name)


def _key(summarizer: Summarizer, rows: str) -> str:
    """A hash of the questions and the model. Answers are resumed only under the same key."""
    settings = summarizer.settings
    model = (summarizer.endpoint.artifact, summarizer.origin.template)
    asked = [*model, settings.max_new_tokens, settings.temperature, rows]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]


def _answer_all(
    run: RunContext, summarizer: Summarizer, rows: _Rows, answers: AnswerLog, part: Path, concurrency: int
) -> None:
    """Ask for all answers that are missing, window by window."""
    if answers.count:
        run.reporter.step(f"{answers.count} of {rows.count} rows were answered before")
    try:
        for window in _windows(rows, answers, concurrency * summarizer.settings.batch_size):
            for some in ask(summarizer, window, concurrency):
                answers.add(some)
                run.reporter.progress("summarising", answers.count, rows.count)
    except BaseException:
        if done := answers.count:
            run.reporter.warn(f"{done} of {rows.count} rows are in {part}; the same command goes on from there")
        raise


def _windows(rows: _Rows, answers: AnswerLog, at_once: int) -> Iterator[dict[int, str]]:
    """The dialogues without an answer, by place, in windows of a bounded size."""
    window: dict[int, str] = {}
    most, characters = max(_WINDOW_ROWS, _WINDOW_REQUESTS * at_once), 0
    for place, row in enumerate(rows):
        if place in answers:
            continue
        window[place] = row.dialogue
        characters += len(row.dialogue)
        if len(window) == most or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = {}, 0
    yield window


def _write_output(rows: _Rows, answers: AnswerLog, output: Path) -> tuple[RowFailure, ...]:
    """Write the rows with their answers, in order. Returns those that were refused."""
    failures = []
    in_order = answers.in_order()
    with _opened(output) as written:
        for row in rows:
            answer = next(in_order)
            written.write(_output_line(row, answer))
            if answer.error is not None:
                failures.append(RowFailure(row.line, answer.error))
    return tuple(failures)


@contextmanager
def _opened(output: Path) -> Iterator[IO[str]]:
    """The output to write to: a stream, or a file that is replaced once all of it is written."""
    if _is_stream(output):
        with output.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    with new_file(output, "w", stat.S_IMODE(output.stat().st_mode) if output.exists() else OWN_CHOICE) as file:
        yield file


def _output_line(row: Asked, answer: Answer) -> str:
    own = {} if row.id is None else {"id": row.id}
    reference = {} if row.reference is None else {"reference": row.reference}
    return json.dumps({**own, "dialogue": row.dialogue, **answer.as_row(), **reference}, ensure_ascii=False) + "\n"


def _check_output(source: Path, output: Path) -> None:
    if output.exists() and source.exists() and output.samefile(source):
        raise LorasumError(f"--output is the same file as --input: {output}", "give it another name")
    special = output.exists() and not output.is_file() and not _is_stream(output)
    if special or not output.parent.is_dir():
        raise LorasumError(f"cannot write {output}: not a file in an existing folder", "give --output a file name")


def _is_stream(output: Path) -> bool:
    """Whether the output is a pipe or a character device, such as /dev/stdout, that must not be replaced by a file."""
    return output.is_fifo() or output.is_char_device()


def _part(output: Path, run: str, key: str) -> Path:
    """The file of the answers until all rows are answered."""
    return _predictions(run) / f"{key}.part" if _is_stream(output) else output.with_name(f"{output.name}.{key}.part")


def _predictions(run: str) -> Path:
    folder = paths.run_dir(run) / "predictions"
    make_folder(folder)
    return folder
