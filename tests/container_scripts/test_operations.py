"""The operations of a training are counted before it starts: those of its matrix products, wherever they happen."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import FalconConfig, FalconForCausalLM

from conftest_engine import random_model, random_packs
from engine.arguments import Arguments
from engine.memory import skeleton
from engine.operations import Operations, count_operations, product_speed
from shared.lora_targets import resolve_targets

ARGUMENTS = Arguments(lora_r=4, lora_dropout=0.0)
PACKS = [{"input_ids": [5] * size, "example_lengths": [size], "prompt_lengths": [size - 8]} for size in (24, 32, 40)]


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=64, vocab_size=256))


def _experts() -> Any:
    """A model whose tokens each meet two of eight experts, in a loop whose products PyTorch counts."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 64, "vocab_size": 256}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **heads, num_experts=8, num_experts_per_tok=2))
    model.set_experts_implementation("eager")
    return model


def counted(base: Path, packs: Any = PACKS, **change: Any) -> Operations:
    targets = resolve_targets(skeleton(base), ("auto",))
    return count_operations(base, replace(ARGUMENTS, **change), targets, packs, torch.float32)


@pytest.mark.parametrize("model", [partial(random_model, "bloom"), partial(random_model, "qwen3"), _gpt2, _experts])
def test_the_operations_are_those_of_a_real_pass(model: Callable[[], Any], tmp_path: Path) -> None:
    """Within 5%: of PEFT's layers and plain attention over all logits, as PyTorch counts a pass with values."""
    from peft import LoraConfig, get_peft_model

    plain = model()
    plain.save_pretrained(tmp_path)
    plain.set_attn_implementation("eager")
    targets = resolve_targets(plain, ("auto",))
    adapted = get_peft_model(plain.requires_grad_(False), LoraConfig(r=4, target_modules=targets)).train()
    with FlopCounterMode(display=False) as counter:
        adapted(torch.full((1, 32), 5)).logits.sum().backward()
    own = "transformers" if plain.config.model_type == "bloom" else "examples"  # ours adds dimensions to tiny heads
    assert counted(tmp_path, loss_on="all", engine_attention=own).step_operations == pytest.approx(
        counter.get_total_flops() / 32, rel=0.05
    )


def test_examples_with_a_pass_each_are_not_counted_as_a_pack(tmp_path: Path) -> None:
    """Falcon's attention over a pack would cost ten times as much as over its ten examples."""
    config = FalconConfig(vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    FalconForCausalLM(config).save_pretrained(tmp_path)
    apart, together = (random_packs(1, lengths) for lengths in ([[64]] * 10, [[64] * 10]))
    assert counted(tmp_path, together) == counted(tmp_path, apart)


def test_labels_and_the_forward_pass_are_counted_apart(tmp_path: Path) -> None:
    model = random_model("llama")
    model.save_pretrained(tmp_path)
    head, labelled = 4 * model.lm_head.weight.numel(), 24 / 96
    some, all_labels = counted(tmp_path), counted(tmp_path, loss_on="all")
    assert all_labels.step_operations - some.step_operations == pytest.approx(head * (1 - labelled))
    assert some.forward_operations == pytest.approx((some.step_operations - head * labelled) / 2, rel=0.1)


def test_a_model_that_asks_for_values_has_no_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_model("llama").save_pretrained(tmp_path)

    def ask(*_: Any) -> None:
        raise RuntimeError("asks for values")

    monkeypatch.setattr("engine.operations.run_body", ask)
    assert count_operations(tmp_path, ARGUMENTS, ["q_proj"], PACKS, torch.float32) == Operations()


def test_a_device_multiplies_at_some_speed() -> None:
    assert 1e8 < product_speed(torch.float32, "cpu") < 1e14
