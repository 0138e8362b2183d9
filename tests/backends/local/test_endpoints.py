"""Endpoints of the local backend: real processes, real HTTP, the real handler, a tiny random BLOOM."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
import waiting
from local_world import STUBS

from artifact import save_code
from lorasum.backends.base import RunningResource
from lorasum.backends.local import endpoints as local_endpoints
from lorasum.backends.local import processes
from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.records import EndpointRef, EndpointSpec, EndpointState
from lorasum.errors import BackendError, RefusedError
from lorasum.shared.requests import MAX_BODY, fill_template, refusal_text
from lorasum.system import paths

RUN, NAME = "a-run", "an-endpoint"
TEMPLATE = "Chat:\n{dialogue}\nTL;DR:"
BACKEND = LocalBackend()

BREAKING_HANDLER = """
import json, time
from generation.one_by_one import GpuLostError, answers_of, chat_prompt, rows_of, run, scheduler

def model_fn(model_dir):
    if (__import__("pathlib").Path(model_dir) / "config.json").read_text() == "slow":
        time.sleep(600)
    return 0

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    while data["do"] == "wait" and not __import__("os").path.exists(data["for"]):
        time.sleep(0.05)
    if data["do"] == "raise":
        raise KeyError("oh no")
    if data["do"] == "die":
        __import__("os")._exit(7)
    return data

def output_fn(prediction, accept):
    return prediction["do"] if prediction["do"] == "no json" else json.dumps([accept, prediction["do"]])
"""


LOST_GPU = """
class GpuLostError(RuntimeError):
    pass

class Rows:
    is_waited_for = True
    add = lambda *_: None

def run(_):
    raise GpuLostError("the GPU answers nothing more: CUDA error")

model_fn = input_fn = lambda *_: None
scheduler = lambda _: Rows()
rows_of = lambda *_: [Rows()]
answers_of = output_fn = chat_prompt = None
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASUM_HOME", str(folder))
        yield folder
        for one in BACKEND.live(RUN):
            BACKEND.delete_endpoint(RUN, one.name)


