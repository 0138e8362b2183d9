"""The handler module of an artifact, inference.py, and its model, as the server of a local endpoint calls them.

Requests are completed together (scheduling.py). One thread loads the model and calls it, so that torch keeps its own
threads.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorasum.backends.local.server_files import REASON
from lorasum.shared.requests import read_refusal
from lorasum.system.files import first_line

if TYPE_CHECKING:
    from starlette.requests import Request

NAMES: Final = (
    *("model_fn", "input_fn", "rows_of", "scheduler", "run", "answers_of", "output_fn"),
    *("chat_prompt", "GpuLostError"),
)
"""What an artifact's inference.py must have. It stays as it was when the artifact was made."""

_log = logging.getLogger("lorasum.server")


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class Handler:
    """The module and its model.

    Attributes:
        ping_status: 503 while the model loads, then 200; 500 if it cannot be loaded.
    """

    def __init__(self, model_dir: str, code_dir: Path) -> None:
        self.ping_status = 503
        self._model_dir = model_dir
        self._code_dir = code_dir
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._running: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()

    async def load(self) -> None:
        """Import the module and load the model. `ping_status` has the result, and the log the reason of a failure."""
        began = time.monotonic()
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        except (Exception, SystemExit) as error:
            _log.exception("loading failed")
            _log.error("%sthe model of %s does not load: %s", REASON, self._model_dir, first_line(error))
            self.ping_status = 500
        else:
            _log.info("model loaded in %.1f s", time.monotonic() - began)
            self.ping_status = 200

    async def answer(self, body: bytes, content_type: str, accept: str, gone: threading.Event) -> Any:
        """The module's answer to one request, text.

        Raises:
            Exception: whatever the module raises.
        """
        module = self.module
        rows = module.rows_of(module.input_fn(body, content_type), self.model, gone.is_set)
        async for _ in self.progress(rows):
            pass
        return module.output_fn(module.answers_of(rows, self.model), accept)

    async def progress(self, rows: Sequence[Any]) -> AsyncIterator[Any]:
        """Complete rows beside those of other requests. Yields a row after each of its tokens, and at its end."""
        loop, news = asyncio.get_running_loop(), asyncio.Queue[tuple[Any, bool]]()

        def told(row: Any) -> None:
            loop.call_soon_threadsafe(news.put_nowait, (row, row.is_done))

        for row in rows:
            row.told = told
        self._scheduler.add(rows)
        self._wake()
        left = len(rows)
        while left:
            row, is_done = await news.get()
            left -= is_done
            yield row

    async def while_awaited(
        self, request: "Request", work: Awaitable[Any], seconds: float, gone: threading.Event
    ) -> Any:
        """The result of `work`. When the client has left or its time is up, `gone` is set, which ends generating.

        Raises:
            ClientLeftError, TimeoutError: that is so.
            Exception: whatever `work` raises.
        """
        task = asyncio.ensure_future(work)
        left = asyncio.create_task(_left(request))
        self._tasks.add(task)  # kept here, because asyncio does not keep it: it may end after this answer
        task.add_done_callback(self._forget)
        await asyncio.wait({task, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        has_left = left.done()
        left.cancel()
        if task.done():
            return task.result()
        gone.set()
        if has_left:
            raise ClientLeftError("the client has left")
        raise TimeoutError(f"not answered in {seconds:g} s; the header Lorasum-Timeout gives it more")

    def _forget(self, task: "asyncio.Future[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio complains of one that nobody waits for

    def _wake(self) -> None:
        """Have the model's thread complete what waits. It goes on until nothing does."""
        if self._running is None and self._scheduler.is_waited_for:
            self._running = asyncio.get_running_loop().run_in_executor(self._thread, self.module.run, self._scheduler)
            self._running.add_done_callback(self._rested)

    def _rested(self, ended: "asyncio.Future[None]") -> None:
        self._running = None
        if error := ended.exception():
            _log.error("the scheduler failed", exc_info=error)
            if isinstance(error, self.module.GpuLostError):  # another process can use it
                _log.error("%s%s", REASON, first_line(error))
                os._exit(1)  # else clients would wait, and /ping say that all is well
        self._wake()  # rows may have come just when it ended

    def _load(self) -> None:
        sys.path.insert(0, str(self._code_dir))
        spec = spec_from_file_location("inference", self._code_dir / "inference.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{self._code_dir / 'inference.py'} is not a Python module")
        self.module: Any = module_from_spec(spec)
        sys.modules["inference"] = self.module
        spec.loader.exec_module(self.module)
        if lacking := [name for name in NAMES if not hasattr(self.module, name)]:
            raise ImportError(
                f"its code, of another lorasum, lacks {', '.join(lacking)}: `lorasum train --again` makes it anew"
            )
        self.model = self.module.model_fn(self._model_dir)
        self._scheduler = self.module.scheduler(self.model)


def reason_of(error: Exception, gone: threading.Event) -> str:
    """What the handler's exception says, which has gone into the log: a fault with its traceback."""
    said = str(error) or type(error).__name__
    if gone.is_set() or read_refusal(said) is not None:
        _log.info("%s", first_line(error))
    else:
        _log.error("the handler failed", exc_info=error)
    return said


async def _left(request: "Request") -> None:
    """Wait until the client has left. Its request's body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
