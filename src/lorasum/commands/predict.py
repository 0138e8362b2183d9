"""Predict: summaries from the run's endpoint, of one text, of a random test example."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import EndpointRef
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.data.records import Example
from lorasum.data.store import read_test_examples
from lorasum.errors import BackendError, DataError, LorasumError
from lorasum.prompt import render
from lorasum.results import Prediction

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Served:
    """A run's endpoint, in service, and the origin of the artifact behind it.

    Attributes:
        template: the prompt template the artifact was trained with, whatever the config says now.
        dataset: the prepared dataset it was trained on.
        fingerprint: that dataset's.
        model: location of its base model, as transformers takes it.
        model_revision: of a hub model; may be empty.
    """

    endpoint: EndpointRef
    template: str
    dataset: Path
    fingerprint: str
    model: str
    model_revision: str


def served(run: RunContext) -> Served:
    """The run's endpoint.

    Raises:
        LorasumError: there is none, or it is not in service.
    """
    config, backend, ledger = run.config, run.backend, run.ledger
    row = ledger.find(config.name, "endpoint", config.name)
    state = backend.endpoint_state(config.name, config.name) if row and is_here(row, backend) else None
    if row is None or state is None or state.ref is None or row.state != "live" or state.status != "in_service":
        if state and state.status == "creating":
            raise LorasumError(f"the endpoint of run {config.name!r} is still starting", "wait for `lorasum deploy`")
        raise LorasumError(
            f"run {config.name!r} has no endpoint in service", "run `lorasum deploy` with this config first"
        )
    detail = row.detail
    return Served(
        endpoint=state.ref,
        template=detail["template"],
        dataset=Path(detail["dataset"]),
        fingerprint=detail["fingerprint"],
        model=detail["model"],
        model_revision=detail["model_revision"],
    )


def predict(run: RunContext, dialogues: Sequence[str]) -> list[str]:
    """One summary per dialogue, in order.

    Raises:
        LorasumError: no endpoint is in service.
        BackendError: it did not answer, or not as it should.
    """
    there = served(run)
    found: list[str] = []
    for part in batches(dialogues, run.config.predict.batch_size):
        found += summarize(run.config, run.backend, there.endpoint, there.template, part)
    return found


def predict_text(run: RunContext, text: str) -> Prediction:
    """The summary of one dialogue.

    Raises:
        DataError: `text` is empty.
        LorasumError: as `predict`.
    """
    if not text.strip():
        raise DataError("the dialogue is empty", "give it with --text, --file or on stdin")
    return Prediction(dialogue=text, summary=predict(run, [text])[0])


def predict_sample(run: RunContext) -> Prediction:
    """The summary of a random test example, and its reference.

    Raises:
        DataError: the dataset is gone.
        LorasumError: as `predict`.
    """
    there = served(run)
    example = random.choice(held_out(there))  # noqa: S311  nothing secret is drawn
    [summary] = summarize(run.config, run.backend, there.endpoint, there.template, [example.dialogue])
    return Prediction(example.dialogue, summary, example.summary)


def held_out(there: Served) -> list[Example]:
    """The test examples of the dataset that the served artifact was trained on, in source order.

    Raises:
        DataError: the dataset is gone.
    """
    try:
        return read_test_examples(there.dataset)
    except OSError as error:
        raise DataError(
            f"the dataset {there.dataset} cannot be read: {error.strerror}", "run `lorasum prepare` with this config"
        ) from error


def summarize(
    config: Config, backend: Backend, endpoint: EndpointRef, template: str, dialogues: Sequence[str]
) -> list[str]:
    """Ask an endpoint for one summary per dialogue, in one request.

    Raises:
        BackendError: it did not answer in `predict.timeout` seconds, or not as it should.
    """
    payload = {
        "inputs": [render(template, dialogue) for dialogue in dialogues],
        "parameters": {"max_new_tokens": config.predict.max_new_tokens, "temperature": config.predict.temperature},
    }
    return read_answer(backend.invoke(endpoint, payload, config.predict.timeout), len(dialogues))


def read_answer(answer: Any, count: int) -> list[str]:
    """The `count` texts of an endpoint's answer: [{"generated_text": …}, …], or each in a list of its own.

    The second form is what a transformers pipeline makes of several prompts.

    Raises:
        BackendError: it is anything else.
    """
    rows = [row[0] if isinstance(row, list) and row else row for row in answer] if isinstance(answer, list) else []
    texts = [row.get("generated_text") if isinstance(row, dict) else None for row in rows]
    found = [text.strip() for text in texts if isinstance(text, str)]
    if not len(found) == len(rows) == count:
        raise BackendError(
            f"the endpoint's answer is not {count} generated texts: {json.dumps(answer)[:200]}",
            "look at the endpoint's log; `lorasum teardown`, then `lorasum deploy`, starts it anew",
        )
    return found


def batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    """`rows` in parts of at most `size`, in order."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
