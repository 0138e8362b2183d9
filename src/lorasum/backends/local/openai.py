"""OpenAI's protocol beside /invocations: /v1/models, /v1/completions and /v1/chat/completions, whole or as a stream.

docs/serving.md says what messages mean, and what is refused. What would change an answer and is not understood is
refused; what changes none (user, n: 1) is ignored.
"""

import asyncio
import json
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorasum.backends.local import guard
from lorasum.backends.local.handler import ClientLeftError, Handler, reason_of
from lorasum.backends.local.requests import read_body, seconds_of
from lorasum.backends.local.text_stream import TextStream
from lorasum.shared.requests import MAX_BODY, read_refusal

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_log = logging.getLogger("lorasum.server")
_NOT_AGAIN = {"x-should-retry": "false"}  # OpenAI's clients would ask twice more, and wait as long each time
_OURS = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"} | {
    name: name for name in ("temperature", "top_p")
}
_IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "logprobs": (False,), "stop": ([],), "suffix": ("",), "tools": ([],),
    "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},), "response_format": ({"type": "text"},),
}  # fmt: skip


class BadRequestError(Exception):
    """A request that is not answered, as OpenAI's clients are told of it."""

    def __init__(self, message: str, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: `given` is its prompt or its messages, and `model` the name of what is to answer."""

    model: str
    given: Any
    parameters: dict[str, Any]
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How an answer looks: that of a completion or of a chat."""

    model: str
    is_chat: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: Sequence[str], rows: Sequence[Any]) -> dict[str, Any]:
        """The answer in one piece."""
        choices = [
            {"index": place, "finish_reason": row.finish, "logprobs": None, **self._said(text)}
            for place, (text, row) in enumerate(zip(texts, rows, strict=True))
        ]
        return self._answer("chat.completion" if self.is_chat else "text_completion", choices, usage(rows))

    def _said(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}

    def piece(self, place: int, text: str, finish: str | None = None, *, first: bool = False) -> dict[str, Any]:
        """More text of one choice, or its end."""
        delta = ({"role": "assistant"} if first else {}) | ({} if finish else {"content": text})
        choice: dict[str, Any] = {"index": place, "finish_reason": finish, "logprobs": None}
        choice |= {"delta": delta} if self.is_chat else {"text": text}
        return self._answer(self._part, [choice], None)

    def counted(self, rows: Sequence[Any]) -> dict[str, Any]:
        """The last piece, which has no text."""
        return self._answer(self._part, [], usage(rows))

    @property
    def _part(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _answer(self, kind: str, choices: list[dict[str, Any]], counts: dict[str, int] | None) -> dict[str, Any]:
        name = f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self.id}"
        answer = {"id": name, "object": kind, "created": self.created, "model": self.model, "choices": choices}
        return answer | ({"usage": counts} if counts else {})


def usage(rows: Sequence[Any]) -> dict[str, int]:
    """The tokens of prompts and completions."""
    prompts, completions = sum(len(row.prompt) for row in rows), sum(len(row.completion) for row in rows)
    return {"prompt_tokens": prompts, "completion_tokens": completions, "total_tokens": prompts + completions}


