"""Requests to an endpoint on SageMaker, which answers within 60 seconds or not at all."""

import json
import time
from typing import Any

from lorasum.aws import aws_errors, error_code, is_missing
from lorasum.backends.records import EndpointRef
from lorasum.backends.sagemaker.session import Session
from lorasum.contract import MAX_BODY, read_refusal
from lorasum.errors import BackendError, RefusedError

_ATTEMPTS = 6  # of a request that was not let in; one that was is never sent again: it would be paid for twice
_THROTTLED = ("ThrottlingException", "ServiceUnavailable", "InternalDependencyException")
_FEWER = "lower predict.batch_size or predict.max_new_tokens"


def invoke(session: Session, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
    """Send one request and return the decoded answer, in the words of container_scripts/inference.py."""
    vllm = session.config.engine == "vllm"
    body = json.dumps(to_vllm(payload) if vllm else payload).encode()
    if len(body) > MAX_BODY:
        raise BackendError(
            f"the request is {len(body):,} bytes long; an endpoint takes {MAX_BODY:,}", "lower predict.batch_size"
        )
    client = session.runtime(timeout)
    for attempt in range(_ATTEMPTS):
        try:
            with aws_errors(f"ask endpoint {endpoint.name}", "sagemaker:InvokeEndpoint"):
                answer = client.invoke_endpoint(
                    EndpointName=endpoint.name, ContentType="application/json", Accept="application/json", Body=body
                )
                text = answer["Body"].read()
            break
        except BackendError as error:
            if error_code(error.__cause__) not in _THROTTLED or attempt == _ATTEMPTS - 1:
                raise _explained(error, endpoint, timeout, vllm) from error
            time.sleep(min(0.2 * 2**attempt, 5))
    try:
        answer = json.loads(text)
        return from_vllm(answer) if vllm else answer
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(
            f"endpoint {endpoint.name} answered what cannot be read: {text[:100]!r}", "run `lorasum deploy`"
        ) from error


def to_vllm(payload: dict[str, Any]) -> dict[str, Any]:
    """A request of ours as an OpenAI completion, which vLLM's /invocations takes."""
    names = {"max_new_tokens": "max_tokens"}
    parameters = payload.get("parameters", {})
    return {"prompt": payload["inputs"]} | {names.get(name, name): value for name, value in parameters.items()}


def from_vllm(answer: dict[str, Any]) -> list[dict[str, str]]:
    """An OpenAI completion as an answer of ours: one text per prompt, in their order."""
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    return [{"generated_text": choice["text"]} for choice in choices]


def _explained(error: BackendError, endpoint: EndpointRef, timeout: float, vllm: bool) -> BackendError:
    """What the failure of a request means here."""
    cause: Any = error.__cause__
    if type(cause).__name__ == "ReadTimeoutError":
        return BackendError(f"endpoint {endpoint.name} did not answer in {timeout:g} s", _FEWER)
    if is_missing(cause):
        return BackendError(f"there is no endpoint {endpoint.name}", "run `lorasum deploy`")
    if error_code(cause) == "ModelError":
        said = str(cause.response.get("OriginalMessage") or "")
        if cause.response.get("OriginalStatusCode", 400) >= 500 or "timed out" in str(cause).lower():
            limit = "SageMaker ends a request after 60 s"
            return BackendError(f"endpoint {endpoint.name} failed: {_line(said) or limit}", f"{limit}: {_FEWER}")
        reason = _line(said) if vllm else read_refusal(_line(said))
        if reason is None:  # the image's server answers every exception of the handler with 400
            return BackendError(f"endpoint {endpoint.name} failed: {_line(said)}", "run `lorasum deploy` again")
        return RefusedError(f"endpoint {endpoint.name} refused the request: {reason}", "send what the message asks for")
    return error


def _line(said: str) -> str:
    """A container's message in one line: the Hugging Face one sends JSON with the text in `message`."""
    try:
        known = json.loads(said)
    except ValueError:
        known = said
    if isinstance(known, dict) and isinstance(known.get("error"), dict):  # vLLM's
        known = known["error"]
    text = (known.get("message") or known.get("error") or said) if isinstance(known, dict) else said
    return " ".join(str(text).split())[:500]
