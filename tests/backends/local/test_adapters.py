"""Several adapters on one base model: a real server process, a tiny Llama, adapters of different ranks and layers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from world import FULL

import inference
from artifact import save_code
from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.errors import RefusedError
from lorasum.ledger.resources import Adapter, Origin
from lorasum.models.source import ModelRef

RUN = "orders"
BACKEND = LocalBackend()
SHAPES = {"orders": (2, ["q_proj", "v_proj"]), "keys": (4, ["down_proj"]), "travel": (3, "all-linear")}
"""Rank and targets of each run's adapter. torch keeps the name `keys` for itself."""
EACH = 334 if FULL else 20
"""Requests for each, at 16 at once; in a drill they are a thousand together."""


@pytest.fixture(scope="module")
def base(tiny_tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model each of whose tokens depends on those before it."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base")
    words = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    _randomise(model, 0.3, seed=0)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def artifacts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifact of each run: its adapter, and a template of its own."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    found = {}
    for seed, (run, (rank, targets)) in enumerate(SHAPES.items(), 1):
        found[run] = tmp_path_factory.mktemp(run)
        folder = found[run] / "adapter"
        settings = LoraConfig(r=rank, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
        _randomise(model, 0.2, seed, "lora_")
        model.save_pretrained(folder)
        record = {"template": f"{run}:\n{{dialogue}}\n=>", "eos_token_id": 2, "generation": {"max_new_tokens": 12}}
        (folder / "lorasum.json").write_text(json.dumps(record))
        save_code(folder)
    return found


@pytest.fixture(scope="module")
def endpoint(base: Path, artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointRef]:
    several = tuple(
        Adapter(run=run, job="", artifact=str(folder), rank=SHAPES[run][0], origin=Origin(template=""))
        for run, folder in artifacts.items()
    )
    spec = EndpointSpec(
        RUN, RUN, str(artifacts[RUN]), base=ModelRef("base", None, base), startup_timeout=300, adapters=several
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASUM_HOME", str(tmp_path_factory.mktemp("home")))
        yield BACKEND.start_endpoint(spec)
        assert BACKEND.start_endpoint(spec) == BACKEND.endpoint_state(RUN, RUN).ref, "it is adopted, not replaced"
        BACKEND.delete_endpoint(RUN, RUN)


def _randomise(model: Any, deviation: float, seed: int, only: str = "") -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and only in name:
            weight.data.normal_(0, deviation, generator=generator)


def test_each_adapter_answers_in_a_mixed_crowd_as_it_does_alone(
    endpoint: EndpointRef, artifacts: dict[str, Path], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone: the endpoint of `deploy.serve: adapter`, which merges its one adapter."""
    monkeypatch.setenv("LORASUM_BASE_MODEL", str(base))
    alone = {run: inference.model_fn(str(folder / "adapter")) for run, folder in artifacts.items()}
    requests = [
        (run, {"dialogue": [f"Ana: {number}" * (1 + number % 5)], "parameters": {"max_new_tokens": 4 + number % 9}})
        for number in range(EACH)
        for run in SHAPES
    ]

    def ask(request: tuple[str, dict[str, Any]]) -> str:
        run, body = request
        named = {**body, "parameters": {**body["parameters"], "adapter": run}}
        [answer] = BACKEND.invoke(endpoint, named, 300)
        return str(answer["generated_text"])

    def expected(request: tuple[str, dict[str, Any]]) -> str:
        run, body = request
        [answer] = inference.predict_fn(inference.input_fn(json.dumps(body), "application/json"), alone[run])
        return answer["generated_text"]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, requests))
    assert found == list(map(expected, requests))
    answers = {run: [text for (asked, _), text in zip(requests, found, strict=True) if asked == run] for run in SHAPES}
    assert len({tuple(texts) for texts in answers.values()}) == len(SHAPES), "the adapters differ"


def test_a_request_that_names_no_adapter_gets_the_runs_own(endpoint: EndpointRef) -> None:
    own = BACKEND.invoke(endpoint, {"dialogue": "Ana: hi", "parameters": {"adapter": RUN}}, 300)
    assert BACKEND.invoke(endpoint, {"dialogue": "Ana: hi"}, 300) == own


def test_an_unknown_adapter_is_refused_with_the_names_there_are(endpoint: EndpointRef) -> None:
    for name in ("nobody", ""):
        with pytest.raises(RefusedError, match=r"has no adapter.* it has orders, keys, travel"):
            BACKEND.invoke(endpoint, {"inputs": "Ana: hi", "parameters": {"adapter": name}}, 300)


def test_openais_model_names_the_adapter(endpoint: EndpointRef) -> None:
    with httpx.Client(base_url=endpoint.location, timeout=300) as client:
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == list(SHAPES)
        for run in SHAPES:
            message = {"role": "user", "content": "Ana: hi"}
            found = client.post("/v1/chat/completions", json={"model": run, "messages": [message]}).json()
            [own] = BACKEND.invoke(endpoint, {"dialogue": "Ana: hi", "parameters": {"adapter": run}}, 300)
            assert found["choices"][0]["message"]["content"] == own["generated_text"]
            assert found["model"] == run
        refused = client.post("/v1/completions", json={"model": "base", "prompt": "Ana: hi"})
        assert refused.status_code == 404
        assert "there is orders, keys, travel" in refused.json()["error"]["message"]
