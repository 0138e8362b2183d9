"""The server of a local endpoint. It serves inference.py over HTTP, as SageMaker's Hugging Face container does.

    python -m lorasum.backends.local.server --model-dir D --code-dir C --state-dir S --port P

GET /ping             503 while the model loads, then 200; 500 if it cannot be loaded, and the server ends
POST /invocations     calls input_fn, predict_fn and output_fn of C/inference.py, one request at a time. 400 if one of
                      them raises, with the mark of contract.refusal_text if the request is at fault. 504 after 60
                      seconds, or after those of the header Lorasum-Timeout
S is the endpoint's folder, through which it talks with the client: server_files.py.

Generation ends early when the client has left, and at the deadline. guard.py decides which clients are answered.
"""

import argparse
import asyncio
import errno
import logging
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasum.backends.local.server_files import REASON, ServerState, forget, read_expiry
from lorasum.contract import BASE_MODEL, MAX_BODY, read_refusal, refusal_text
from lorasum.files import first_line

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from uvicorn import Server

PORT_TAKEN = 98
"""Exit status when another process listens on the port."""
TIMEOUT_HEADER = "Lorasum-Timeout"
"""Seconds after which the client stops waiting for its answer."""

_ANSWER_WITHIN = 60.0  # seconds if the client sends no limit; SageMaker's own
_LONGEST_WAIT = 7 * 24 * 3600.0  # seconds
_FAILED = 1
_FAILURE_SHOWS = 1.0  # seconds during which /ping answers 500 before the process ends
_BETWEEN_LOOKS = 1.0  # seconds, at the time when the server ends
_LAST_ANSWER = 5  # seconds a request may still take after SIGTERM

_log = logging.getLogger("lorasum.server")