def read(body: bytes, key: str, models: Sequence[str]) -> Asked:
    """Read a request.

    Args:
        key: what holds the text: `prompt` or `messages`.
        models: the names that are answered.

    Raises:
        BadRequestError: it cannot be answered as it is.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(data, dict):
        raise BadRequestError("the body is not an object")
    model = data.get("model")
    if not isinstance(model, str) or model not in models:
        raise _unknown(model, models)
    given = {name: value for name, value in data.items() if value is not None and name not in ("model", *_IGNORED)}
    content, stream = given.pop(key, None), given.pop("stream", False)
    options = given.pop("stream_options", {})
    if content is None:
        raise BadRequestError(f"{key} is missing")
    if not isinstance(stream, bool) or not isinstance(options, dict):
        raise BadRequestError("stream must be true or false, and stream_options an object")
    greedy = given.get("temperature") == 0
    parameters = {_OURS[name]: given.pop(name) for name in _OURS if name in given}
    parameters |= {"adapter": model} if len(models) > 1 else {}
    for name, value in given.items():
        if value not in _WITHOUT_EFFECT.get(name, ()) and not (name == "seed" and greedy):
            raise BadRequestError(f"{name[:40]!r} with {json.dumps(value)[:40]} is not supported", code="unsupported")
    return Asked(model, content, parameters, stream, bool(options.get("include_usage")))


def _unknown(model: Any, models: Sequence[str]) -> BadRequestError:
    said = f"there is no model {json.dumps(model)[:80]} here; there is {', '.join(models)}"
    return BadRequestError(said, 404, "model_not_found")


def messages_of(given: Any) -> list[dict[str, str]]:
    """The messages of a chat, each with a role and a text.

    Raises:
        BadRequestError: they are anything else.
    """
    if not isinstance(given, list) or not given:
        raise BadRequestError("messages is not a list of messages")
    return [_message(number, one) for number, one in enumerate(given, 1)]


def routes(handler: Handler, names: Sequence[str]) -> "list[Route]":
    """The four routes. The model is known by its only name, or its adapters by theirs."""
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    known = {name: {"id": name, "object": "model", "created": 0, "owned_by": "lorasum"} for name in names}

    async def models(_: "Request") -> "Response":
        return JSONResponse({"object": "list", "data": list(known.values())})

    async def model(request: "Request") -> "Response":
        name = request.path_params["name"]
        if name in known:
            return JSONResponse(known[name])
        status, answer = _refusal(_unknown(name, names), threading.Event())
        return JSONResponse(answer, status_code=status)

    async def completions(request: "Request") -> "Response":
        return await _answered(handler, request, "prompt", names)

    async def chat(request: "Request") -> "Response":
        return await _answered(handler, request, "messages", names)

    return [
        Route("/v1/models", models),
        Route("/v1/models/{name}", model),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
    ]


async def _answered(handler: Handler, request: "Request", key: str, names: Sequence[str]) -> "Response":
    from starlette.responses import JSONResponse, StreamingResponse

    gone = threading.Event()
    try:
        async with asyncio.timeout(guard.BODY_WITHIN):
            body = await read_body(request)
        if body is None:
            raise BadRequestError(f"the request is longer than {MAX_BODY} bytes", 413)
        if handler.ping_status != 200:
            raise BadRequestError("the model is not loaded", 503)
        asked = read(body, key, names)
        shape = Shape(asked.model, is_chat=key == "messages")
        rows = _rows(handler, asked, shape, gone)
        if asked.stream:
            events = _events(handler, rows, shape, gone, seconds_of(request), asked.include_usage)
            return StreamingResponse(events, media_type="text/event-stream")
        work = _texts(handler, rows)
        texts = await handler.while_awaited(request, work, seconds_of(request), gone)
    except Exception as error:
        status, answer = _refusal(error, gone)
        return JSONResponse(answer, status_code=status, headers=_NOT_AGAIN if status == 504 else None)
    return JSONResponse(shape.whole(texts, rows))


def _rows(handler: Handler, asked: Asked, shape: Shape, gone: threading.Event) -> list[Any]:
    """The rows of a request. The handler's own reader checks texts and parameters."""
    module, model = handler.module, handler.model
    if "adapter" in asked.parameters:
        model = model.named(asked.parameters["adapter"])
    texts: dict[str, Any] = {"inputs": asked.given}
    if shape.is_chat:
        messages = messages_of(asked.given)
        is_dialogue = [one["role"] for one in messages] == ["user"] and model.template is not None
        texts = {"dialogue": messages[0]["content"]} if is_dialogue else {"inputs": module.chat_prompt(messages, model)}
    data = module.input_fn(json.dumps({**texts, "parameters": asked.parameters}), "application/json")
    rows: list[Any] = module.rows_of(data, handler.model, gone.is_set)
    return rows


async def _texts(handler: Handler, rows: list[Any]) -> list[str]:
    async for _ in handler.progress(rows):
        pass
    return [answer["generated_text"] for answer in handler.module.answers_of(rows, handler.model)]


async def _events(
    handler: Handler, rows: list[Any], shape: Shape, gone: threading.Event, seconds: float, include_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events: pieces of the texts as they are generated, which together are the whole answer."""
    streams = {place: TextStream(handler.model.tokenizer) for place in range(len(rows))}
    try:
        for place in streams if shape.is_chat else ():
            yield _event(shape.piece(place, "", first=True))
        async with asyncio.timeout(seconds):
            async for row in handler.progress(rows):
                place, is_done = rows.index(row), row.is_done  # asked once: another thread sets it
                stream = streams.pop(place, None) if is_done else streams.get(place)
                if stream is None:
                    continue  # the row had ended when one of its earlier tokens was told of
                if new := _new_text(stream, row, is_done, handler):
                    yield _event(shape.piece(place, new))
                if is_done:
                    yield _event(shape.piece(place, "", row.finish))
        if include_usage:
            yield _event(shape.counted(rows))
        yield "data: [DONE]\n\n"
    except Exception as error:
        yield _event(_refusal(error, gone)[1])
    finally:
        gone.set()


def _new_text(stream: TextStream, row: Any, is_done: bool, handler: Handler) -> str:
    """What has come to a row's text; what remains of it once the row is done."""
    if not is_done:
        return stream.more(row.completion)
    [answer] = handler.module.answers_of([row], handler.model)
    return stream.rest(answer["generated_text"])


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _refusal(error: Exception, gone: threading.Event) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error."""
    code = None
    if isinstance(error, BadRequestError):
        status, said, code = error.status, str(error), error.code
    elif isinstance(error, ClientLeftError | TimeoutError):
        status, said = (504, str(error) or "it took too long") if isinstance(error, TimeoutError) else (499, str(error))
        _log.info("%s", said)
    else:
        said = reason_of(error, gone)
        reason = read_refusal(said)
        status, said = (500, said) if reason is None else (400, reason)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return status, {"error": {"message": said, "type": kind, "param": None, "code": code}}


def _message(number: int, message: Any) -> dict[str, str]:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else None  # type: ignore[arg-type]
    if not isinstance(content, str) or not isinstance(message.get("role"), str):
        raise BadRequestError(f"message {number} is not a role and a text")
    return {"role": message["role"], "content": content}
