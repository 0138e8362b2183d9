"""What an endpoint can be asked: a request is read and checked here, before the model has anything to do with it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.requests import MAX_NEW_TOKENS, MAX_PROMPTS, refusal_text

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "max_new_tokens": (1, MAX_NEW_TOKENS),
    "temperature": (0, 2),
    "top_p": (0.01, 1),
}


class RequestError(ValueError):
    """A request that cannot be answered as it is. Its text has the mark that tells it from a fault of the server."""

    def __init__(self, reason: str) -> None:
        super().__init__(refusal_text(reason))


@dataclass(frozen=True, slots=True)
class Request:
    """A valid request.

    Attributes:
        are_dialogues: tells texts to be put into the template from finished prompts.
        adapter: the one that is asked for by its name.
    """

    texts: tuple[str, ...]
    are_dialogues: bool
    parameters: Mapping[str, float]
    adapter: str | None = None


def read_request(body: str | bytes, content_type: str) -> Request:
    """Read and check a request.

    Raises:
        RequestError: one line that says what is wrong; the server answers it with HTTP 400.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise RequestError(f"content type {content_type!r} is not supported; send application/json")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:  # json's and utf-8's; nested without end
        raise RequestError(f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(data, dict):
        raise RequestError('the body is not an object; send {"inputs": ...} or {"dialogue": ...}')
    _refuse_unknown("key", data, ("inputs", "dialogue", "parameters"))
    if ("inputs" in data) == ("dialogue" in data):
        raise RequestError("send either inputs (finished prompts) or dialogue (texts to be put into the template)")
    key = "inputs" if "inputs" in data else "dialogue"
    parameters, adapter = _parameters(data.get("parameters"))
    return Request(_texts(key, data[key]), key == "dialogue", parameters, adapter)


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        raise RequestError(f"unknown {what} {unknown[0][:40]!r}{more}; known: {', '.join(known)}")


def _texts(key: str, value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RequestError(f"{key} is neither a text nor a list of texts")
    if not 1 <= len(texts) <= MAX_PROMPTS:
        raise RequestError(f"{key} has {len(texts)} texts; 1 to {MAX_PROMPTS} are answered at once")
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise RequestError(f"text {number} of {key} is empty")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise RequestError(f"text {number} of {key} holds half a character: a lone surrogate \\u escape")
    return tuple(texts)


def _parameters(value: Any) -> tuple[dict[str, float], str | None]:
    """The numbers, and the name of an adapter."""
    if value is None:
        return {}, None
    if not isinstance(value, dict):
        raise RequestError("parameters is not an object")
    _refuse_unknown("parameter", value, (*_BOUNDS, "adapter"))
    numbers = dict(value)
    adapter = numbers.pop("adapter", None)
    if adapter is not None and not isinstance(adapter, str):
        raise RequestError(f"adapter must be a name, not {json.dumps(adapter)[:40]}")
    for name, number in numbers.items():
        least, most = _BOUNDS[name]
        kinds = (int,) if name == "max_new_tokens" else (int, float)
        if isinstance(number, bool) or not isinstance(number, kinds) or not least <= number <= most:
            kind = "a whole number" if kinds == (int,) else "a number"
            raise RequestError(f"{name} must be {kind} from {least:g} to {most:g}, not {json.dumps(number)[:40]}")
    return numbers, adapter