class Handler:
    """The handler module and its model. One thread loads and calls them, so that torch keeps its own threads."""

    def __init__(self, model_dir: str, code_dir: Path) -> None:
        self.ping_status = 503
        self._model_dir = model_dir
        self._code_dir = code_dir
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def load(self) -> None:
        """Import the module and load the model. `ping_status` has the result, and the log the reason of a failure."""
        began = time.monotonic()
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        except (Exception, SystemExit) as error:
            _log.exception("loading failed")
            _give_up(f"the model of {self._model_dir} does not load: {first_line(error)}")
            self.ping_status = 500
        else:
            _log.info("model loaded in %.1f s", time.monotonic() - began)
            self.ping_status = 200

    async def answer(self, request: "Request", body: bytes) -> "Response":
        """The handler's answer to one request. Generation ends when the client has left or its time is up."""
        accept = request.headers.get("accept", "*/*")
        accept = "application/json" if accept == "*/*" else accept  # as the container's toolkit does
        seconds = _seconds(request.headers.get(TIMEOUT_HEADER, ""))
        nobody_waits = threading.Event()
        work = asyncio.create_task(self._take_turn(body, request.headers["content-type"], accept, nobody_waits))
        left = asyncio.create_task(_left(request))
        self._tasks |= {work}  # kept here, because asyncio does not keep it: it may end after this answer
        work.add_done_callback(self._tasks.discard)
        await asyncio.wait({work, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        gone = left.done()
        left.cancel()
        if work.done():
            return work.result()
        nobody_waits.set()
        why = "the client has left" if gone else f"not answered in {seconds:g} s"
        _log.info("%s", why)
        return _error(499 if gone else 504, why)

    async def _take_turn(self, body: bytes, content_type: str, accept: str, gone: threading.Event) -> "Response":
        """Answer after the earlier requests. The turn lasts until the model's thread is free again."""
        from fastapi import Response

        async with self._turn:
            if gone.is_set():
                return Response(status_code=499)
            began = time.monotonic()
            run = asyncio.get_running_loop().run_in_executor
            try:
                answer = await run(self._thread, self._transform, body, content_type, accept, gone)
            except Exception as error:  # the container's model server answers each with 400 too
                said = str(error) or type(error).__name__
                if gone.is_set() or read_refusal(said) is not None:
                    _log.info("%s", first_line(error))
                else:
                    _log.exception("the handler failed")
                return _error(400, said)
            _log.info("answered in %.1f s", time.monotonic() - began)
            return Response(answer, media_type=accept)

    def _load(self) -> None:
        sys.path.insert(0, str(self._code_dir))
        spec = spec_from_file_location("inference", self._code_dir / "inference.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{self._code_dir / 'inference.py'} is not a Python module")
        self._module = sys.modules["inference"] = module_from_spec(spec)
        spec.loader.exec_module(self._module)
        self._model = self._module.model_fn(self._model_dir)

    def _transform(self, body: bytes, content_type: str, accept: str, nobody_waits: threading.Event) -> Any:
        if stop_when := getattr(self._module, "stop_when", None):  # artifacts of earlier versions have none
            stop_when(nobody_waits.is_set)
        data = self._module.input_fn(body, content_type)
        return self._module.output_fn(self._module.predict_fn(data, self._model), accept)


def create_app(handler: Handler) -> "FastAPI":
    """The two routes of a SageMaker inference container."""
    from fastapi import FastAPI, Request, Response

    from lorasum.backends.local import guard

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/ping")
    async def ping() -> Response:
        return Response(status_code=handler.ping_status)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        try:
            async with asyncio.timeout(guard.BODY_WITHIN):
                body = await _body(request)
        except TimeoutError:
            return _error(408, "the request took too long to arrive", Connection="close")
        if body is None:
            return _error(413, refusal_text(f"the request is longer than {MAX_BODY} bytes"))
        if handler.ping_status != 200:
            return _error(503, "the model is not loaded")
        return await handler.answer(request, body)

    return app


def main() -> int:
    """Open the port, write S/server.json, load the model and serve until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Serve one model on 127.0.0.1.")
    parser.add_argument("--model-dir", required=True, help="folder or hub id of the model")
    parser.add_argument("--code-dir", required=True, type=Path, help="folder with inference.py")
    parser.add_argument("--base", help="folder or hub id of the base model, if --model-dir is an adapter's")
    parser.add_argument("--artifact", help="the artifact's name in server.json; default: --model-dir")
    parser.add_argument("--state-dir", required=True, type=Path, help="folder for server.json")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        listener = socket.create_server(("127.0.0.1", args.port))
    except OSError as error:
        _give_up(f"port {args.port}: {error.strerror}")
        return PORT_TAKEN if error.errno == errno.EADDRINUSE else _FAILED
    if args.base:
        os.environ[BASE_MODEL] = args.base
    handler = Handler(args.model_dir, args.code_dir)
    return asyncio.run(_serve(handler, args.artifact or args.model_dir, args.state_dir, listener))


async def _serve(handler: Handler, artifact: str, state_dir: Path, listener: socket.socket) -> int:
    import uvicorn

    from lorasum.backends.local import guard

    ServerState(listener.getsockname()[1], os.getpid(), artifact).write(state_dir)
    config = uvicorn.Config(
        guard.Guard(create_app(handler)), http=guard.ImpatientProtocol, limit_concurrency=guard.CONNECTIONS,
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


async def _body(request: "Request") -> bytes | None:
    """The request's body; None if it is longer than the limit. No more than the limit is held in memory."""
    body = bytearray()
    async for chunk in request.stream():
        if len(body) <= MAX_BODY:
            body += chunk
    return bytes(body) if len(body) <= MAX_BODY else None


async def _left(request: "Request") -> None:
    """Wait until the client has left. Its request's body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _seconds(header: str) -> float:
    """Seconds that the client waits for its answer, from its header."""
    try:
        seconds = float(header)
    except ValueError:
        return _ANSWER_WITHIN
    return min(seconds, _LONGEST_WAIT) if seconds > 0 else _ANSWER_WITHIN


def _error(status: int, message: str, **headers: str) -> "Response":
    from fastapi.responses import JSONResponse

    return JSONResponse({"error": message}, status_code=status, headers=headers)


def _give_up(reason: str) -> None:
    _log.error("%s%s", REASON, reason)


if __name__ == "__main__":
    sys.exit(main())
