"""Decides which clients the local server answers, and how long it waits for them.

A web page in the user's browser can send requests to this machine's own ports. Such a request is refused. It is
recognised by its Origin header, by a foreign name in its Host header (DNS rebinding leads that name to 127.0.0.1), or
by the content type of a form. A client that sends or reads too slowly is disconnected, because it holds memory and
one of a limited number of connections.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD_WITHIN = 10.0
"""Seconds within which a request's headers must arrive, from the start of the connection or of the request."""
BODY_WITHIN = 30.0
"""Seconds within which a request's body must arrive."""
READ_WITHIN = 30.0
"""Seconds within which a client must read a piece of the answer."""
CONNECTIONS = 256
"""Number of connections at once; any more get HTTP 503."""

_OUR_NAMES = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


class Guard:
    """ASGI middleware that refuses requests of web pages, and bodies that are not JSON."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def send_within(message: "Message") -> None:
            async with asyncio.timeout(READ_WITHIN):
                await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status, reason = refusal(scope["method"], headers)
        if status == 200:
            await self._app(scope, receive, send_within)
            return
        body = json.dumps({"error": reason}).encode()
        kind = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": kind})
        await send({"type": "http.response.body", "body": body})


def refusal(method: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """HTTP status and reason of a refusal; (200, "") if the request is accepted.

    Args:
        headers: values by header name in lower case.
    """
    if not _OUR_NAMES.fullmatch(headers.get("host", "").lower()):
        return 403, "the Host header does not name this machine"
    if "origin" in headers or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return 403, "web pages are not answered"
    if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "send application/json"
    return 200, ""


class ImpatientProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also disconnects a client whose headers take too long."""

    _waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
        elif self._waits is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waits = self.loop.call_later(HEAD_WITHIN, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None
