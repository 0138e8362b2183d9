"""The serving half of the Hugging Face inference container: the real toolkit's handler, in multi-model-server's habits.

The server answers /ping with 200 as soon as it listens, whatever its worker does. The one worker loads the model; a
request waits for it. An error in loading is swallowed, and each request then tries to load again and is a 400 with
that error. An exception in a handler is a 400 too.

The toolkit on PyPI (2.6.0) asks transformers for is_tf_available, which transformers 5 no longer has, nor has the 5.5.3
of the image: the image's toolkit is a later one that PyPI has not got. The one missing name is put back; the handler,
its reading of our functions and its errors are the toolkit's own.
"""

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from serve_http import Answer, serve

_MODEL = "/opt/ml/model"


class Worker:
    """The one worker: it loads the model in the background, and answers one request at a time."""

    def __init__(self, service: Any) -> None:
        from mms.context import Context

        self._context = Context("model", _MODEL, {}, 1, None, "1")
        self._service = service
        self._busy = threading.Lock()
        self._busy.acquire()  # until the model is loaded, or failed to
        threading.Thread(target=self._load, daemon=True).start()

    def handle(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """What the server makes of a request."""
        from mms.context import RequestProcessor
        from mms.metrics.metrics_store import MetricsStore
        from mms.service import PredictionException

        with self._busy:
            self._context.request_processor = [RequestProcessor(dict(headers))]
            self._context.metrics = MetricsStore("1", "model")
            try:
                [answer] = self._service.handle([{"body": body}], self._context)
            except PredictionException as error:
                said = {"code": error.error_code, "type": "InternalServerException", "message": error.message}
                return error.error_code, json.dumps(said).encode()
            return 200, answer.encode() if isinstance(answer, str) else answer

    def _load(self) -> None:
        try:
            self._service.initialize(self._context)
        except Exception as error:  # as the server does: it logs, and serves on
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            self._busy.release()


class PlainService:
    """What the toolkit's service does with our four functions, for images named plain:...

    The toolkit imports torch and transformers, which takes seconds that a test of the service's own habits can spare.
    """

    def __init__(self) -> None:
        self._code: Any = None
        self._model: Any = None

    def initialize(self, context: Any) -> None:
        sys.path.insert(0, f"{_MODEL}/code")
        code = importlib.import_module("inference")
        self._model = code.model_fn(_MODEL)
        self._code = code

    def handle(self, data: list[dict[str, bytes]], context: Any) -> list[str]:
        from mms.service import PredictionException

        try:
            if self._code is None:
                self.initialize(context)
            request = self._code.input_fn(data[0]["body"].decode(), "application/json")
            return [self._code.output_fn(self._code.predict_fn(request, self._model), "application/json")]
        except Exception as error:
            raise PredictionException(str(error), 400) from error


def main() -> None:
    """Install the model's pins, start the worker, listen at once."""
    pins = Path(_MODEL) / "code" / "requirements.txt"
    if pins.is_file() and not all(map(is_met, pins.read_text().splitlines())):  # pip would take two seconds to see it
        command = [sys.executable, "-m", "pip", "install", "--quiet", "-r", str(pins)]
        subprocess.run(command, check=True, env={"PIP_NO_INDEX": "1", **os.environ})
    serve(Worker(PlainService() if os.environ.get("STAND_IN_PLAIN") else toolkit()).handle)


def is_met(line: str) -> bool:
    """Whether a line of a requirements.txt asks for nothing, or for the version of a package that is there."""
    name, _, wanted = line.partition("==")
    try:
        return line.startswith("#") or version(name) == wanted
    except (PackageNotFoundError, ValueError):
        return False


def toolkit() -> Any:
    """The image's own service."""
    import transformers.file_utils

    vars(transformers.file_utils).setdefault("is_tf_available", lambda: False)
    from sagemaker_huggingface_inference_toolkit.handler_service import HuggingFaceHandlerService

    return HuggingFaceHandlerService()


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder is not in the container
    os.chdir("/")
    main()
