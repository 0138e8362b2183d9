"""What the backward pass makes again has the same bits as what it would have kept, and takes less memory."""

from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaMLP

from conftest_engine import random_model, random_packs
from engine import model as models
from engine import recompute
from engine.arguments import Arguments
from engine.batches import collate
from engine.memory import recompute_layers
from engine.packed_loss import PackedLoss
from shared.lora_targets import resolve_targets


def trained_pass(model: Any, **switches: Any) -> tuple[list[torch.Tensor], int]:
    """Loss and gradients of a model with an adapter whose values are random, and the bytes that autograd kept."""
    recomputed = switches.pop("recomputed", 0)
    arguments = Arguments(lora_r=4, lora_alpha=8, **{"lora_dropout": 0.0, **switches})
    torch.manual_seed(1)
    targets = resolve_targets(model.requires_grad_(False), ("all-linear",))
    adapted = models.add_adapter(model, arguments, targets).train()
    recompute_layers(adapted.get_base_model(), recomputed)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data += torch.randn_like(parameter) * 0.1
    frozen = {parameter.data_ptr() for parameter in adapted.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage
        return tensor

    loss_of = PackedLoss(adapted, 40)
    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, count = loss_of(collate(random_packs(3, [[40, 24]])))
    (loss / count).backward()
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    assert len(gradients) == len(trained)
    return [loss.detach(), *gradients], sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("architecture", "dtype", "switches", "share"),
    [
        ("llama", torch.bfloat16, {"lora_dropout": 0.2}, 0.7),
        ("llama", torch.bfloat16, {"lora_dora": True}, 0.9),
        ("llama", torch.bfloat16, {"recomputed": 1}, 0.8),
        ("qwen3", torch.bfloat16, {"engine_adapter": "peft"}, 0.9),
        ("gemma2", torch.float32, {}, 1.0),
    ],
)
def test_what_is_made_again_changes_no_bit_and_takes_less_memory(
    architecture: str,
    dtype: torch.dtype,
    switches: dict[str, Any],
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, less = trained_pass(random_model(architecture).to(dtype), **switches)
    monkeypatch.setattr(models, "keep_parts_only", lambda model: None)
    plain, all_ = trained_pass(random_model(architecture).to(dtype), **switches)
    assert less < share * all_
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def decorated(mlp: Any, x: Any) -> Any:
    return LlamaMLP.forward(mlp, x)


def other(mlp: Any, x: Any) -> Any:
    return mlp.down_proj(mlp.act_fn(mlp.up_proj(x)) * mlp.gate_proj(x))


@pytest.mark.parametrize(("forward", "covered"), [(decorated, 2), (other, 0)])
def test_a_gated_layer_is_known_by_what_it_computes(forward: Any, covered: int) -> None:
    """Not by its code."""
    model = random_model("llama")
    for layer in model.model.layers:
        layer.mlp.__class__ = type("Mlp", (LlamaMLP,), {"forward": forward})
    recompute.keep_parts_only(model)
    assert recompute.count_remade(model) == covered
