"""HTTP on a socket file: a container without a network is reached all the same, as the service reaches its own."""

import http.client
import socket
import socketserver
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

SOCKET = "/opt/ml/serve.sock"
"""Where the container listens; in its folder on the host it is ml/serve.sock."""

Answer = tuple[int, bytes]


def serve(answer: Callable[[bytes, Mapping[str, str]], Answer]) -> None:
    """Answer /ping with 200 and everything else with what `answer` makes of body and headers, each in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, b"")

        def do_POST(self) -> None:
            self._send(*answer(self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)))

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "socket"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            print(format % args, flush=True)

    with socketserver.ThreadingUnixStreamServer(SOCKET, Handler) as server:
        server.daemon_threads = True
        server.serve_forever()


def ask(path: str, method: str, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
    """Status and body of the answer that the server at the socket file `path` gives; `timeout` in seconds.

    Raises:
        TimeoutError: it took longer.
        OSError: nobody listens, or the connection broke.
    """
    connection = http.client.HTTPConnection("container", timeout=timeout)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(timeout)
        connection.sock.connect(path)
        connection.request(method, url, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"the connection broke: {error!r}") from error
    finally:
        connection.close()
