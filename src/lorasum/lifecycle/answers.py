"""Asks an endpoint to summarise many dialogues: several requests at once, and each answer is written to disk at once.

No answer is paid for twice: after an interruption the same command goes on from the answers on disk.
"""

import json
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from lorasum.errors import RefusedError
from lorasum.files import FILE_MODE, open_file, read_rows
from lorasum.lifecycle.serving import Summarizer, batches

Answer = dict[str, str]
"""{"summary": …}, or {"error": …} of a dialogue that was refused."""


class Answers:
    """The answers to a list of dialogues, in a JSON Lines file that may hold some of them already.

    Attributes:
        known: the answers so far, by the dialogue's place in the list.

    Args:
        permissions: of a file that is made.
    """

    def __init__(self, file: Path, permissions: int = FILE_MODE) -> None:
        self.known = _read(file)
        self._file = file
        self._permissions = permissions

    def add(self, some: Mapping[int, Answer]) -> None:
        """Keep answers, by the dialogue's place.

        Raises:
            OSError: the file cannot be written.
        """
        self.known |= some
        with open_file(self._file, "a", permissions=self._permissions) as kept:
            kept.writelines(json.dumps({"row": place, **answer}) + "\n" for place, answer in some.items())

    def fill(
        self, summarizer: Summarizer, dialogues: Sequence[str], concurrency: int, told: Callable[[int], None]
    ) -> list[Answer]:
        """Ask for the answers that are missing; the answer to each dialogue, in order.

        Args:
            concurrency: requests under way at once.
            told: called with the number of answers so far, after each request.

        Raises:
            BackendError: a request failed. Those under way were waited for, and their answers are kept.
            OSError: the file cannot be written.
        """
        for some in _ask(summarizer, dialogues, self.known, concurrency):
            self.add(some)
            told(len(self.known))
        return [self.known[place] for place in range(len(dialogues))]


def _ask(
    summarizer: Summarizer, dialogues: Sequence[str], answered: Container[int], concurrency: int
) -> Iterator[dict[int, Answer]]:
    """Yield the answers that are missing, those of one request at a time, as they arrive."""
    missing = [place for place in range(len(dialogues)) if place not in answered]

    def ask(places: Sequence[int]) -> dict[int, Answer]:
        try:
            summaries = summarizer.summarize([dialogues[place] for place in places])
        except RefusedError as error:
            if len(places) == 1:
                return {places[0]: {"error": error.message}}
            return {place: answer for one in places for place, answer in ask([one]).items()}
        return {place: {"summary": summary} for place, summary in zip(places, summaries, strict=True)}

    with ThreadPoolExecutor(concurrency) as pool:
        waiting = {pool.submit(ask, places) for places in batches(missing, summarizer.settings.batch_size)}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                good = [future for future in done if future.exception() is None]
                waiting |= done - set(good)  # the first error is raised below, once the others' answers are safe
                for future in good:
                    yield future.result()
                    waiting.discard(future)
                if len(good) < len(done):
                    break
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        under_way = [future for future in waiting if not future.cancelled()]
        wait(under_way)
        failed = [future for future in under_way if future.exception()]
        for future in under_way:
            if future not in failed:
                yield future.result()
        if failed:
            failed[0].result()


def _read(file: Path) -> dict[int, Answer]:
    """The answers by place. An incomplete last line, of an interrupted write, is removed."""
    if not file.exists():
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(file, len(whole))
    known: dict[int, Answer] = {}
    for row in read_rows(whole):
        place, summary = row.get("row"), row.get("summary")
        if isinstance(place, int) and isinstance(summary, str):  # what was refused is asked again
            known[place] = {"summary": summary}
    return known
