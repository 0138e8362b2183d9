"""Requests to an endpoint on SageMaker, which answers within 60 seconds or not at all."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from lorasum.aws import aws_errors, error_code, is_missing
from lorasum.backends.completions import from_completion, pieces_of, to_completion
from lorasum.backends.records import EndpointRef
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError, NoAnswerError, RefusedError
from lorasum.shared.requests import MAX_BODY, read_refusal

_NOT_LET_IN = 6  # attempts at a request that the service throttled
_FAULTS = 3  # attempts at a request that met a fault; asking again is safe, because an answer changes nothing
_ANSWER = 60  # seconds after which SageMaker ends a request
_SERVER_SECONDS = 10  # seconds that the service may take in addition to the container
_THROTTLED = ("ThrottlingException", "ServiceUnavailable", "InternalDependencyException", "ModelNotReadyException")
_FEWER = "lower predict.batch_size or predict.max_new_tokens"


def invoke(session: Session, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
    """Send one request and return the decoded answer, in the format of container_scripts/inference.py."""
    vllm = session.config.engine == "vllm"
    client = session.runtime(timeout + _SERVER_SECONDS)

    def ask(request: dict[str, Any]) -> Any:
        with aws_errors(f"ask endpoint {endpoint.name}", "sagemaker:InvokeEndpoint"):
            return client.invoke_endpoint(**request)["Body"].read()

    asked = to_completion(payload) if vllm else payload
    text = _asked(session, endpoint, asked, timeout, ask)
    try:
        answer = json.loads(text)
        return from_completion(answer, asked) if vllm else answer
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BackendError(
            f"endpoint {endpoint.name} gave an answer that cannot be read: {text[:100]!r}", "run `lorasum deploy`"
        ) from error


def stream(session: Session, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
    """The pieces of an answer of vLLM, as server-sent events that the service passes on. The other image's is whole."""
    if session.config.engine != "vllm":
        session.reporter.step("the Hugging Face image does not stream, so the answer comes at once; vLLM does")
        yield from (answer["generated_text"] for answer in invoke(session, endpoint, payload, timeout))
        return
    client = session.runtime(timeout + _SERVER_SECONDS)

    def ask(request: dict[str, Any]) -> Any:
        with aws_errors(f"ask endpoint {endpoint.name}", "sagemaker:InvokeEndpointWithResponseStream"):
            return client.invoke_endpoint_with_response_stream(**request)["Body"]

    asked = {**to_completion(payload), "stream": True}
    events = _asked(session, endpoint, asked, timeout, ask)
    try:
        with aws_errors(f"read the answer of endpoint {endpoint.name}"):
            received = (event["PayloadPart"]["Bytes"] for event in events if "PayloadPart" in event)
            yield from pieces_of(f"endpoint {endpoint.name}", received, asked)
    except BackendError as error:
        raise (_explained(error, endpoint, timeout, vllm=True) if error.__cause__ else error) from error
    finally:
        events.close()


def _asked(
    session: Session,
    endpoint: EndpointRef,
    body: dict[str, Any],
    timeout: float,
    ask: Callable[[dict[str, Any]], Any],
) -> Any:
    """What `ask` makes of a request, which is sent again where that is safe."""
    sent = json.dumps(body).encode()
    if len(sent) > MAX_BODY:
        raise BackendError(
            f"the request is {len(sent):,} bytes long; an endpoint takes {MAX_BODY:,}", "lower predict.batch_size"
        )
    request = {"EndpointName": endpoint.name, "ContentType": "application/json", "Accept": "application/json"}
    for attempt in range(1, _NOT_LET_IN + 1):
        try:
            return ask({**request, "Body": sent})
        except BackendError as error:
            if attempt >= _attempts(error.__cause__):
                raise _explained(error, endpoint, timeout, session.config.engine == "vllm") from error
            time.sleep(min(0.1 * 2**attempt, 5))
    raise AssertionError("the last attempt returns or raises")


def _attempts(cause: Any) -> int:
    """How many attempts a request gets that fails with this error of boto3."""
    if error_code(cause) in _THROTTLED:
        return _NOT_LET_IN
    return _FAULTS if _is_fault(cause) and not _is_timeout(cause) else 1


def _explained(error: BackendError, endpoint: EndpointRef, timeout: float, vllm: bool) -> BackendError:
    """The error that tells the user what a failed request means."""
    cause: Any = error.__cause__
    name = f"endpoint {endpoint.name}"
    if _is_timeout(cause):
        return NoAnswerError(f"{name} did not answer in {min(timeout, _ANSWER):g} s", _FEWER)
    if is_missing(cause):
        return BackendError(f"there is no {name}", "run `lorasum deploy`")
    if error_code(cause) == "ModelError":
        said = _line(str(cause.response.get("OriginalMessage") or ""))
        if _is_fault(cause):
            return NoAnswerError(f"{name} failed: {said or 'it did not say why'}", f"run it again, or {_FEWER}")
        reason = said if vllm else read_refusal(said)
        if reason is None:  # the image's server answers every exception of the handler with 400
            return BackendError(f"{name} failed: {said}", "run `lorasum deploy` again")
        return RefusedError(f"{name} refused the request: {reason}", "send what the message asks for")
    if not _is_outage(cause) and (_is_fault(cause) or error_code(cause) in _THROTTLED):
        return NoAnswerError(error.message, error.hint)
    return error


def _is_timeout(cause: Any) -> bool:
    """Whether the container took too long, measured by the client or by the service."""
    return type(cause).__name__ == "ReadTimeoutError" or (
        error_code(cause) == "ModelError" and "timed out" in str(cause).lower()
    )


def _is_outage(cause: Any) -> bool:
    """Whether it says nothing of the endpoint: the network failed, or the account is throttled."""
    from botocore.exceptions import ConnectionError as CannotConnectError
    from botocore.exceptions import HTTPClientError

    return isinstance(cause, (HTTPClientError, CannotConnectError)) or error_code(cause) == "ThrottlingException"


def _is_fault(cause: Any) -> bool:
    """Whether the network, the service or the container failed. A refusal is not a fault."""
    if _is_outage(cause):
        return True
    if error_code(cause) == "ModelError":
        status = cause.response.get("OriginalStatusCode", 400)
        return bool(status >= 500 or status == 0)
    response = getattr(cause, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500)


def _line(said: str) -> str:
    """A container's message in one line. Hugging Face's container sends JSON with the text in `message`."""
    try:
        known = json.loads(said)
    except (ValueError, RecursionError):
        known = said
    if isinstance(known, dict) and isinstance(known.get("error"), dict):  # vLLM's
        known = known["error"]
    text = (known.get("message") or known.get("error") or said) if isinstance(known, dict) else said
    return " ".join(str(text).split())[:500]
