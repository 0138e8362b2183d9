"""OpenAI's completions, which the local endpoint and vLLM both speak: requests, answers and streams of them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lorasum.errors import BackendError, NoAnswerError, RefusedError


def to_completion(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a request in the format of container_scripts/inference.py into an OpenAI completion."""
    names = {"max_new_tokens": "max_tokens", "adapter": "model"}
    parameters = payload.get("parameters", {})
    return {"prompt": payload["inputs"]} | {names.get(name, name): value for name, value in parameters.items()}


def from_completion(answer: Mapping[str, Any], asked: Mapping[str, Any]) -> list[dict[str, str]]:
    """Turn an OpenAI completion into an answer in inference.py's format: one text per prompt, in their order.

    Args:
        asked: the request.

    Raises:
        BackendError: another model answered than the one that was asked.
    """
    check_model(answer, asked)
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    return [{"generated_text": choice["text"]} for choice in choices]


def check_model(answer: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse the answer of another model than the one that a request names, such as the base's for an adapter's.

    Raises:
        BackendError: it is one.
    """
    if (wanted := asked.get("model")) and (found := answer.get("model")) != wanted:
        raise BackendError(
            f"the endpoint answered as {found}, not as {wanted}",
            "run `lorasum deploy`, which lets the endpoint choose an adapter",
        )


class Trimmed:
    """A text that comes in pieces, without the white space around it: space is held back until something follows."""

    def __init__(self) -> None:
        self._begun, self._space = False, ""

    def more(self, piece: str) -> str:
        """What of the text is known with this piece; it may be empty."""
        text = self._space + piece if self._begun else piece.lstrip()
        kept = text.rstrip()
        self._space = text[len(kept) :]
        self._begun = self._begun or bool(kept)
        return kept


def pieces_of(title: str, received: Iterable[bytes], asked: Mapping[str, Any]) -> Iterator[str]:
    """The pieces of one text from server-sent events, which may arrive cut anywhere.

    Args:
        title: what answers, for messages.
        asked: the request.

    Raises:
        BackendError: another model answers than the one that was asked.
        RefusedError: an event says that the request cannot be answered.
        NoAnswerError: one says that the server has failed, or they end before the text does.
    """
    for line in _lines(received):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        event = json.loads(data)
        if error := event.get("error"):
            is_ours = error.get("type") in ("invalid_request_error", "BadRequestError")
            kind, verb = (RefusedError, "refused the request") if is_ours else (NoAnswerError, "failed")
            raise kind(f"{title} {verb}: {error.get('message')}", "")
        check_model(event, asked)
        for choice in event.get("choices", ()):
            if text := choice.get("text"):
                yield text
    raise NoAnswerError(f"{title} broke off while answering", "run the same command again")


def _lines(received: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for part in received:
        *lines, left = (left + part).split(b"\n")
        yield from lines
    yield left
