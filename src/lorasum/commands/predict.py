"""Predict: the endpoint's summary of one text or of a random test example."""

import random
from collections.abc import Iterator

from lorasum.context import RunContext
from lorasum.errors import DataError
from lorasum.lifecycle.serving import Summarizer
from lorasum.results import Piece, Prediction


def predict_text(run: RunContext, text: str, adapter: str | None = None) -> Prediction:
    """The summary of one dialogue.

    Args:
        adapter: the run whose adapter is asked, where the endpoint serves several; default: the run's own.

    Raises:
        DataError: `text` is empty.
        LorasumError: no endpoint is in service, or it has no adapter of this name.
        BackendError: it did not answer, or not as it should.
    """
    _check(text)
    [summary] = run.summarizer(adapter).summarize([text])
    return Prediction(dialogue=text, summary=summary)


def predict_sample(run: RunContext, adapter: str | None = None) -> Prediction:
    """The summary of a random test example, of the dataset that the adapter was trained on, and its reference.

    Raises:
        DataError: the dataset is gone.
        LorasumError, BackendError: as `predict_text`.
    """
    summarizer = run.summarizer(adapter)
    example = random.choice(summarizer.held_out())  # noqa: S311  nothing secret is drawn
    [summary] = summarizer.summarize([example.dialogue])
    return Prediction(example.dialogue, summary, example.summary)


def stream_text(run: RunContext, text: str, adapter: str | None = None) -> Iterator[Piece | Prediction]:
    """As `predict_text`, in pieces as they are generated; the last item is all of it. Leaving it ends generating."""
    _check(text)
    return _streamed(run.summarizer(adapter), text, None)


def stream_sample(run: RunContext, adapter: str | None = None) -> Iterator[Piece | Prediction]:
    """As `predict_sample`, in pieces as they are generated; the last item is all of it."""
    summarizer = run.summarizer(adapter)
    example = random.choice(summarizer.held_out())  # noqa: S311  nothing secret is drawn
    return _streamed(summarizer, example.dialogue, example.summary)


def _streamed(summarizer: Summarizer, dialogue: str, reference: str | None) -> Iterator[Piece | Prediction]:
    said = []
    for piece in summarizer.stream(dialogue):
        said.append(piece)
        yield Piece(piece)
    yield Prediction(dialogue, "".join(said), reference)


def _check(text: str) -> None:
    if not text.strip():
        raise DataError("the dialogue is empty", "give it with --text, --file or on stdin")
