"""The memory of a training is known before it starts, and a training that has less memory has the same result."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import Zygote

from conftest_engine import random_model, with_adapter
from engine.arguments import Arguments
from engine.batches import collate
from engine.failure import TrainingError
from engine.fitting import Plan, plan_memory
from engine.memory import Memory, estimate, recompute_layers, skeleton
from engine.model import load_base
from engine.packed_loss import PackedLoss
from engine.process_memory import give_back, process_parts
from shared.lora_targets import resolve_targets

ARGUMENTS = Arguments(lora_dropout=0.0, gradient_accumulation_steps=4, per_device_batch_size=0)
PACKS = [
    {"input_ids": [5 + n] * (60 + n), "example_lengths": [40, 20 + n], "prompt_lengths": [30, 15]} for n in range(8)
]
PLENTY = 10**12


@pytest.fixture(params=["bloom", "llama", "qwen3", "mistral", "gemma2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    random_model(request.param).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A model for tests that would be the same with any architecture."""
    random_model("llama").save_pretrained(tmp_path)
    return tmp_path


def need(base: Path, arguments: Arguments = ARGUMENTS, tokens: int = 64, recompute_all: bool = False) -> Any:
    targets = resolve_targets(skeleton(base), ("auto",))
    return estimate(base, arguments, targets, [tokens], 8, torch.float32, recompute_all)[0]


def test_the_estimate_is_what_a_real_pass_needs(base: Path) -> None:
    """Weights and adapter are exact; activations are within 10% of what the real pass keeps (20% with a soft cap)."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    found = need(base, replace(ARGUMENTS, quantization="none"))
    assert found.weights == weights
    adapted = with_adapter(model).train()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    r = next(p.shape[0] for name, p in adapted.named_parameters() if "lora_A" in name)
    assert need(base, replace(ARGUMENTS, lora_r=r)).adapter == 16 * sum(parameter.numel() for parameter in trained)

    kept: dict[int, Any] = {}
    frozen = {parameter.untyped_storage().data_ptr() for parameter in adapted.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage
        return tensor

    loss = PackedLoss(adapted, 64)
    batch = collate([{"input_ids": list(range(5, 69)), "example_lengths": [64], "prompt_lengths": [56]}])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(batch)
    measured = sum(storage.nbytes() for storage in kept.values())
    found = need(base, replace(ARGUMENTS, lora_r=r))
    whole = "gemma" in type(model).__name__.lower()  # its own loss keeps logits of all tokens
    assert found.activations + (found.head // 2 if whole else 0) == pytest.approx(measured, rel=0.2 if whole else 0.1)


def test_int8_takes_a_byte_per_weight_and_recomputing_saves_less(llama: Path) -> None:
    float32, int8 = need(llama, replace(ARGUMENTS, quantization="none")), need(llama)
    assert int8.weights < float32.weights
    assert need(llama, replace(ARGUMENTS, quantization="nf4")).weights < int8.weights
    assert need(llama, recompute_all=True).activations < 0.6 * int8.activations
    assert 1.8 * int8.activations < need(llama, tokens=128).activations < 4 * int8.activations


def test_the_estimate_runs_the_attention_that_trains(llama: Path) -> None:
    targets = resolve_targets(skeleton(llama), ("auto",))

    def activations(attention: str) -> int:
        arguments = replace(ARGUMENTS, engine_attention=attention)
        return estimate(llama, arguments, targets, [64] * 8, 8, torch.float32)[0].activations

    assert activations("flex") == activations("examples")
    # transformers' own attention takes a mask of all pairs of tokens: (512, 512) bool at least
    assert activations("transformers") >= activations("examples") + 512 * 512


def test_a_gpu_drops_attention_weights_without_keeping_them(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    def activations(device: str, dropout: float) -> int:
        config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, attn_pdrop=dropout)
        GPT2LMHeadModel(config).save_pretrained(tmp_path)
        return estimate(tmp_path, ARGUMENTS, ["c_attn"], [128], 8, torch.float32, device=device)[0].activations

    assert activations("cuda", 0.1) == activations("cuda", 0.0) == activations("cpu", 0.0) < activations("cpu", 0.1)


def test_auto_takes_the_most_packs_that_fit_into_memory(llama: Path) -> None:
    targets = resolve_targets(skeleton(llama), ("auto",))

    def chosen(free: int, arguments: Arguments = ARGUMENTS) -> tuple[int, int, int]:
        made = plan_memory(llama, arguments, targets, PACKS, torch.float32, free)
        assert made.memory.total <= made.free
        return made.arguments.per_device_batch_size, made.arguments.gradient_accumulation_steps, made.recomputed_layers

    assert chosen(PLENTY) == (4, 1, 0)
    four, two, one = (
        plan_memory(
            llama, replace(ARGUMENTS, per_device_batch_size=n), targets, PACKS, torch.float32, PLENTY
        ).memory.total
        for n in (4, 2, 1)
    )
    assert one < two < four
    assert chosen(round((four + two) / 2 / 0.9)) == (2, 2, 0)
    assert chosen(round(one / 0.9) - 2) == (1, 4, 1)
    assert chosen(PLENTY, replace(ARGUMENTS, gradient_checkpointing="true")) == (4, 1, 2)
    assert chosen(PLENTY, replace(ARGUMENTS, per_device_batch_size=3)) == (3, 4, 0)
    with pytest.raises(TrainingError, match=r"this training needs .* GiB \(weights .*, and .* GiB are free") as error:
        chosen(one // 10)
    assert "data.max_length" in error.value.hint


def test_auto_takes_one_pack_where_attention_is_over_all_of_them(tmp_path: Path) -> None:
    """More of them would take longer together than apart: all their tokens by all of them."""
    random_model("gemma2").save_pretrained(tmp_path)
    made = plan_memory(tmp_path, ARGUMENTS, ["q_proj"], PACKS, torch.float32, PLENTY)
    assert (made.arguments.per_device_batch_size, made.arguments.gradient_accumulation_steps) == (1, 4)


def test_the_longest_example_of_either_split_decides_the_route(tmp_path: Path) -> None:
    """As in the training: with stretched positions, one that is long keeps all examples apart, and in less memory."""
    model = random_model("llama")
    stretched = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model.config.rope_parameters, model.config.max_position_embeddings = stretched, 64
    model.save_pretrained(tmp_path)
    assert [
        plan_memory(tmp_path, ARGUMENTS, ["q_proj"], PACKS, torch.float32, PLENTY, longest=longest).takes_packs
        for longest in (0, 64, 65)
    ] == [True, True, False]


def test_a_batch_may_have_most_tokens_and_most_labels(llama: Path) -> None:
    """The pack with most tokens is not the one with most labels, whose logits are larger."""

    def head(*packs: tuple[int, int]) -> int:
        rows = [{"example_lengths": [length], "prompt_lengths": [prompt]} for length, prompt in packs]
        return plan_memory(llama, ARGUMENTS, ["q_proj"], rows, torch.float32, PLENTY).memory.head

    one, other, both = (60, 55), (50, 10), (60, 20)
    assert head(one) < head(other) == head(both)
    assert head(one, one, other, other) == head(one, one, both, both)


def test_freed_memory_is_given_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [torch.ones(25_000) for _ in range(2_000)]  # 100 kB each, which come from the heap
    last, full = blocks[-1], resident()
    del blocks
    give_back()
    assert resident() < full - 100e6
    assert last.sum() == 25_000


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_quantized_model_keeps_no_file_of_weights_mapped(tmp_path: Path, quantization: str) -> None:
    random_model("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    arguments = replace(ARGUMENTS, quantization=quantization)
    model = load_base(tmp_path, arguments, torch.bfloat16, torch.device("cpu"))
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert model.get_input_embeddings().weight.dtype is torch.bfloat16


MANY_SHAPES = """
import os, sys, torch
from engine.process_memory import give_back, keep_few_products
for name in [name for name in os.environ if "CACHE_CAPACITY" in name]:
    del os.environ[name]
