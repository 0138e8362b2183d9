"""What serving does on a GPU, as far as a pretended one shows it (pretend_gpu.py)."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from families import FAMILIES, Family, random_family_model
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.save_and_load import load_peft_weights
from transformers import AutoModelForCausalLM

import inference
from generation import scheduling
from generation.adapters import peft_name, with_adapters
from generation.generator import Generator
from generation.rows import Row
from generation.scheduling import Scheduler
from pretend_gpu import GPU, PretendGpu, pretend_gpu
from shared.records import ArtifactRecord, from_json

GREEDY = {"do_sample": False}


WIDE = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 4096}


class Words:
    """What is asked of a tokenizer where prompts are numbers. No model here knows its EOS, so no answer ends early."""

    pad_token_id, eos_token_id = 0, 100_000


def served(model: Any) -> tuple[Any, list[list[int]]]:
    """What a model can share, and its completions of prompts that come one after every second token."""
    draw = random.Random(0)
    asked = [([draw.randrange(4, 90) for _ in range(draw.randrange(1, 40))], draw.randrange(1, 16)) for _ in range(8)]
    rows = [Row(ids, most, GREEDY, lambda: False) for ids, most in asked]
    generator = inference.serve(model, Words(), from_json(ArtifactRecord, "{}")).generator
    scheduler, late, tokens = Scheduler(generator), rows[2:], 0

    def arriving(_row: Row) -> None:
        nonlocal tokens
        tokens += 1
        if late and not tokens % 2:
            scheduler.add([late.pop(0)])

    for row in rows:
        row.told = arriving
    scheduler.add(rows[:2])
    with torch.inference_mode():
        scheduler.run()
    assert [row.error for row in rows] == [None] * len(rows)
    return generator.sharing, [row.completion for row in rows]


def family_of(kind: str) -> Family:
    return next(family for family in FAMILIES if family.kind == kind)


def model_of(kind: str, dtype: torch.dtype, device: torch.device) -> Any:
    """A tiny model of a family, each of whose tokens depends on those before it."""
    model = random_family_model(family_of(kind)).to(dtype)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(3)
    model.generation_config.eos_token_id = None
    return model.to(device)


CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["bloom", "llama", "gemma2", "mixtral", "jamba", "rwkv"])
def test_a_gpu_answers_what_a_cpu_answers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values of all tokens; of a window of them; experts; a state beside them; a state alone."""
    monkeypatch.setattr(scheduling, "PIECE", 16)
    dtype = torch.float16 if kind == "bloom" else torch.bfloat16
    here = served(model_of(kind, dtype, CPU))
    with pretend_gpu():
        there = served(model_of(kind, dtype, GPU))
    assert there == here
    assert len({token for ids in here[1] for token in ids}) > 6


def test_a_batch_without_memory_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs out in a layer, among tensors of the batch. What is asked again gets the same answers, in float32."""
    here = served(model_of("llama", torch.float32, CPU))
    calls, kept = 0, []

    def runs_out(_layer: Any, inputs: Any) -> None:
        nonlocal calls
        if len(inputs[0]) > 2:
            calls += 1
            if calls % 9 == 5:
                raise torch.cuda.OutOfMemoryError

    with pretend_gpu() as gpu:
        model = model_of("llama", torch.float32, GPU)
        model.model.layers[1].mlp.down_proj.register_forward_pre_hook(runs_out)
        before = gpu.held
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: kept.append(gpu.held - before))
        assert served(model) == here
    assert len(kept) > 1
    assert set(kept) == {0}


def waits_for_a_token(gpu: PretendGpu, model: Any, names: Sequence[str], sampling: dict[str, Any]) -> Counter[str]:
    """What each token of a batch waits for the GPU, by comparing answers of 30 tokens with those of 10."""
    generator = inference.serve(model, Words(), from_json(ArtifactRecord, "{}")).generator

    def waits(tokens: int) -> Counter[str]:
        rows = [Row([7] * (4 + place), tokens, sampling, lambda: False, adapter=one) for place, one in enumerate(names)]
        scheduler = Scheduler(generator)
        scheduler.add(rows)
        gpu.waits.clear()
        with torch.inference_mode():
            scheduler.run()
        assert [len(row.completion) for row in rows] == [tokens] * len(rows)
        return Counter(gpu.waits)

    short, long = waits(10), waits(30)
    return Counter({what: (count - short[what]) // 20 for what, count in long.items() if count > short[what]})


@pytest.mark.parametrize("sampling", [GREEDY, {"do_sample": True, "top_k": 0, "temperature": 0.7, "top_p": 0.9}])
def test_a_token_waits_for_the_gpu_once_in_our_code(sampling: dict[str, Any]) -> None:
    """And twice in transformers': for its mask, and for the end."""
    with pretend_gpu() as gpu:
        waits = waits_for_a_token(gpu, model_of("llama", torch.bfloat16, GPU), ["", "", ""], sampling)
    ours = {what: count for what, count in waits.items() if what.count("<") == 1}
    assert [*ours.values()] == [1], ours
    assert waits.total() == 3


