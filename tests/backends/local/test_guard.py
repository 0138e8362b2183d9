"""A server on this machine answers programs of this machine, and waits for none of them for ever."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import waiting
from forks import Popen
from local_world import STUBS

from lorasum.backends.local.guard import refusal

HANDLER = """
import json, pathlib, time
from generation import one_by_one
from generation.one_by_one import GpuLostError, answers_of, chat_prompt, run, scheduler

def model_fn(model_dir):
    return pathlib.Path(model_dir)

def input_fn(body, content_type):
    return json.loads(body)

def rows_of(data, model, nobody_waits):
    return one_by_one.rows_of((data, nobody_waits), model)

def predict_fn(asked, model):
    data, stop = asked
    (model / "started").touch()
    for token in range(data["tokens"]):
        if stop():
            (model / "abandoned").touch()
            raise RuntimeError("abandoned")
        time.sleep(0.02)
    return data

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
SERVER = """
import sys
from lorasum.backends.local import guard, server
guard.HEAD_WITHIN = guard.BODY_WITHIN = float(sys.argv.pop(1))
sys.exit(server.main())
"""
LONG = {"tokens": 100_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """A server that waits for the words of a client of a busy machine."""
    with serve(folder, 600) as address:
        yield address


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that waits for a client's words for one second."""
    with serve(tmp_path_factory.mktemp("impatient"), 1) as address:
        yield address


@contextmanager
def serve(folder: Path, seconds: float) -> Iterator[str]:
    shutil.copytree(STUBS / "generation", folder / "generation")
    (folder / "inference.py").write_text(HANDLER)
    flags = [str(seconds), "--model-dir", str(folder), "--code-dir", str(folder), "--state-dir", str(folder)]
    with Popen([sys.executable, "-c", SERVER, *flags], stderr=subprocess.DEVNULL) as process:
        waiting.until((folder / "server.json").exists)
        address = f"http://127.0.0.1:{json.loads((folder / 'server.json').read_text())['port']}"
        waiting.until(lambda: _ready(address))
        yield address
        process.kill()


def post(url: str, tokens: int = 1, **headers: str) -> httpx.Response:
    given = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.post(f"{url}/invocations", content=json.dumps({"tokens": tokens}), headers=given, timeout=60)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "127.0.0.1", "localhost:8000", "LocalHost", "[::1]:8000"])
def test_this_machine_is_answered_under_each_of_its_names(host: str) -> None:
    assert refusal("GET", {"host": host}) == (200, "")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": ""},
        {"host": "evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1:8000", "origin": "https://evil.example"},
        {"host": "localhost:8000", "origin": "http://localhost:3000"},
        {"host": "127.0.0.1:8000", "origin": "null"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "cross-site"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "same-site"},
    ],
)
def test_a_web_page_is_not_answered(headers: dict[str, str]) -> None:
    kind = {"content-type": "application/json"}
    assert refusal("GET", headers)[0] == 403
    assert refusal("POST", headers | kind)[0] == 403


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_form_sends_is_not_answered(kind: str) -> None:
    assert refusal("POST", {"host": "localhost", "content-type": kind})[0] == 415


def test_the_server_refuses_web_pages_and_answers_programs(url: str) -> None:
    assert post(url).json() == {"tokens": 1}
    assert post(url, Content_Type="application/json; charset=utf-8").status_code == 200
    assert post(url, Host="evil.example").status_code == 403
    assert post(url, Origin="https://evil.example").status_code == 403
    assert post(url, Content_Type="text/plain").status_code == 415
    assert httpx.get(f"{url}/ping", headers={"Host": "evil.example"}, timeout=60).status_code == 403
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{url}/invocations", headers=preflight, timeout=60)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\nGET /pi",
        b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["silence", "half of the headers", "half of a second request", "nothing after an answer"],
)
def test_a_connection_on_which_nothing_comes_is_closed(impatient: str, sent: bytes) -> None:
    with connect(impatient) as client:
        with suppress(ConnectionError):  # it is closed already, if this process has been kept waiting
            client.sendall(sent)
        assert _closed(client)


def test_headers_that_come_byte_by_byte_are_not_waited_for(impatient: str) -> None:
    with connect(impatient) as client, suppress(ConnectionError):
        for _ in range(600):
            client.sendall(b"G")
            time.sleep(0.1)
        pytest.fail("it was waited for a minute")


def test_a_body_that_does_not_come_is_answered_and_closed(impatient: str) -> None:
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    answer = b""
    while not answer:  # none comes if this process is kept waiting before it has sent the headers
        with connect(impatient) as client, suppress(ConnectionError):
            client.sendall(head)
            answer = client.recv(1000)
            assert _closed(client)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_left_is_not_generated_for(url: str, folder: Path) -> None:
    for name in ("started", "abandoned"):
        (folder / name).unlink(missing_ok=True)
    with connect(url) as client:
        client.sendall(request(json.dumps(LONG).encode()))
        waiting.until((folder / "started").exists)
        time.sleep(0.5)
        assert not (folder / "abandoned").exists()
    waiting.until((folder / "abandoned").exists)
    assert post(url).status_code == 200


def test_a_request_ends_at_its_deadline(url: str, folder: Path) -> None:
    (folder / "abandoned").unlink(missing_ok=True)
    answer = post(url, LONG["tokens"], Lorasum_Timeout="0.5")
    assert (answer.status_code, answer.json()) == (
        504,
        {"error": "not answered in 0.5 s; the header Lorasum-Timeout gives it more"},
    )
    waiting.until((folder / "abandoned").exists)
    assert post(url).status_code == 200


def test_waiting_for_a_turn_counts_towards_the_deadline(url: str, folder: Path) -> None:
    (folder / "started").unlink(missing_ok=True)
    with connect(url) as first:
        first.sendall(request(json.dumps(LONG).encode()))
        waiting.until((folder / "started").exists)
        assert post(url, Lorasum_Timeout="0.5").status_code == 504
    assert post(url).status_code == 200


def request(body: bytes, length: int = 0) -> bytes:
    head = "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {length or len(body)}\r\n\r\n".encode() + body


def connect(url: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0))
    client.settimeout(200)
    return client


def _closed(client: socket.socket) -> bool:
    """Whether the server closes the connection, after what it may still say."""
    try:
        while client.recv(1000):
            pass
    except ConnectionResetError:
        return True
    return True


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping").status_code == 200
    except httpx.TransportError:
        return False
