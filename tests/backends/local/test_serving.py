"""Several requests at once, and OpenAI's protocol: a real server process, a tiny model with a chat format."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from math import inf
from pathlib import Path
from typing import Any

import httpx
import pytest

import inference
from artifact import save_code
from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.errors import RefusedError

RUN = "served-run"
Let = Callable[[float], None]
BACKEND = LocalBackend()
HELD = """
load = model_fn

def model_fn(folder):
    \"\"\"A model that makes no more passes than the file `passes` says, from the last time on that it said "inf".\"\"\"
    served, passes, made = load(folder), Path(folder, "passes"), 0

    def wait(*_):
        nonlocal made
        made = 0 if passes.read_text() == "inf" else made + 1
        while made > float(passes.read_text()):
            time.sleep(0.01)

    served.generator.model.register_forward_pre_hook(wait)
    return served
"""
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def artifact(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training leaves. Every token that the model writes depends on those before it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(shutil.copytree(tiny_model_dir, tmp_path_factory.mktemp("artifact") / "model"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(weight)))
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    record = {"template": "Chat:\n{dialogue}\nTL;DR:", "eos_token_id": 2, "generation": {"max_new_tokens": 12}}
    (folder / "lorasum.json").write_text(json.dumps(record))
    save_code(folder)
    with (folder / "code" / "inference.py").open("a") as code:
        code.write(HELD)
    (folder / "passes").write_text("inf")
    return folder


@pytest.fixture(scope="module")
def served(artifact: Path) -> inference.Served:
    return inference.model_fn(str(artifact))


@pytest.fixture(scope="module")
def client(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASUM_HOME", str(tmp_path_factory.mktemp("home")))
        endpoint = BACKEND.start_endpoint(EndpointSpec(RUN, RUN, str(artifact), startup_timeout=300))
        with httpx.Client(base_url=endpoint.location, timeout=300) as client:
            yield client
        BACKEND.delete_endpoint(RUN, RUN)


def alone(served: inference.Served, payload: dict[str, Any]) -> list[str]:
    data = inference.input_fn(json.dumps(payload), "application/json")
    return [answer["generated_text"] for answer in inference.predict_fn(data, served)]


def ask(client: httpx.Client, route: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"/v1/{route}", json={"model": RUN, **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def events(client: httpx.Client, route: str, **body: Any) -> list[dict[str, Any]]:
    with client.stream("POST", f"/v1/{route}", json={"model": RUN, "stream": True, **body}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.fixture
def let(artifact: Path) -> Iterator[Let]:
    """Let the model make so many passes in this test, and then wait."""

    def let(passes: float) -> None:
        (artifact / "passes.part").write_text(str(passes))
        (artifact / "passes.part").rename(artifact / "passes")

    yield let
    let(inf)


def is_answered_meanwhile(let: Let, client: httpx.Client, **asked: Any) -> bool:
    """Whether the model completes a request in 900 passes, and so not after the 1,000 of another one."""
    answered: set[Any] = set()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, client, "completions", **asked)
        for passes in range(100, 901, 50):
            let(passes)
            answered = answered or wait([asking], 2).done
        let(inf)
    return bool(answered)


def test_requests_that_come_together_get_the_answers_they_get_alone(
    client: httpx.Client, served: inference.Served
) -> None:
    payloads = [
        {"inputs": [f"Ana: {number}" * (1 + number % 5)], "parameters": {"max_new_tokens": 3 + number % 9}}
        for number in range(32)
    ]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda payload: client.post("/invocations", json=payload).json(), payloads))
    assert [[row["generated_text"] for row in answer] for answer in found] == [alone(served, one) for one in payloads]


def test_a_short_request_does_not_wait_for_the_end_of_a_long_one(client: httpx.Client, let: Let) -> None:
    """The long one is 16 streams of 1,000 tokens, which have begun when the short one is asked."""
    body = {"model": RUN, "stream": True, "prompt": [f"Ana: {number}" for number in range(16)], "max_tokens": 1000}
    let(4)
    with client.stream("POST", "/v1/completions", json=body) as response:
        next(response.iter_lines())
        assert is_answered_meanwhile(let, client, prompt="Ben: ho", max_tokens=1)


def test_a_completion_has_text_end_and_counts(client: httpx.Client, served: inference.Served) -> None:
    found = ask(client, "completions", prompt=["Ana: hi", "Ben: ho there"], max_tokens=5, temperature=0)
    payload = {"inputs": ["Ana: hi", "Ben: ho there"], "parameters": {"max_new_tokens": 5}}
    assert [choice["text"] for choice in found["choices"]] == alone(served, payload)
    assert {choice["finish_reason"] for choice in found["choices"]} <= {"length", "stop"}
    prompts = sum(len(served.tokenizer(text)["input_ids"]) for text in payload["inputs"])
    assert found["usage"]["prompt_tokens"] == prompts
    assert found["usage"]["completion_tokens"] <= 10


def test_one_user_message_is_a_dialogue_and_several_are_a_chat(client: httpx.Client, served: inference.Served) -> None:
    [dialogue] = alone(served, {"dialogue": "Ana: hi"})
    found = ask(client, "chat/completions", messages=[{"role": "user", "content": "Ana: hi"}])
    assert found["choices"][0]["message"] == {"role": "assistant", "content": dialogue}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ana: hi"}]
    [chat] = alone(served, {"inputs": "<system>Be brief.\n<user>Ana: hi\n<assistant>"})
    assert ask(client, "chat/completions", messages=messages)["choices"][0]["message"]["content"] == chat


def test_the_pieces_of_a_stream_are_the_whole_answer(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Ana: hi 🙂"}]
    whole = ask(client, "chat/completions", messages=messages)
    *pieces, counts = events(client, "chat/completions", messages=messages, stream_options={"include_usage": True})
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert pieces[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert counts["usage"] == whole["usage"]


@pytest.mark.parametrize(
    ("route", "body", "status", "said"),
    [
        ("completions", {"model": "gpt-4", "prompt": "hi"}, 404, "there is no model"),
        ("completions", {"prompt": [1, 2]}, 400, "neither a text nor a list of texts"),
        ("completions", {}, 400, "prompt is missing"),
        ("completions", {"prompt": "hi", "stop": ["."]}, 400, "'stop'"),
        ("completions", {"prompt": "hi", "max_tokens": 9999}, 400, "max_new_tokens must be"),
        ("chat/completions", {"messages": [{"role": "user", "content": 5}]}, 400, "message 1"),
        ("chat/completions", {"messages": [{"role": "user", "content": "hi"}], "tools": [{}]}, 400, "'tools'"),
        ("chat/completions", {"messages": "hi", "stream": True}, 400, "not a list of messages"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_openais_shape(
    route: str, body: dict[str, Any], status: int, said: str, client: httpx.Client
) -> None:
    response = client.post(f"/v1/{route}", json={"model": RUN, **body})
    assert response.status_code == status
    assert said in response.json()["error"]["message"]
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_the_model_is_listed_by_the_name_of_its_endpoint(client: httpx.Client) -> None:
    [listed] = client.get("/v1/models").json()["data"]
    assert listed["id"] == RUN
    assert client.get(f"/v1/models/{RUN}").json() == listed
    refused = client.get("/v1/models/gpt-4o")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


def test_the_backend_streams_what_it_answers_whole(client: httpx.Client, let: Let) -> None:
    """The first piece comes while the model waits, long before it has made all tokens."""
    endpoint = EndpointRef(RUN, str(client.base_url), "")
    payload = {"inputs": ["Ana: hi 🙂"], "parameters": {"max_new_tokens": 12, "temperature": 0}}
    [whole] = BACKEND.invoke(endpoint, payload, 300)
    let(4)
    pieces = BACKEND.stream(endpoint, payload, 300)
    first = next(pieces)
    let(inf)
    assert first + "".join(pieces) == whole["generated_text"]
    assert first != whole["generated_text"]
    with pytest.raises(RefusedError, match="refused the request: max_new_tokens must be"):
        list(BACKEND.stream(endpoint, {**payload, "parameters": {"max_new_tokens": 9999}}, 300))


def test_a_stream_that_is_left_is_not_generated_on(client: httpx.Client, let: Let) -> None:
    """A later request with other sampling waits for an empty batch, and would wait for all tokens of this one."""
    endpoint = EndpointRef(RUN, str(client.base_url), "")
    let(4)
    pieces = BACKEND.stream(endpoint, {"inputs": ["Ana: hi"] * 16, "parameters": {"max_new_tokens": 1024}}, 300)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # as Ctrl-C does
    assert is_answered_meanwhile(let, client, prompt="Ben: ho", max_tokens=2, temperature=1)


def test_openais_clients_do_not_ask_again_what_took_too_long(let: Let, client: httpx.Client) -> None:
    let(4)
    asked = {"model": RUN, "prompt": "Ana: hi", "max_tokens": 12}
    answer = client.post("/v1/completions", json=asked, headers={"Lorasum-Timeout": "0.1"})
    assert (answer.status_code, answer.headers.get("x-should-retry")) == (504, "false")
    assert "Lorasum-Timeout" in answer.json()["error"]["message"]
