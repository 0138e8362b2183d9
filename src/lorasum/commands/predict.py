"""Predict: the endpoint's summary of one dialogue, given or a random one of the test split; or of several in memory."""

import random
from collections.abc import Iterator, Sequence

from lorasum.context import RunContext
from lorasum.errors import DataError, LorasumError
from lorasum.lifecycle.answers import Answer, ask
from lorasum.lifecycle.summarizer import Summarizer, in_service
from lorasum.results.serving import Piece, Prediction


def predict(run: RunContext, dialogue: str | None = None, adapter: str | None = None) -> Prediction:
    """The summary of one dialogue.

    Args:
        dialogue: None draws one of the test split that the model was trained beside; its reference is told too.
        adapter: the run whose adapter is asked, where the endpoint serves several; default: the run's own.

    Raises:
        DataError: the dialogue is empty, or the test split is gone.
        LorasumError: no endpoint is in service, or it has no adapter of this name.
        BackendError: it did not answer, or not as it should.
    """
    summarizer, asked, reference = _asked(run, dialogue, adapter)
    [summary] = summarizer.summarize([asked])
    return Prediction(run.name, asked, summary, reference)


def predict_all(run: RunContext, dialogues: Sequence[str], concurrency: int = 1) -> list[Answer]:
    """The answer to each dialogue, in order. The endpoint is looked for once, and nothing is kept on disk.

    Args:
        concurrency: requests under way at once.

    Raises:
        LorasumError: as `predict`. Nothing is sent if a dialogue is empty or no text, or `concurrency` is below 1.
    """
    if concurrency < 1:
        raise LorasumError(f"concurrency={concurrency} asks for no request at all", "give 1 or more")
    count, answers = len(dialogues), dict[int, Answer]()
    for place, dialogue in enumerate(dialogues, start=1):
        if not isinstance(dialogue, str) or not dialogue.strip():  # such as pandas' NaN
            raise DataError(f"dialogue {place} of {count} is empty or no text", "leave it out")
    for some in ask(in_service(run), dict(enumerate(dialogues)), concurrency, run.reporter):
        answers |= some
        run.reporter.progress("summarising", len(answers), count)
    return [answers[place] for place in range(count)]


def stream(run: RunContext, dialogue: str | None = None, adapter: str | None = None) -> Iterator[Piece | Prediction]:
    """As `predict`, in pieces as they are generated; the last item is all of it. Leaving it ends generating."""
    return _streamed(run.name, *_asked(run, dialogue, adapter))


def _asked(run: RunContext, dialogue: str | None, adapter: str | None) -> tuple[Summarizer, str, str | None]:
    """Whom to ask for the summary of what, and its reference if there is one."""
    if dialogue is not None and not dialogue.strip():
        raise DataError("the dialogue is empty", "give it with --text, --file or on stdin")
    summarizer = in_service(run, adapter)
    if dialogue is not None:
        return summarizer, dialogue, None
    example = random.choice(summarizer.held_out())  # noqa: S311  nothing secret is drawn
    return summarizer, example.dialogue, example.summary


def _streamed(run: str, summarizer: Summarizer, dialogue: str, reference: str | None) -> Iterator[Piece | Prediction]:
    said = []
    for piece in summarizer.stream(dialogue):
        said.append(piece)
        yield Piece(piece)
    yield Prediction(run, dialogue, "".join(said), reference)