@pytest.fixture(scope="module")
def artifact(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training leaves: the model, lorasum.json, code/inference.py."""
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path_factory.mktemp("artifact") / "model"))
    record = {"template": TEMPLATE, "eos_token_id": 2, "generation": {"max_new_tokens": 6, "temperature": 0}}
    (folder / "lorasum.json").write_text(json.dumps(record))
    save_code(folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(artifact: Path) -> EndpointRef:
    """Started by a process that has ended since."""
    code = f"""
from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.records import EndpointSpec
print(LocalBackend().start_endpoint(EndpointSpec({RUN!r}, {NAME!r}, {str(artifact)!r})).location)
"""
    started = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return EndpointRef(NAME, started.stdout.strip(), str(artifact))


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[EndpointSpec]:
    """An endpoint that loads at once and does as it is told."""
    yield _toy(tmp_path)
    BACKEND.delete_endpoint(RUN, "toy")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointRef]:
    """Such an endpoint, in service for several tests."""
    yield BACKEND.start_endpoint(_toy(tmp_path_factory.mktemp("running")))
    BACKEND.delete_endpoint(RUN, "toy")


def _toy(tmp_path: Path) -> EndpointSpec:
    shutil.copytree(STUBS / "generation", tmp_path / "code" / "generation")
    (tmp_path / "code" / "inference.py").write_text(BREAKING_HANDLER)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("")
    return EndpointSpec(RUN, "toy", str(tmp_path / "model"), code=tmp_path / "code", startup_timeout=200)


def pids() -> list[int]:
    return [process.pid for process in local_endpoints.processes_of(local_endpoints.folder_of(RUN, "toy"))]


def test_an_endpoint_outlives_the_process_that_started_it(endpoint: EndpointRef) -> None:
    state = BACKEND.endpoint_state(RUN, NAME)
    assert (state.status, state.ref) == ("in_service", endpoint)
    assert httpx.get(f"{endpoint.location}/ping").status_code == 200
    assert BACKEND.live(RUN) == [RunningResource("endpoint", NAME, endpoint.location)]


def test_it_answers_one_completion_per_prompt_as_the_handler_does(endpoint: EndpointRef, artifact: Path) -> None:
    import inference

    prompts = ["Hi", "Ana: is the shop open?\nRaj: 🙂 till six"]
    payload = {"inputs": prompts, "parameters": {"max_new_tokens": 9}}
    answer = BACKEND.invoke(endpoint, payload, timeout=60)
    handled = inference.input_fn(json.dumps(payload), "application/json")
    assert answer == inference.predict_fn(handled, inference.model_fn(str(artifact)))
    assert len(answer) == 2


def test_a_dialogue_is_put_into_the_artifacts_own_template(endpoint: EndpointRef) -> None:
    dialogue = "Ana: {dialogue}\nRaj: ok "
    answer = BACKEND.invoke(endpoint, {"dialogue": dialogue}, timeout=60)
    assert answer == BACKEND.invoke(endpoint, {"inputs": [fill_template(TEMPLATE, dialogue)]}, timeout=60)


def test_a_refused_request_carries_the_handlers_words(endpoint: EndpointRef) -> None:
    with pytest.raises(RefusedError, match="the request: unknown parameter 'max_tokens'; known: max_new") as caught:
        BACKEND.invoke(endpoint, {"inputs": "a", "parameters": {"max_tokens": 3}}, timeout=60)
    assert caught.value.hint
    answer = httpx.post(f"{endpoint.location}/invocations", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(refusal_text("the body is not JSON"))


def test_a_request_over_sagemakers_limit_is_refused_by_client_and_server(endpoint: EndpointRef) -> None:
    with pytest.raises(BackendError, match="the request is 6,291,471 bytes long") as caught:
        BACKEND.invoke(endpoint, {"inputs": "a" * (MAX_BODY + 1)}, timeout=60)
    assert "batch_size" in caught.value.hint
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{endpoint.location}/invocations", content=b"a" * (MAX_BODY + 1), headers=headers)
    assert answer.status_code == 413
    assert httpx.get(f"{endpoint.location}/ping").status_code == 200


def test_an_endpoint_that_serves_the_artifact_is_adopted(endpoint: EndpointRef, artifact: Path) -> None:
    before = BACKEND.live(RUN)
    assert BACKEND.start_endpoint(EndpointSpec(RUN, NAME, str(artifact))) == endpoint
    assert BACKEND.live(RUN) == before


def test_an_endpoint_that_serves_another_artifact_is_replaced(toy: EndpointSpec, tmp_path: Path) -> None:
    first = BACKEND.start_endpoint(toy)
    [old] = pids()
    other = shutil.copytree(toy.artifact, tmp_path / "other")
    second = BACKEND.start_endpoint(replace(toy, artifact=str(other)))
    [new] = pids()
    assert (first.artifact, second.artifact) == (toy.artifact, str(other))
    assert old != new
    assert not psutil.pid_exists(old)
    assert BACKEND.invoke(second, {"do": "echo"}, timeout=60) == ["application/json", "echo"]


def test_an_endpoint_moves_when_another_port_is_asked_for(toy: EndpointSpec) -> None:
    first = BACKEND.start_endpoint(toy)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    second = BACKEND.start_endpoint(replace(toy, port=port))
    assert second.location == f"http://127.0.0.1:{port}" != first.location
    assert len(pids()) == 1


def test_a_taken_port_is_named_with_its_holder_and_nothing_is_left(toy: EndpointSpec) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            BackendError, match=f"port {port} on 127.0.0.1 is taken by process {psutil.Process().pid} "
        ) as e:
            BACKEND.start_endpoint(replace(toy, port=port))
    assert "local.port" in e.value.hint
    assert BACKEND.endpoint_state(RUN, "toy").status == "absent"
    assert BACKEND.start_endpoint(replace(toy, port=port)).location.endswith(f":{port}")


def test_a_model_that_does_not_load_fails_with_its_reason(toy: EndpointSpec, tmp_path: Path) -> None:
    assert toy.code
    broken = Path(shutil.copytree(toy.code, tmp_path / "broken"))
    with (broken / "inference.py").open("a") as code:
        code.write("\n\ndef model_fn(folder):\n    raise OSError('no weights\\nin there')\n")
    with pytest.raises(BackendError, match=r"endpoint toy did not start: the model of .* does not load: ") as caught:
        BACKEND.start_endpoint(replace(toy, code=broken))
    assert caught.value.message.endswith("no weights"), "its first line"
    assert str(paths.run_dir(RUN) / "endpoints" / "toy" / "log") in caught.value.hint
    assert BACKEND.endpoint_state(RUN, "toy").status == "absent"
    assert BACKEND.start_endpoint(toy)


def test_an_artifact_whose_code_is_of_another_release_says_so(toy: EndpointSpec) -> None:
    assert toy.code
    (toy.code / "inference.py").write_text(LOST_GPU.replace("def run(", "def complete("))
    with pytest.raises(BackendError, match=r"its code, of another lorasum, lacks run: `lorasum train --again` makes"):
        BACKEND.start_endpoint(toy)


def test_a_model_that_takes_too_long_is_stopped_and_the_limit_named(toy: EndpointSpec) -> None:
    Path(toy.artifact, "config.json").write_text("slow")
    with pytest.raises(BackendError, match="endpoint toy was not ready in 3 s") as caught:
        BACKEND.start_endpoint(replace(toy, startup_timeout=3))
    assert "local.startup_timeout" in caught.value.hint
    assert pids() == []


def test_a_starting_endpoint_answers_503_and_counts_as_creating(toy: EndpointSpec) -> None:
    Path(toy.artifact, "config.json").write_text("slow")
    starting = threading.Thread(target=_start_and_fail, args=(toy,))
    starting.start()
    folder = paths.run_dir(RUN) / "endpoints" / "toy"
    waiting.until(lambda: (folder / "server.json").exists())
    port = json.loads((folder / "server.json").read_text())["port"]
    waiting.until(lambda: _answers(port))
    assert httpx.get(f"http://127.0.0.1:{port}/ping", timeout=60).status_code == 503
    assert httpx.post(f"http://127.0.0.1:{port}/invocations", json={}, timeout=60).status_code == 503
    assert BACKEND.endpoint_state(RUN, "toy").status == "creating"
    assert BACKEND.delete_endpoint(RUN, "toy")
    starting.join()


def test_an_absent_or_codeless_artifact_is_refused_before_the_start(tiny_model_dir: Path) -> None:
    with pytest.raises(BackendError, match="there is no model folder /gone"):
        BACKEND.start_endpoint(EndpointSpec(RUN, "toy", "/gone"))
    with pytest.raises(BackendError, match=r"there is no .*code/inference.py"):
        BACKEND.start_endpoint(EndpointSpec(RUN, "toy", str(tiny_model_dir)))
    assert BACKEND.endpoint_state(RUN, "toy").status == "absent"


def test_a_busy_endpoint_answers_ping_and_a_late_answer_names_the_limit(toy: EndpointSpec, tmp_path: Path) -> None:
    ref = BACKEND.start_endpoint(toy)
    with pytest.raises(BackendError, match=r"did not answer in 0.5 s") as caught:
        BACKEND.invoke(ref, {"do": "wait", "for": str(tmp_path / "go-on")}, timeout=0.5)
    assert "predict.timeout" in caught.value.hint
    assert BACKEND.endpoint_state(RUN, "toy").status == "in_service"
    (tmp_path / "go-on").touch()
    assert BACKEND.invoke(ref, {"do": "echo"}, timeout=60) == ["application/json", "echo"]


def test_handler_failures_do_not_end_the_endpoint(toy: EndpointSpec) -> None:
    ref = BACKEND.start_endpoint(toy)
    with pytest.raises(BackendError, match="endpoint toy failed: 'oh no'") as caught:
        BACKEND.invoke(ref, {"do": "raise"}, timeout=60)
    assert not isinstance(caught.value, RefusedError), "a fault of the server is not the request's"
    with pytest.raises(BackendError, match="answered what is not JSON: 'no json'"):
        BACKEND.invoke(ref, {"do": "no json"}, timeout=60)
    assert BACKEND.invoke(ref, {"do": "echo"}, timeout=60) == ["application/json", "echo"]


def test_an_endpoint_whose_gpu_is_lost_ends_and_says_so(toy: EndpointSpec) -> None:
    """Another process may find the GPU well, and nobody waits for answers that cannot come."""
    assert toy.code
    (toy.code / "inference.py").write_text(LOST_GPU)
    endpoint = BACKEND.start_endpoint(toy)
    with pytest.raises(BackendError):
        BACKEND.invoke(endpoint, {}, timeout=60)
    waiting.until(lambda: BACKEND.endpoint_state(RUN, "toy").status == "failed")
    why = BACKEND.endpoint_state(RUN, "toy").reason
    assert why == "its process is gone; its log ends: the GPU answers nothing more: CUDA error"


def test_a_dead_endpoint_says_so_until_deleted_or_started_again(toy: EndpointSpec) -> None:
    ref = BACKEND.start_endpoint(toy)
    with pytest.raises(BackendError, match="endpoint toy broke off while answering"):
        BACKEND.invoke(ref, {"do": "die"}, timeout=60)
    waiting.until(lambda: not pids())
    with pytest.raises(BackendError, match=f"endpoint toy does not answer at {ref.location}") as caught:
        BACKEND.invoke(ref, {"do": "echo"}, timeout=60)
    assert "lorasum deploy" in caught.value.hint
    state = BACKEND.endpoint_state(RUN, "toy")
    assert (state.status, state.ref) == ("failed", ref)
    assert "model loaded" in state.reason

    again = BACKEND.start_endpoint(toy)
    assert BACKEND.invoke(again, {"do": "echo"}, timeout=60) == ["application/json", "echo"]
    assert BACKEND.delete_endpoint(RUN, "toy") is True
    assert BACKEND.delete_endpoint(RUN, "toy") is False
    assert BACKEND.endpoint_state(RUN, "toy").status == "absent"


DAMAGED = [b"", b"{", b"null", b"[]", b"3", b"{}", b'{"port": "x", "pid": 1, "artifact": 2}', b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:9]))
def test_a_damaged_record_hides_no_running_endpoint(running: EndpointRef, content: bytes) -> None:
    (paths.run_dir(RUN) / "endpoints" / "toy" / "server.json").write_bytes(content)
    assert BACKEND.endpoint_state(RUN, "toy") == EndpointState("in_service", running)
    assert RunningResource("endpoint", "toy", running.location) in BACKEND.live(RUN)


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:9]))
def test_a_damaged_record_of_a_dead_endpoint_is_reported_and_deleted(home: Path, content: bytes) -> None:
    folder = paths.run_dir(RUN) / "endpoints" / "dead"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.json").write_bytes(content)
    state = BACKEND.endpoint_state(RUN, "dead")
    assert (state.status, state.ref) == ("failed", EndpointRef("dead", "", ""))
    assert BACKEND.delete_endpoint(RUN, "dead")
    assert BACKEND.endpoint_state(RUN, "dead").status == "absent"


def test_a_record_of_another_process_is_not_believed(running: EndpointRef) -> None:
    record = {"port": 1, "pid": 1, "artifact": "/other"}
    (paths.run_dir(RUN) / "endpoints" / "toy" / "server.json").write_text(json.dumps(record))
    assert BACKEND.endpoint_state(RUN, "toy") == EndpointState("in_service", running)


def test_a_server_that_ignores_sigterm_is_killed(toy: EndpointSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_endpoints, "_GRACE", 0.5)
    BACKEND.start_endpoint(toy)
    [pid] = pids()
    psutil.Process(pid).suspend()
    assert BACKEND.delete_endpoint(RUN, "toy") is True
    assert pids() == []


def _log() -> str:
    return (paths.run_dir(RUN) / "endpoints" / "toy" / "log").read_text()


def test_a_server_ends_at_its_time_which_a_later_deploy_moves(toy: EndpointSpec) -> None:
    """No other process of lorasum runs: the server itself knows the time."""
    BACKEND.expire_endpoint(RUN, "toy", datetime.now(UTC) + timedelta(hours=1))
    ref = BACKEND.start_endpoint(toy)
    [server] = map(psutil.Process, pids())
    assert BACKEND.invoke(ref, {"do": "echo"}, timeout=60) == ["application/json", "echo"]
    BACKEND.expire_endpoint(RUN, "toy", moved := datetime.now(UTC) + timedelta(seconds=1))
    waiting.until(lambda: not processes.alive(server))
    assert datetime.now(UTC) > moved
    assert "its time was over at " in _log()
    assert BACKEND.endpoint_state(RUN, "toy").status == "absent"
    assert "toy" not in [one.name for one in BACKEND.live(RUN)]


def test_a_replaced_server_keeps_the_time_and_a_deleted_one_does_not(toy: EndpointSpec, tmp_path: Path) -> None:
    written = paths.run_dir(RUN) / "endpoints" / "toy" / "expires_at"
    BACKEND.start_endpoint(toy)
    BACKEND.expire_endpoint(RUN, "toy", end := datetime.now(UTC) + timedelta(hours=1))
    other = shutil.copytree(toy.artifact, tmp_path / "other")
    BACKEND.start_endpoint(replace(toy, artifact=str(other)))
    assert datetime.fromisoformat(written.read_text()) == end
    BACKEND.delete_endpoint(RUN, "toy")
    assert not written.exists()


def test_a_damaged_time_ends_no_server(toy: EndpointSpec) -> None:
    BACKEND.start_endpoint(toy)
    for content in ("", "soon", "2020-01-01T00:00:00"):
        (paths.run_dir(RUN) / "endpoints" / "toy" / "expires_at").write_text(content)
        time.sleep(1.2)  # it looks every second
        assert BACKEND.endpoint_state(RUN, "toy").status == "in_service", content


def _start_and_fail(spec: EndpointSpec) -> None:
    with pytest.raises(BackendError, match="endpoint toy did not start"):
        BACKEND.start_endpoint(spec)


def _answers(port: int) -> bool:
    try:
        return bool(httpx.get(f"http://127.0.0.1:{port}/ping").status_code)
    except httpx.TransportError:
        return False
