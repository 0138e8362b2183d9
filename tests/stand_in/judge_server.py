"""A judge that speaks OpenAI's chat protocol: a real server in a thread, which says what a test tells it to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD: dict[str, Any] = {"faithfulness": 4, "coverage": 3, "conciseness": 5, "reason": "The price is missing."}


class JudgeServer:
    """Answers each chat completion with what `say` makes of its body: a text, or (HTTP status, text)."""

    def __init__(self) -> None:
        self.say: Callable[[dict[str, Any]], str | tuple[int, str]] = lambda _: json.dumps(GOOD)
        self.closed = threading.Event()
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append((self.path, body, self.headers.get("Authorization")))
                said = server.say(body)
                status, text = (200, said) if isinstance(said, str) else said
                message = {"choices": [{"message": {"role": "assistant", "content": text}}]}
                usage = {"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(message | usage).encode() if status == 200 else text.encode())

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Say nothing."""

        return Handler
