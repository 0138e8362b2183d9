"""A judge that speaks OpenAI's chat protocol: a real server in a thread, which says what a test tells it to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback_server import LoopbackServer

GOOD: dict[str, Any] = {"faithfulness": 4, "coverage": 3, "conciseness": 5, "reason": "The price is missing."}


class JudgeServer(LoopbackServer):
    """Answers each chat completion with what `say` makes of its body: a text, or (HTTP status, text)."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.say: Callable[[dict[str, Any]], str | tuple[int, str]] = lambda _: json.dumps(GOOD)
        self.closed = threading.Event()
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def __exit__(self, *error: object) -> None:
        self.closed.set()
        super().__exit__(*error)


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body, self.headers.get("Authorization")))
        said = self.server.say(body)
        status, text = (200, said) if isinstance(said, str) else said
        message = {"choices": [{"message": {"role": "assistant", "content": text}}]}
        usage = {"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(message | usage).encode() if status == 200 else text.encode())

    def log_message(self, *_: object) -> None: ...
