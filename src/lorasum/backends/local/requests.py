"""What the local server reads of every request: its body, and how long the client waits."""

from typing import TYPE_CHECKING

from lorasum.shared.requests import MAX_BODY

if TYPE_CHECKING:
    from starlette.requests import Request

TIMEOUT_HEADER = "Lorasum-Timeout"
"""Seconds after which the client stops waiting for its answer."""

_ANSWER_WITHIN = 60.0  # seconds if the client sends no limit; SageMaker's own
_LONGEST_WAIT = 7 * 24 * 3600.0  # seconds


async def read_body(request: "Request") -> bytes | None:
    """The request's body; None if it is longer than the limit. No more than the limit is held in memory."""
    body = bytearray()
    async for chunk in request.stream():
        if len(body) <= MAX_BODY:
            body += chunk
    return bytes(body) if len(body) <= MAX_BODY else None


def seconds_of(request: "Request") -> float:
    """Seconds that the client waits for its answer, from its header."""
    try:
        seconds = float(request.headers.get(TIMEOUT_HEADER, ""))
    except ValueError:
        return _ANSWER_WITHIN
    return min(seconds, _LONGEST_WAIT) if seconds > 0 else _ANSWER_WITHIN
