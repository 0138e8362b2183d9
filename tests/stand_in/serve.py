"""The serving half of the Hugging Face inference container: the real toolkit's handler behind /ping and /invocations.

The toolkit on PyPI (2.6.0) asks transformers for is_tf_available, which transformers 5 no longer has, nor has the 5.5.3
of the image: the image's toolkit is a later one that PyPI has not got. The one missing name is put back; the handler,
its reading of our functions and its errors are the toolkit's own.
"""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

_MODEL = "/opt/ml/model"


def main(port: int) -> None:
    """Install the model's pins, load it, then listen."""
    pins = Path(_MODEL) / "code" / "requirements.txt"
    if pins.is_file():  # the image would download them; here they must be there
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "-r", str(pins)]
        subprocess.run(command, check=True)
    import transformers.file_utils

    vars(transformers.file_utils).setdefault("is_tf_available", lambda: False)
    from mms.context import Context, RequestProcessor
    from mms.metrics.metrics_store import MetricsStore
    from mms.service import PredictionException
    from sagemaker_huggingface_inference_toolkit.handler_service import HuggingFaceHandlerService

    context = Context("model", _MODEL, {}, 1, None, "1")
    service = HuggingFaceHandlerService()
    service.initialize(context)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            context.request_processor = [RequestProcessor(dict(self.headers))]
            context.metrics = MetricsStore("1", "model")
            try:
                [answer] = service.handle([{"body": body}], context)
            except PredictionException as error:
                said = {"code": error.error_code, "type": "PredictionException", "message": error.message}
                self._answer(error.error_code, json.dumps(said).encode())
            else:
                self._answer(200, answer.encode() if isinstance(answer, str) else answer)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            print(format % args, flush=True)

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder is not in the container
    os.chdir("/")
    main(int(sys.argv[1]))
