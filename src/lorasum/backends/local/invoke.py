"""Requests to a local endpoint. backends.base.Backend says what invoke and stream promise."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lorasum.backends.completions import pieces_of, to_completion
from lorasum.backends.local.requests import TIMEOUT_HEADER
from lorasum.backends.records import EndpointRef
from lorasum.errors import BackendError, NoAnswerError, RefusedError
from lorasum.shared.requests import MAX_BODY, read_refusal

if TYPE_CHECKING:
    from httpx import Client, Timeout

_DEPLOY = "run `lorasum deploy`"
_CONNECT = 5.0  # seconds; a busy machine answers late


def invoke(endpoint: EndpointRef, payload: Mapping[str, Any], timeout: float) -> Any:
    """POST to /invocations."""
    import httpx

    title = f"endpoint {endpoint.name}"
    body, headers = _body(payload), _headers(timeout)
    with _transport_errors(title, endpoint, timeout), client(httpx.Timeout(timeout, connect=_CONNECT)) as asking:
        response = asking.post(f"{endpoint.location}/invocations", content=body, headers=headers)
    try:
        answer = response.json()
    except (ValueError, RecursionError) as error:
        raise BackendError(f"{title} answered what is not JSON: {response.text[:100]!r}", _DEPLOY) from error
    if response.status_code != 200:
        said = answer.get("error") if isinstance(answer, dict) else None
        reason = read_refusal(str(said))
        raise _failure(title, response.status_code, str(said or ""), reason, timeout)
    return answer


def stream(endpoint: EndpointRef, payload: Mapping[str, Any], timeout: float) -> Iterator[str]:
    """POST to /v1/completions, and read the events of its stream. The server stops when they are no longer read."""
    import httpx

    title = f"endpoint {endpoint.name}"
    asked = {"model": endpoint.name, **to_completion(payload), "stream": True}
    body = _body(asked)
    with (
        _transport_errors(title, endpoint, timeout),
        client(httpx.Timeout(timeout, connect=_CONNECT)) as asking,
        asking.stream("POST", f"{endpoint.location}/v1/completions", content=body, headers=_headers(timeout)) as answer,
    ):
        if answer.status_code != 200:
            answer.read()
            said = answer.json()["error"]["message"]
            raise _failure(title, answer.status_code, said, said if answer.status_code == 400 else None, timeout)
        yield from pieces_of(title, answer.iter_bytes(), asked)


def client(timeout: "Timeout") -> "Client":
    """A client without the environment's proxy, which would look for 127.0.0.1 on its own machine.

    Without certificates too: the address is http, and reading them would take 20 ms of every request.
    """
    import httpx

    return httpx.Client(trust_env=False, verify=False, timeout=timeout)  # noqa: S501


def _body(request: Mapping[str, Any]) -> bytes:
    body = json.dumps(request).encode()
    if len(body) > MAX_BODY:
        raise BackendError(
            f"the request is {len(body):,} bytes long; an endpoint takes {MAX_BODY:,}", "lower predict.batch_size"
        )
    return body


def _headers(timeout: float) -> dict[str, str]:
    return {"Content-Type": "application/json", TIMEOUT_HEADER: f"{timeout:g}"}


@contextmanager
def _transport_errors(title: str, endpoint: EndpointRef, timeout: float) -> Iterator[None]:
    """Raise what goes wrong on the way as a BackendError."""
    import httpx

    try:
        yield
    except httpx.ConnectError as error:
        raise BackendError(f"{title} does not answer at {endpoint.location}", _DEPLOY) from error
    except httpx.TimeoutException as error:
        raise _too_late(title, timeout) from error
    except httpx.TransportError as error:
        raise NoAnswerError(f"{title} broke off while answering", f"{_DEPLOY}, then the same command again") from error


def _failure(title: str, status: int, said: str, refusal: str | None, timeout: float) -> BackendError:
    """What an answer with another status than 200 means.

    Args:
        refusal: why the request was refused; None if it is not its fault.
    """
    if status == 504:
        return _too_late(title, timeout)
    if refusal:
        return RefusedError(f"{title} refused the request: {refusal}", "send what the message asks for")
    failure = NoAnswerError if status >= 500 else BackendError
    return failure(f"{title} failed: {said or f'HTTP {status}'}", _DEPLOY)


def _too_late(title: str, timeout: float) -> NoAnswerError:
    hint = "raise predict.timeout, or lower predict.max_new_tokens or predict.batch_size"
    return NoAnswerError(f"{title} did not answer in {timeout:g} s", hint)