def test_a_token_copies_no_more_experts_than_a_layer_has() -> None:
    """A batch of 16 tokens would copy 32, of four in a layer. Served, or scored in a training."""
    with pretend_gpu() as gpu:
        model = random_family_model(replace(family_of("mixtral"), settings=WIDE)).to(torch.bfloat16).to(GPU)
        experts = [weight for name, weight in model.named_parameters() if "layers.0.mlp.experts" in name]
        layer = sum(weight.nbytes for weight in experts)
        rows = [Row([7 + place], 4, GREEDY, lambda: False) for place in range(16)]
        scheduler = Scheduler(Generator.of(model, Words(), None))
        scheduler.add(rows)
        before = gpu.peak = gpu.held
        with torch.inference_mode():
            scheduler.run()
        assert [row.error for row in rows] == [None] * 16
        assert layer > 2_000_000
        assert gpu.peak - before < 1.2 * layer


@pytest.fixture
def adapters(tmp_path: Path) -> dict[str, Path]:
    """Two adapters of the llama, of different ranks and targets."""
    for name, rank, targets in (("orders", 2, "all-linear"), ("travel", 4, ["q_proj", "down_proj"])):
        settings = LoraConfig(r=rank, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(model_of("llama", torch.bfloat16, CPU), settings).save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in ("orders", "travel")}


def test_adapters_add_what_peft_adds(adapters: dict[str, Path]) -> None:
    """To the last bit, for rows of both, of one, and of none."""
    ids = torch.arange(4, 24).reshape(4, 5)
    ours = with_adapters(model_of("llama", torch.bfloat16, CPU), adapters).eval()
    pefts = PeftModel.from_pretrained(model_of("llama", torch.bfloat16, CPU), adapters["orders"], "adapter-orders")
    pefts.load_adapter(adapters["travel"], "adapter-travel")
    for names in (["orders", "travel", "travel", "orders"], ["travel"] * 4, ["__base__", "orders"] * 2):
        asked = [name if name == "__base__" else peft_name(name) for name in names]
        with torch.inference_mode():
            assert torch.equal(ours(ids, adapter_names=asked).logits, pefts.eval()(ids, adapter_names=asked).logits)


def test_adapters_make_no_token_wait_for_the_gpu(adapters: dict[str, Path]) -> None:
    with pretend_gpu() as gpu:
        model = with_adapters(model_of("llama", torch.bfloat16, GPU), adapters).eval()
        assert {weight.device for weight in model.parameters()} == {GPU}
        for names in (["orders", "travel", "orders"], ["travel"] * 3):
            waits = waits_for_a_token(gpu, model, [peft_name(name) for name in names], GREEDY)
            assert waits.total() == 3, waits


def test_adapters_are_read_onto_the_gpu_of_their_model(
    adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default PEFT asks for `cuda`, which safetensors takes for the first one, whichever the process has."""
    devices = []

    def read(folder: str, device: str, **more: Any) -> Any:
        devices.append(device)
        return load_peft_weights(folder, device=device, **more)

    monkeypatch.setattr(peft.peft_model, "load_peft_weights", read)
    model_of("llama", torch.bfloat16, CPU).save_pretrained(tmp_path / "base")
    with pretend_gpu():
        with_adapters(model_of("llama", torch.bfloat16, GPU), adapters)
        source = {"pretrained_model_name_or_path": str(tmp_path / "base")}
        merged = inference._load(source, adapters["travel"])
        assert {weight.device for weight in merged.parameters()} == {GPU}
    assert devices == [str(GPU)] * 3


@pytest.mark.parametrize(
    ("stored", "capability", "served_in"),
    [
        (torch.float16, (8, 6), torch.float16),
        (torch.bfloat16, (8, 6), torch.bfloat16),
        (torch.float32, (8, 6), torch.bfloat16),
        (torch.bfloat16, (7, 5), torch.float16),
    ],
)
def test_weights_in_fp16_are_rounded_no_second_time(
    stored: torch.dtype, capability: tuple[int, int], served_in: torch.dtype, tmp_path: Path
) -> None:
    model_of("llama", stored, CPU).save_pretrained(tmp_path)
    with pretend_gpu(capability):
        loaded = inference._load({"pretrained_model_name_or_path": str(tmp_path), "revision": "main"}, None)
        assert inference.serve(loaded, Words(), from_json(ArtifactRecord, "{}")).model.dtype is served_in


def test_a_model_that_fp16_is_too_small_for_is_as_if_loaded_in_bf16(tmp_path: Path) -> None:
    """As on a GPU with capability 8.6. Its rotary frequencies stay in float32."""
    made = model_of("llama", torch.float16, CPU)
    for layer in (made.model.layers[0].mlp.up_proj, made.model.layers[0].mlp.down_proj):
        layer.weight.data.mul_(10_000)
    made.save_pretrained(tmp_path)
    with pretend_gpu((8, 6)):
        loaded = inference._load({"pretrained_model_name_or_path": str(tmp_path), "revision": "main"}, None)
        assert loaded.dtype is torch.float16
        model = inference.serve(loaded, Words(), from_json(ArtifactRecord, "{}")).model
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, device_map={"": GPU})
        assert model.model.rotary_emb.inv_freq.dtype is torch.float32
        for ours, loaded_so in zip(model.state_dict().values(), expected.state_dict().values(), strict=True):
            assert ours.dtype is loaded_so.dtype is torch.bfloat16
        ids = torch.arange(4, 64, device=GPU)[None]
        assert torch.equal(model(ids).logits, expected(ids).logits)
