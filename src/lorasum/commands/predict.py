"""Predict: the endpoint's summary of one dialogue, which is given or a random one of the test split."""

import random
from collections.abc import Iterator

from lorasum.context import RunContext
from lorasum.errors import DataError
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
