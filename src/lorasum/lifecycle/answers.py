"""Asks an endpoint to summarise many dialogues: several requests at once, and each answer is written to disk at once.

No answer is paid for twice: after an interruption the same command continues from the answers on disk.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Self

from lorasum.errors import RefusedError
from lorasum.lifecycle.summarizer import Summarizer
from lorasum.lock import RunBusyError
from lorasum.reporting import Reporter
from lorasum.shared.json_lines import end_last_line
from lorasum.system.batched import batched
from lorasum.system.files import FILE_MODE, open_file, read_rows
from lorasum.system.retry import until_answered
from lorasum.system.threads import as_they_end

_BETWEEN_TRIES = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered to a dialogue.

    Attributes:
        summary: empty if the dialogue was refused.
        error: why it was refused; None if it was not.
    """

    summary: str = ""
    error: str | None = None

    def as_row(self) -> dict[str, str]:
        """Its keys in a JSON Lines file."""
        return {"summary": self.summary} if self.error is None else {"error": self.error}


class AnswerLog:
    """The answers to any number of dialogues, in a JSON Lines file, in the order in which they arrived.

    It holds in memory only which places are answered beyond the first that is not: as many as are asked for at once.

    Attributes:
        count: the answers so far.

    Args:
        permissions: of a file that is made.
        refused_count: whether a refusal that the file holds is an answer. If it is none, the dialogue is asked again.

    Raises:
        RunBusyError: another process has it open.
        OSError: it cannot be opened.
    """

    def __init__(self, file: Path, permissions: int = FILE_MODE, refused_count: bool = True) -> None:
        self.count = 0
        self._path = file
        self._upto = 0  # all places below are answered
        self._ahead: set[int] = set()
        self._file: IO[bytes] = open_file(file, "ab", permissions=permissions)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise RunBusyError(
                f"another process is writing {file}", "wait for it, then run the same command again"
            ) from None
        end_last_line(file)
        for place, answer in _lines(file):
            if refused_count or answer.error is None:
                self._know(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.count:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def __contains__(self, place: int) -> bool:
        return place < self._upto or place in self._ahead

    def add(self, some: Mapping[int, Answer]) -> None:
        """Keep answers, by the dialogue's place.

        Raises:
            OSError: the file cannot be written.
        """
        self._file.write(_text(some))
        self._file.flush()
        for place in some:
            self._know(place)

    def in_order(self) -> Iterator[Answer]:
        """The answers from the first place on. It holds those that arrived before their turn."""
        early: dict[int, Answer] = {}
        turn = 0
        for place, answer in _lines(self._path):
            if place >= turn:
                early[place] = answer
            while turn in early:
                yield early.pop(turn)
                turn += 1

    def _know(self, place: int) -> None:
        if place in self:
            return
        self.count += 1
        self._ahead.add(place)
        while self._upto in self._ahead:
            self._ahead.remove(self._upto)
            self._upto += 1


def ask(
    summarizer: Summarizer, dialogues: Mapping[int, str], concurrency: int, report: Reporter
) -> Iterator[dict[int, Answer]]:
    """Yield the answers by place, those of one request at a time, as they arrive.

    Dialogues of about the same length share a request, because the shorter ones are padded to the longest. Where the
    service does not answer for a while, what is missing is asked again (retry.py).

    Args:
        concurrency: requests under way at once.

    Raises:
        BackendError: a request failed. Those under way were waited for, and their answers are yielded before.
    """
    missing = dict(dialogues)
    arriving: Iterator[dict[int, Answer]] = iter(())

    def some() -> dict[int, Answer] | None:
        nonlocal arriving
        if (answers := next(arriving, None)) is None and missing:
            by_length = sorted(missing, key=lambda place: len(missing[place]))
            requests = list(batched(by_length, summarizer.settings.batch_size))
            arriving = as_they_end(partial(_answers, summarizer, dialogues), requests, concurrency)
            answers = next(arriving)
        return answers

    while answers := until_answered(some, _BETWEEN_TRIES, report):
        for place in answers:
            del missing[place]
        yield answers


def _answers(summarizer: Summarizer, dialogues: Mapping[int, str], places: Sequence[int]) -> dict[int, Answer]:
    """The answers to one request. If it is refused, each dialogue is asked by itself."""
    try:
        summaries = summarizer.summarize([dialogues[place] for place in places])
    except RefusedError as error:
        if len(places) == 1:
            return {places[0]: Answer(error=error.message)}
        return {place: answer for one in places for place, answer in _answers(summarizer, dialogues, [one]).items()}
    return {place: Answer(summary) for place, summary in zip(places, summaries, strict=True)}


def fill(
    file: Path, summarizer: Summarizer, dialogues: Sequence[str], concurrency: int, report: Reporter, label: str
) -> list[Answer]:
    """The answer to each dialogue, in order. Those that `file` does not hold are asked for, and kept there.

    Args:
        concurrency: requests under way at once.
        label: of the progress bar.

    Raises:
        RunBusyError: another process writes the file.
        BackendError: a request failed. Those under way were waited for, and their answers are kept.
        OSError: the file cannot be written.
    """
    count = len(dialogues)
    with AnswerLog(file, refused_count=False) as answers:
        missing = {place: text for place, text in enumerate(dialogues) if place not in answers}

        def tell() -> None:
            report.progress(label, min(answers.count, count), count, "summarising the test dialogues")

        tell()
        for some in ask(summarizer, missing, concurrency, report):
            answers.add(some)
            tell()
        known = answers_of(file)
    return [known[place] for place in range(count)]


def answers_of(file: Path) -> dict[int, Answer]:
    """The answers of a file, by place: the last one where it has several."""
    return dict(_lines(file))


def _text(some: Mapping[int, Answer]) -> bytes:
    return "".join(json.dumps({"row": place, **answer.as_row()}) + "\n" for place, answer in some.items()).encode()


def _lines(file: Path) -> Iterator[tuple[int, Answer]]:
    """The answers of a file with their places. Damaged lines are ignored."""
    if not file.exists():
        return
    with file.open("rb") as kept:
        for line in kept:
            for row in read_rows(line):
                place, summary, error = row.get("row"), row.get("summary"), row.get("error")
                if isinstance(place, int) and isinstance(summary, str):
                    yield place, Answer(summary)
                elif isinstance(place, int) and isinstance(error, str):
                    yield place, Answer(error=error)
