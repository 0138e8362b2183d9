"""Predict: the endpoint's summary of one text or of a random test example."""

import random

from lorasum.context import RunContext
from lorasum.errors import DataError
from lorasum.results import Prediction


def predict_text(run: RunContext, text: str, adapter: str | None = None) -> Prediction:
    """The summary of one dialogue.

    Args:
        adapter: the run whose adapter is asked, where the endpoint serves several; default: the run's own.

    Raises:
        DataError: `text` is empty.
        LorasumError: no endpoint is in service, or it has no adapter of this name.
        BackendError: it did not answer, or not as it should.
    """
    if not text.strip():
        raise DataError("the dialogue is empty", "give it with --text, --file or on stdin")
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
