"""Asks an endpoint for summaries, with the template that its model was trained with."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorasum.backends.base import Backend, is_here
from lorasum.backends.completions import Trimmed
from lorasum.backends.records import EndpointRef
from lorasum.config.schema import PredictConfig
from lorasum.context import RunContext
from lorasum.data.records import Example
from lorasum.data.store import read_test_examples
from lorasum.errors import BackendError, DataError, LorasumError
from lorasum.ledger.resources import Adapter, Endpoint, Origin
from lorasum.shared.requests import fill_template


@dataclass(frozen=True, slots=True)
class Summarizer:
    """Asks one endpoint for summaries.

    Attributes:
        origin: of the artifact behind it. Its template is used, whatever the config says now.
        settings: the config's section `predict`.
        adapter: the one to ask for by its name; None if the endpoint serves one model.
    """

    backend: Backend
    endpoint: EndpointRef
    origin: Origin
    settings: PredictConfig
    adapter: Adapter | None = None

    @property
    def artifact(self) -> str:
        """What answers: the adapter's artifact, or the one that the endpoint serves."""
        return self.adapter.artifact if self.adapter else self.endpoint.artifact

    def of(self, adapter: Adapter) -> "Summarizer":
        """The same endpoint, asked for one of its adapters, with that adapter's prompt."""
        return replace(self, origin=adapter.origin, adapter=adapter)

    def summarize(self, dialogues: Sequence[str]) -> list[str]:
        """Ask for one summary per dialogue, in one request.

        Raises:
            BackendError: it did not answer in `predict.timeout` seconds, or not as it should.
        """
        answer = self.backend.invoke(self.endpoint, self._payload(dialogues), self.settings.timeout)
        return read_answer(answer, len(dialogues))

    def stream(self, dialogue: str) -> Iterator[str]:
        """The summary of one dialogue in pieces, as they are generated. Leaving the iterator ends generating.

        Raises:
            BackendError: as `summarize`, at any piece.
        """
        pieces = self.backend.stream(self.endpoint, self._payload([dialogue]), self.settings.timeout)
        return filter(None, map(Trimmed().more, pieces))

    def _payload(self, dialogues: Sequence[str]) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "max_new_tokens": self.settings.max_new_tokens,
            "temperature": self.settings.temperature,
        }
        return {
            "inputs": [
                fill_template(self.origin.template, dialogue, self.origin.control_tokens) for dialogue in dialogues
            ],
            "parameters": asked | ({"adapter": self.adapter.run} if self.adapter else {}),
        }

    def held_out(self) -> list[Example]:
        """The test examples of the dataset that the served artifact was trained on, in source order.

        Raises:
            DataError: the dataset is gone or damaged.
        """
        dataset = Path(self.origin.dataset)
        try:
            return read_test_examples(dataset)
        except OSError as error:
            raise DataError(
                f"the dataset {dataset} cannot be read: {error.strerror}", "run `lorasum prepare` with this config"
            ) from error
        except ValueError as error:
            raise DataError(
                f"the dataset {dataset} is damaged: {error}", "delete it, then run `lorasum prepare` with this config"
            ) from error


def in_service(run: RunContext, adapter: str | None = None) -> Summarizer:
    """The run's endpoint, ready to summarise.

    Args:
        adapter: the run whose adapter is asked, where the endpoint serves several; default: the run's own.

    Raises:
        LorasumError: there is none, it is not in service, or it has no adapter of this name.
    """
    row = run.ledger.find(Endpoint, run.name, run.name)
    state = run.backend.endpoint_state(run.name, run.name) if row and is_here(row, run.backend) else None
    if row is None or state is None or state.ref is None or row.state != "live" or state.status != "in_service":
        if state and state.status == "creating":
            raise LorasumError(f"the endpoint of run {run.name!r} is still starting", "wait for `lorasum deploy`")
        raise LorasumError(
            f"run {run.name!r} has no endpoint in service", "run `lorasum deploy` with this config first"
        )
    adapters = {one.run: one for one in row.adapters}
    if adapter is not None and adapter not in adapters:
        has = f"it has {', '.join(adapters)}" if adapters else "it serves one model; deploy.adapters names more"
        raise LorasumError(f"endpoint {row.name} has no adapter {adapter!r}", has)
    summarizer = Summarizer(run.backend, state.ref, row.origin, run.config.predict)
    chosen = adapters.get(adapter or run.name)
    return summarizer.of(chosen) if chosen else summarizer


def read_answer(answer: Any, count: int) -> list[str]:
    """The `count` texts of an endpoint's answer: [{"generated_text": …}, …].

    Raises:
        BackendError: it is anything else.
    """
    rows = answer if isinstance(answer, list) else []
    texts = [row.get("generated_text") if isinstance(row, dict) else None for row in rows]
    summaries = [text.strip() for text in texts if isinstance(text, str)]
    if not len(summaries) == len(rows) == count:
        raise BackendError(
            f"the endpoint's answer is not {count} generated texts: {json.dumps(answer)[:200]}",
            "look at the endpoint's log; `lorasum teardown`, then `lorasum deploy`, starts it again",
        )
    return summaries