if sys.argv[1] == "few":
    keep_few_products([100, 100])
def resident():
    give_back()
    return int(open("/proc/self/statm").read().split()[1]) * 4096
weight = torch.randn(64, 64).bfloat16()
torch.randn(99, 64).bfloat16() @ weight
before = resident()
for rows in range(100, 900):
    torch.randn(rows, 64).bfloat16() @ weight
print(resident() - before)
"""


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN multiplies no bf16 on this CPU")
def test_compiled_products_of_many_lengths_take_little_memory(trainings: Zygote, tmp_path: Path) -> None:
    """800 lengths of a batch; by itself oneDNN keeps the products of all."""

    def grown(kept: str) -> int:
        ended = trainings.start([kept], {}, {}, str(script)).wait()
        return int(ended.stdout)

    script = tmp_path / "many_shapes.py"
    script.write_text(MANY_SHAPES)
    assert grown("few") < 0.5 * grown("all")


def test_an_estimate_leaves_real_models_as_they_are(llama: Path) -> None:
    """Losses are the same with estimates before, between and after them."""
    from transformers import AutoModelForCausalLM

    batch = collate(PACKS[:2])
    losses = []
    for _ in range(2):
        loss = PackedLoss(with_adapter(AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)).eval(), 64)
        losses.append(float(loss(batch)[0]))
        need(llama)
    assert losses[0] == losses[1]


def test_recomputing_some_layers_changes_no_gradient(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    def gradients(layers: int) -> list[torch.Tensor]:
        adapted = with_adapter(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)).train()
        assert recompute_layers(adapted.get_base_model(), layers) == 2
        loss, count = PackedLoss(adapted, 64)(collate(PACKS[:3]))
        (loss / count).backward()
        return [parameter.grad for parameter in adapted.parameters() if parameter.requires_grad]

    plain = gradients(0)
    assert any(gradient.abs().sum() > 0 for gradient in plain)
    for layers in (1, 2):
        for one, other in zip(plain, gradients(layers), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_a_process_keeps_more_with_dropout() -> None:
    mib = 2**20

    def process(dropout: float) -> int:
        plan = Plan(Arguments(model_id="m", lora_dropout=dropout), 0, 2, Memory(0, 0, 100 * mib, 0, 0), 0, [10])
        return process_parts(plan, "cpu", torch.float32)["process"]

    assert process(0.05) == process(0.0) + 35 * mib
