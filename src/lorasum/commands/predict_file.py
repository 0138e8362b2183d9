"""Predict a file: summarise its rows, with several requests at once. An interrupted file is resumed.

Any number of rows take the memory of one window of them: the file is read three times, to check it, to ask, and to
put the answers in order.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from lorasum.context import RunContext
from lorasum.lifecycle.answers import AnswerLog, ask
from lorasum.lifecycle.row_files import AGAIN, Rows, checked_output, key_of, open_rows, part_of, write_output
from lorasum.lifecycle.summarizer import Summarizer, in_service
from lorasum.results.serving import BatchPrediction
from lorasum.system.files import USER_FILE_MODE, writing

_WINDOW_REQUESTS = 16
"""Requests of a window for each that is under way at once: its rows are sorted by length, and it ends with a wait."""
_WINDOW_ROWS = 1024
_WINDOW_CHARACTERS = 1 << 24


def predict_file(
    run: RunContext,
    input: Path,  # noqa: A002
    output: Path,
    concurrency: int = 1,
    adapter: str | None = None,
) -> BatchPrediction:
    """Summarise every row of `input` into `output`: dialogue, summary, and its id and reference.

    Rows keep their order. Until all are answered, the answers are in a .part file beside `output`, from which the same
    command resumes; then it becomes `output`. A row without a dialogue, or that the endpoint refuses, has `error`
    instead of a summary. If `output` is a link, its target is written. If it is a pipe or a terminal, the .part file is
    in lorasum's home.

    Args:
        concurrency: requests under way at once.
        adapter: the run whose adapter is asked, where the endpoint serves several; default: the run's own.

    Raises:
        DataError: a row cannot be used; nothing was sent.
        LorasumError: `output` cannot be written, or as `predict`.
    """
    began = time.monotonic()
    output = checked_output(output, input)
    with open_rows(run, input) as rows:
        summarizer = in_service(run, adapter)
        key = key_of(summarizer.artifact, summarizer.origin.template, summarizer.settings, rows)
        part = part_of(output, run.name, key)
        with writing(output, AGAIN), AnswerLog(part, USER_FILE_MODE) as answers:
            _answer_all(run, summarizer, rows, answers, part, concurrency)
            failures = write_output(rows, answers.in_order(), output)
            part.unlink()
    seconds = time.monotonic() - began
    return BatchPrediction(
        run.name, str(input.absolute()), str(output.absolute()), rows.count + rows.empty, seconds, failures
    )


def _answer_all(
    run: RunContext, summarizer: Summarizer, rows: Rows, answers: AnswerLog, part: Path, concurrency: int
) -> None:
    """Ask for all answers that are missing, window by window."""
    if answers.count:
        run.reporter.step(f"{answers.count} of {rows.count} rows were answered before")
    try:
        for window in _windows(rows, answers, concurrency * summarizer.settings.batch_size):
            for some in ask(summarizer, window, concurrency, run.reporter):
                answers.add(some)
                run.reporter.progress("summarising", answers.count, rows.count)
    except BaseException:
        if done := answers.count:
            run.reporter.warn(f"{done} of {rows.count} rows are in {part}; the same command continues from there")
        raise


def _windows(rows: Rows, answers: AnswerLog, at_once: int) -> Iterator[dict[int, str]]:
    """The dialogues without an answer, by place, in windows of a bounded size."""
    window: dict[int, str] = {}
    most, characters = max(_WINDOW_ROWS, _WINDOW_REQUESTS * at_once), 0
    for place, row in enumerate(rows.asked()):
        if place in answers:
            continue
        window[place] = row.dialogue
        characters += len(row.dialogue)
        if len(window) == most or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = {}, 0
    yield window
