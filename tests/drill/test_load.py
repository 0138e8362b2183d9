"""The local endpoint under load: every request is answered with its own answer, or refused, and memory stays flat."""

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from local_world import STUBS
from world import FULL

from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.local.processes import find
from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.errors import RefusedError

pytestmark = pytest.mark.slow

CODE = """
import json
from generation.one_by_one import GpuLostError, answers_of, chat_prompt, rows_of, run, scheduler
from shared.requests import refusal_text

def model_fn(folder): return None

def input_fn(body, content_type):
    request = json.loads(body)
    if not isinstance(request.get("inputs"), list): raise ValueError(refusal_text("inputs must be a list"))
    return request

def predict_fn(request, model): return [{"generated_text": f"answer to {text}"} for text in request["inputs"]]

def output_fn(answer, accept): return json.dumps(answer)
"""
REQUESTS, AT_ONCE = (1000 if FULL else 200), 32
"""A twentieth of them is bad."""


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointRef]:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(CODE)
    scripts = Path(__file__).parents[2] / "container_scripts"
    shutil.copytree(scripts / "shared", code / "shared")
    shutil.copytree(STUBS / "generation", code / "generation")
    backend = LocalBackend()
    spec = EndpointSpec(run="load", name="load", artifact=str(tmp_path / "model"), port=0, startup_timeout=120)
    yield backend.start_endpoint(spec)
    backend.delete_endpoint("load", "load")


def test_under_load_nothing_is_lost_or_crossed(endpoint: EndpointRef, tried: Counter[str]) -> None:
    backend = LocalBackend()
    [(process, _)] = find("--state-dir", lambda value: value.endswith("endpoints/load"))

    def ask(number: int) -> str:
        if number % 20 == 0:
            with pytest.raises(RefusedError, match="inputs must be a list"):
                backend.invoke(endpoint, {"inputs": number}, 60)
            return "refused"
        [answer] = backend.invoke(endpoint, {"inputs": [f"{number}"]}, 60)
        return str(answer["generated_text"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        warm = list(pool.map(ask, range(100)))
        before = process.memory_info().rss
        answers = list(pool.map(ask, range(REQUESTS)))
    expected = ["refused" if number % 20 == 0 else f"answer to {number}" for number in range(REQUESTS)]
    assert answers == expected
    assert warm == expected[:100]
    assert process.memory_info().rss - before < 20e6
    tried["requests at 32 at once to a local endpoint"] += REQUESTS
