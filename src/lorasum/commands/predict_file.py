"""Predict a file: summarise its rows, with several requests at once. An interrupted file is resumed."""

import codecs
import hashlib
import json
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lorasum import paths
from lorasum.config.data import Columns, Messages
from lorasum.context import RunContext
from lorasum.data.chats.exports import dialogue_in
from lorasum.data.chats.messages import MessageError
from lorasum.data.files.readers import file_type, known_types, read_rows
from lorasum.data.files.reading import Reading
from lorasum.data.rows import fields_of, value_at
from lorasum.data.validate import Rejected
from lorasum.errors import DataError, LorasumError
from lorasum.files import OWN_CHOICE, make_folder, write_file, writing
from lorasum.lifecycle.answers import Answer, Answers
from lorasum.lifecycle.serving import Summarizer
from lorasum.results import BatchPrediction, RowFailure

_AGAIN = "free some disk or check the folder's permissions, then run the same command again"


class _Asked(NamedTuple):
    """A row of an input file."""

    line: int
    dialogue: str
    reference: str | None


def predict_file(run: RunContext, input: Path, output: Path, concurrency: int = 1) -> BatchPrediction:  # noqa: A002
    """Summarise every row of `input` into the JSONL file `output`: dialogue, summary and, where known, reference.

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
    rows = _read_rows(input, run)
    _check_output(input, output)
    summarizer = run.summarizer()
    output = output if _is_stream(output) else output.resolve()
    part = _part(output, run.name, _batch_key(summarizer, rows))
    with writing(output, _AGAIN):
        answers = Answers(part, OWN_CHOICE)
        if answers.known:
            run.reporter.step(f"{len(answers.known)} of {len(rows)} rows were answered before")
        try:
            tell = lambda done: run.reporter.progress("summarising", done, len(rows))  # noqa: E731
            answered = answers.fill(summarizer, [row.dialogue for row in rows], concurrency, tell)
        except BaseException:
            done = len(answers.known)
            run.reporter.warn(f"{done} of {len(rows)} rows are in {part}; the same command goes on from there")
            raise
        lines = [_output_line(row, answer) for row, answer in zip(rows, answered, strict=True)]
        _write_output(output, "".join(lines))
        part.unlink()
    answers_by_row = zip(rows, answered, strict=True)
    failures = tuple(RowFailure(row.line, answer["error"]) for row, answer in answers_by_row if "error" in answer)
    return BatchPrediction(str(input), str(output), len(rows), time.monotonic() - began, failures)


def _read_rows(path: Path, run: RunContext) -> list[_Asked]:
    """The rows of a file, in each type and form that `prepare` takes; JSONL where the suffix tells no type."""
    data = run.config.data
    rows = [_asked(row, number, f"{path}:{number}", data.columns, data.messages) for number, row in _rows(path, run)]
    if not rows:
        raise DataError(f"{path} has no rows", _hint(data.columns))
    return rows


def _rows(path: Path, run: RunContext) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row that is not blank, with its number (in JSONL the number of its line)."""
    if file_type(path) in (None, ".jsonl"):
        yield from _json_lines(path, _hint(run.config.data.columns))
        return

    def say(name: str, text: str) -> None:
        run.reporter.step(f"{name}: {text}")

    reading = Reading(path, run.config.data.columns, "test", lambda share: None, say)
    for number, (where, row) in enumerate(read_rows(reading), 1):
        if isinstance(row, Rejected):
            raise DataError(f"{where}: {row}", "repair the row, or leave it out")
        yield number, row


def _json_lines(path: Path, hint: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", f"give --input a file: {known_types()}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:  # json's and utf-8's; nested without end
            raise DataError(f"{path}:{number}: not JSON in UTF-8 ({error})", hint) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not an object", hint)
        yield number, row


def _hint(columns: Columns) -> str:
    return f'a row is an object such as {{"{columns.dialogue}": "Ana: hi"}}, in UTF-8'


def _asked(row: Mapping[str, Any], number: int, place: str, columns: Columns, how: Messages) -> _Asked:
    """A row's dialogue and reference."""
    given = columns if value_at(row, columns.dialogue) is not None else Columns()
    try:
        fields = fields_of(row, given)
        dialogue = dialogue_in(fields.dialogue, how)
    except MessageError as error:
        raise DataError(f"{place}: {columns.dialogue!r} is no dialogue: {error}", _hint(columns)) from error
    reference = fields.summary
    if not isinstance(dialogue, str) or not dialogue.strip():
        raise DataError(f"{place}: no text in {columns.dialogue!r}", _hint(columns))
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"{place}: {columns.summaries[0]!r} is not text", "leave it out where there is no reference")
    try:
        (dialogue + (reference or "")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: half a character ({error.reason})", "repair the row's \\u escapes") from error
    return _Asked(number, dialogue, reference)


def _check_output(source: Path, output: Path) -> None:
    if output.exists() and output.samefile(source):
        raise LorasumError(f"--output is the same file as --input: {output}", "give it another name")
    special = output.exists() and not output.is_file() and not _is_stream(output)
    if special or not output.parent.is_dir():
        raise LorasumError(f"cannot write {output}: not a file in an existing folder", "give --output a file name")


def _is_stream(output: Path) -> bool:
    """Whether the output is a pipe or a character device, such as /dev/stdout, that must not be replaced by a file."""
    return output.is_fifo() or output.is_char_device()


def _part(output: Path, run: str, key: str) -> Path:
    """The file of the answers until all rows are answered."""
    if not _is_stream(output):
        return output.with_name(f"{output.name}.{key}.part")
    folder = paths.run_dir(run) / "predictions"
    make_folder(folder)
    return folder / f"{key}.part"


def _write_output(output: Path, text: str) -> None:
    if _is_stream(output):
        with output.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    else:
        write_file(output, text, stat.S_IMODE(output.stat().st_mode) if output.exists() else OWN_CHOICE)


def _batch_key(summarizer: Summarizer, rows: Sequence[_Asked]) -> str:
    """A hash of the questions and the model. Answers are resumed only under the same key."""
    settings = summarizer.settings
    model = (summarizer.endpoint.artifact, summarizer.origin.template)
    asked = [*model, settings.max_new_tokens, settings.temperature, rows]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]


def _output_line(row: _Asked, answer: Answer) -> str:
    reference = {} if row.reference is None else {"reference": row.reference}
    return json.dumps({"dialogue": row.dialogue, **answer, **reference}, ensure_ascii=False) + "\n"
