"""The plan for a GPU against the most bytes that a training's tensors hold on a pretended one (pretend_gpu.py).

What a real one holds beside tensors, such as kernels' workspaces, is not seen.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from engine.arguments import Arguments
from engine.batches import collate, on_device
from engine.fitting import Plan, plan_memory
from engine.gradients import Gradients
from engine.memory import recompute_layers, skeleton
from engine.model import add_adapter, load_base
from engine.packed_loss import PackedLoss
from pretend_gpu import GPU, pretend_gpu
from shared.lora_targets import resolve_targets

LENGTHS = [100, 90, 66]
COMPLETION = 60
PACK = {
    "input_ids": [5 + n % 900 for n in range(sum(LENGTHS))],
    "example_lengths": LENGTHS,
    "prompt_lengths": [length - COMPLETION for length in LENGTHS],
}
SHAPE = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16}
GATED = {"vocab_size": 1_000, "intermediate_size": 384, "tie_word_embeddings": True, **SHAPE}
EXPERTS = {"moe_intermediate_size": 128, "num_experts": 8, "num_experts_per_tok": 2, **GATED}
STACKS = ("q_proj", "experts.gate_up_proj", "experts.down_proj")


class Case(NamedTuple):
    """A training, named by what takes most of its memory."""

    kind: str
    shape: dict[str, Any]
    changes: dict[str, Any]
    dtype: torch.dtype = torch.bfloat16
    recompute: bool = False


BLOOM = {"vocab_size": 1_000, "hidden_size": 128, "n_layer": 4, "n_head": 8}
GEMMA2 = {**GATED, "vocab_size": 20_000, "hidden_size": 64, "num_hidden_layers": 2, "sliding_window": 64}
FALCON = {"vocab_size": 1_000, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 8}
LFM2 = {**GATED, "layer_types": ["conv", "full_attention", "conv"]}
SINKS = {**GATED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64}
EXACT = {"lora_dropout": 0.0, "lora_targets": STACKS}
PEFTS = {**EXACT, "quantization": "none", "engine_adapter": "peft"}
CASES = {
    "a head": Case("Bloom", {**BLOOM, "vocab_size": 20_000, "hidden_size": 64, "n_layer": 2}, {}),
    "the model's own head": Case("Gemma2", GEMMA2, {}),
    "its head in float32": Case("Gemma2", GEMMA2, {"engine_head": "all", "quantization": "none"}, torch.float32),
    "activations": Case("Bloom", BLOOM, {"lora_r": 64}),
    "recomputed layers": Case("Bloom", BLOOM, {"quantization": "nf4"}, recompute=True),
    "DoRA": Case("Bloom", BLOOM, {"lora_dora": True, "quantization": "none"}, torch.float32),
    "gated layers": Case("Llama", GATED, {"lora_targets": ("all-linear",)}),
    "experts": Case("Qwen3Moe", EXPERTS, {}),
    "frozen experts": Case("Qwen3Moe", EXPERTS, {"quantization": "none"}),
    "one example at a time": Case("Falcon", FALCON, {}),
    "a state between examples": Case("Lfm2", LFM2, {"quantization": "none"}),
    "sinks of attention": Case("GptOss", SINKS, {}),
    "sums of experts and adapters": Case("Qwen3Moe", {**EXPERTS, "num_experts": 16}, PEFTS, torch.float32),
    "an adapter": Case("Qwen3Moe", EXPERTS, {**EXACT, "lora_r": 64}, recompute=True),
}


ALSO = {
    "its head in float32": "the model's own head",
    "activations": "a head",
    "recomputed layers": "an adapter",
    "gated layers": "experts",
    "frozen experts": "sums of experts and adapters",
}
"""Cases for `make sweep`, with the case of `make test` that has nearly the same parts."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.sweep] * (name in ALSO)) for name in CASES])
def test_a_training_holds_what_is_planned_on_a_gpu(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    make_base(case, tmp_path)
    arguments = Arguments(
        gradient_checkpointing=str(case.recompute).lower(), **{"lora_targets": ("auto",), **case.changes}
    )
    targets = resolve_targets(skeleton(tmp_path), arguments.lora_targets)
    plan = plan_memory(tmp_path, arguments, targets, [PACK], case.dtype, 2**40, device="cuda")
    most = peak(tmp_path, plan, targets, case.dtype)
    assert 0.98 * most <= plan.memory.total <= 1.08 * most, (plan.memory.total / most, str(plan.memory))


def make_base(case: Case, folder: Path) -> None:
    """A random model of bf16 in `folder`."""
    import transformers

    config = getattr(transformers, f"{case.kind}Config")(pad_token_id=0, **case.shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)


def peak(base: Path, plan: Plan, targets: list[str], dtype: torch.dtype) -> int:
    """The most bytes on the GPU from the loading of `base` to the end of two steps."""
    with pretend_gpu() as gpu:
        model = load_base(base, plan.arguments, dtype, GPU)
        recompute_layers(model, plan.recomputed_layers)
        model = add_adapter(model, plan.arguments, targets).train()
        loss_of = PackedLoss(model, max(LENGTHS), plan.arguments, PACK["input_ids"], plan.takes_packs)
        assert loss_of.route.together is plan.takes_packs, loss_of.route.reason
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients, optimizer = Gradients(trained, 1), torch.optim.AdamW(trained, fused=True)
        batch = on_device(collate([PACK]), GPU)
        for _ in range(2):
            gradients.clear()
            for part in loss_of.passes(batch):
                (loss_of.loss(part) / len(batch["rows"])).backward()
            optimizer.step()
        return gpu.peak
