"""The server of a local endpoint. It serves inference.py over HTTP, as SageMaker's Hugging Face container does.

    python -m lorasum.backends.local.server --model-dir D --code-dir C --state-dir S --port P

GET /ping             503 while the model loads, then 200; 500 if it cannot be loaded, and the server ends
POST /invocations     answers as C/inference.py does, several requests together (handler.py). 400 if it raises, with
                      the mark of requests.refusal_text if the request is at fault. 504 after 60 seconds, or after those
                      of the header Lorasum-Timeout
/v1/...               OpenAI's protocol: openai.py
S is the endpoint's folder, through which it talks with the client: server_files.py.

Generation ends early when the client has left, and at the deadline. guard.py decides which clients are answered.
"""

import argparse
import asyncio
import errno
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lorasum.backends.local.handler import ClientLeftError, Handler, reason_of
from lorasum.backends.local.requests import read_body, seconds_of
from lorasum.backends.local.server_files import REASON, ServerState, forget, read_expiry
from lorasum.shared.names import ADAPTERS, BASE_MODEL
from lorasum.shared.requests import MAX_BODY, refusal_text

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from uvicorn import Server

PORT_TAKEN = 98
"""Exit status when another process listens on the port."""

_FAILED = 1
_FAILURE_SHOWS = 1.0  # seconds during which /ping answers 500 before the process ends
_BETWEEN_LOOKS = 1.0  # seconds, at the time when the server ends
_LAST_ANSWER = 5  # seconds a request may still take after SIGTERM

_log = logging.getLogger("lorasum.server")


def create_app(handler: Handler, names: Sequence[str]) -> "Starlette":
    """The two routes of a SageMaker inference container, and OpenAI's, which know the model or its adapters by name."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    from lorasum.backends.local import guard, openai

    async def ping(_: "Request") -> Response:
        return Response(status_code=handler.ping_status)

    async def invocations(request: "Request") -> Response:
        try:
            async with asyncio.timeout(guard.BODY_WITHIN):
                body = await read_body(request)
        except TimeoutError:
            return _error(408, "the request took too long to arrive", Connection="close")
        if body is None:
            return _error(413, refusal_text(f"the request is longer than {MAX_BODY} bytes"))
        if handler.ping_status != 200:
            return _error(503, "the model is not loaded")
        return await _invoked(handler, request, body)

    ours = [Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])]
    return Starlette(routes=[*ours, *openai.routes(handler, names)])


async def _invoked(handler: Handler, request: "Request", body: bytes) -> "Response":
    """The handler's answer to one request. Generation ends when the client has left or its time is up."""
    from starlette.responses import Response

    accept = request.headers.get("accept", "*/*")
    accept = "application/json" if accept == "*/*" else accept  # as the container's toolkit does
    gone, began = threading.Event(), time.monotonic()
    work = handler.answer(body, request.headers["content-type"], accept, gone)
    try:
        answer = await handler.while_awaited(request, work, seconds_of(request), gone)
    except (ClientLeftError, TimeoutError) as error:
        _log.info("%s", error)
        return _error(504 if isinstance(error, TimeoutError) else 499, str(error))
    except Exception as error:  # the container's model server answers each with 400 too
        return _error(400, reason_of(error, gone))
    _log.info("answered in %.1f s", time.monotonic() - began)
    return Response(answer, media_type=accept)


def main() -> int:
    """Open the port, write S/server.json, load the model and serve until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Serve one model on 127.0.0.1.")
    parser.add_argument("--model-dir", required=True, help="folder or hub id of the model")
    parser.add_argument("--code-dir", required=True, type=Path, help="folder with inference.py")
    parser.add_argument("--base", help="folder or hub id of the base model, if --model-dir is an adapter's")
    parser.add_argument("--adapters", help="JSON: the folders of adapters to serve on --base, by name")
    parser.add_argument("--artifact", help="the artifact's name in server.json; default: --model-dir")
    parser.add_argument("--state-dir", required=True, type=Path, help="folder for server.json")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        listener = socket.create_server(("127.0.0.1", args.port))
    except OSError as error:
        _log.error("%sport %d: %s", REASON, args.port, error.strerror)
        return PORT_TAKEN if error.errno == errno.EADDRINUSE else _FAILED
    if args.base:
        os.environ[BASE_MODEL] = args.base
    if args.adapters:
        os.environ[ADAPTERS] = args.adapters
    names = list(json.loads(args.adapters)) if args.adapters else [args.state_dir.name]
    handler = Handler(args.model_dir, args.code_dir)
    return asyncio.run(_serve(handler, names, args.artifact or args.model_dir, args.state_dir, listener))


async def _serve(
    handler: Handler, names: Sequence[str], artifact: str, state_dir: Path, listener: socket.socket
) -> int:
    import uvicorn

    from lorasum.backends.local import guard

    ServerState(listener.getsockname()[1], os.getpid(), artifact).write(state_dir)
    app = create_app(handler, names)
    config = uvicorn.Config(
        guard.Guard(app), http=guard.ImpatientProtocol, limit_concurrency=guard.CONNECTIONS,
        log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=_LAST_ANSWER,
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    ending = asyncio.create_task(_end_in_time(server, state_dir))
    await handler.load()
    if handler.ping_status != 200:
        await asyncio.sleep(_FAILURE_SHOWS)
        server.should_exit = True
    await serving  # after SIGTERM uvicorn raises the signal again, which ends the process without waiting for threads
    ending.cancel()
    return 0 if handler.ping_status == 200 else _FAILED


async def _end_in_time(server: "Server", state_dir: Path) -> None:
    """End the server at its time. The wall clock counts, so the time that a machine sleeps counts too."""
    while (end := read_expiry(state_dir)) is None or datetime.now(UTC) < end:
        await asyncio.sleep(_BETWEEN_LOOKS)
    _log.info("its time was over at %s: the server ends", end.astimezone().isoformat(timespec="seconds"))
    server.should_exit = True
    forget(state_dir)  # it did not fail, so `status` must not find it


def _error(status: int, message: str, **headers: str) -> "Response":
    from starlette.responses import JSONResponse

    return JSONResponse({"error": message}, status_code=status, headers=headers)


if __name__ == "__main__":
    sys.exit(main())
