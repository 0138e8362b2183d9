"""Adapters on experts that a model stacks in one parameter, against PEFT's forward in float32."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, random_family_model
from torch.nn import functional
from transformers.integrations.moe import use_experts_implementation

from engine.arguments import Arguments
from engine.batches import collate
from engine.experts_layers import expert_weights, replace_experts_forwards
from engine.failure import TrainingError
from engine.layers import is_quantized, weight_of
from engine.memory import estimate
from engine.merge import try_merge
from engine.model import add_adapter, count_layers, load_base
from engine.operations import count_operations
from engine.packed_loss import PackedLoss
from engine.weight_storage import codes_of
from shared.lora_targets import stacked_experts

E, HIDDEN, INNER, R = 6, 48, 32, 4


class Experts(torch.nn.Module):
    """Stacked experts in any of the forms that transformers' interface knows, with the plain forward."""

    _apply_gate: Any

    def __init__(self, config: Any, dtype: torch.dtype, **form: bool) -> None:
        super().__init__()
        self.num_experts: int = E
        self.act_fn: Any = functional.silu
        self.post_expert_norm: Any = None
        first = "gate_up_proj" if form.get("has_gate", True) else "up_proj"
        sizes = {first: (HIDDEN, 2 * INNER if form.get("has_gate", True) else INNER), "down_proj": (INNER, HIDDEN)}
        for name, (inside, outside) in sizes.items():
            shape = (E, inside, outside) if form.get("is_transposed") else (E, outside, inside)
            self.register_parameter(name, torch.nn.Parameter((torch.randn(shape) * 0.1).to(dtype)))
            if form.get("has_bias"):
                self.register_parameter(f"{name}_bias", torch.nn.Parameter(torch.randn(E, outside).to(dtype)))
        if form.get("has_post_expert_norm"):
            self.post_expert_norm = torch.nn.RMSNorm(HIDDEN, eps=1e-5, dtype=dtype)

    def forward(self, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
        """One token and one of its experts after the other."""
        out = torch.zeros_like(hidden_states)
        for token, (row, weights) in enumerate(zip(top_k_index, top_k_weights, strict=True)):
            for e, weight in zip(row, weights, strict=True):
                found = self.project("gate_up_proj" if self.has_gate else "up_proj", e, hidden_states[token])
                found = self.project("down_proj", e, self._apply_gate(found) if self.has_gate else self.act_fn(found))
                if self.has_post_expert_norm:
                    found = self.post_expert_norm(found)
                out[token] += found * weight
        return out

    def project(self, name: str, e: Any, x: Any) -> Any:
        weight = getattr(self, name)[e]
        found = x @ (weight if self.is_transposed else weight.T)
        return found + getattr(self, f"{name}_bias")[e] if self.has_bias else found


FORMS: list[dict[str, bool]] = [
    {},
    {"is_transposed": True, "has_bias": True},
    {"has_gate": False},
    {"has_post_expert_norm": True},
]


def adapted(form: dict[str, bool], dtype: torch.dtype, ours: bool, targets: tuple[str, ...] = ()) -> Any:
    """Experts of random weights, equal for each dtype but for rounding, under an adapter."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    kind = use_experts_implementation(type("Experts", (Experts,), {"forward": Experts.forward}), **form)
    config = type("Config", (), {"_experts_implementation": "eager"})()
    experts = kind(config, torch.bfloat16, **form).to(dtype).requires_grad_(False)
    names = targets or tuple(name for name, weight in experts.named_parameters() if weight.ndim == 3)
    lora = LoraConfig(r=R, lora_alpha=8, target_modules=[], target_parameters=[f"experts.{name}" for name in names])
    model = get_peft_model(torch.nn.ModuleDict({"experts": experts}), lora)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, dtype=torch.float32) * 0.1
    if ours:
        assert replace_experts_forwards(model, dtype) == len(names)
    return model


def results(model: Any, dtype: torch.dtype, tokens: int = 50) -> dict[str, torch.Tensor]:
    """Output and all gradients of one pass."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(tokens, HIDDEN, generator=generator).bfloat16().to(dtype).requires_grad_()
    weights = torch.rand(tokens, 2, generator=generator).bfloat16().to(dtype).requires_grad_()
    index = torch.rand(tokens, E - 1, generator=generator).topk(2).indices  # the last expert gets no token
    upstream = torch.randn(tokens, HIDDEN, generator=generator).bfloat16().to(dtype)
    model.zero_grad()
    out = model.base_model.model["experts"](x, index, weights)
    out.backward(upstream)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = {"out": out.detach(), "x": x.grad, "weights": weights.grad, **gradients}
    return {name: value.float() for name, value in found.items() if value is not None}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_adapted_experts_equal_pefts(form: dict[str, bool], dtype: torch.dtype, tolerance: float) -> None:
    """Output and all gradients, relative to the length of each: float32 1e-5, bf16 3e-2."""
    wanted, found = (
        results(adapted(form, torch.float32, ours=False), torch.float32),
        results(adapted(form, dtype, ours=True), dtype),
    )
    assert found.keys() == wanted.keys()
    assert len(wanted) == 7
    for name, value in wanted.items():
        assert (found[name] - value).norm() <= tolerance * value.norm(), name


@pytest.mark.parametrize("target", ["gate_up_proj", "down_proj"])
def test_one_adapted_parameter_leaves_the_other_as_it_is(target: str) -> None:
    wanted, found = (results(adapted({}, torch.float32, ours, (target,)), torch.float32) for ours in (False, True))
    assert found.keys() == wanted.keys()
    assert len(wanted) == 5
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)


def test_a_small_update_of_experts_is_not_rounded_away_in_bf16() -> None:
    """Output and dx change as in float32, to 10% on average, where PEFT's own forward loses more than half of it."""
    changes = {}
    for name, dtype, ours in (
        ("wanted", torch.float32, False),
        ("peft", torch.bfloat16, False),
        ("ours", torch.bfloat16, True),
    ):
        model = adapted({}, dtype, ours)
        model.base_model.model["experts"].get_base_layer().config._experts_implementation = "grouped_mm"  # fast
        before, after = (results(with_b_of(model, size), dtype, tokens=4000) for size in (0.0, 2e-5))
        changes[name] = {part: after[part] - before[part] for part in ("out", "x")}
    for part, wanted in changes["wanted"].items():
        kept = {
            name: ((changes[name][part] * wanted).sum() / wanted.square().sum()).item() for name in ("peft", "ours")
        }
        assert kept["ours"] == pytest.approx(1, abs=0.1)
        assert kept["peft"] < 0.5


def with_b_of(model: Any, size: float) -> Any:
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = size * torch.ones_like(parameter)
    return model


def test_no_copy_of_the_experts_is_kept_for_the_backward_pass() -> None:
    sizes = {}
    for ours in (False, True):
        kept: list[int] = []
        pack = partial(keep, kept)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            results(adapted({}, torch.bfloat16, ours), torch.bfloat16)
        sizes[ours] = max(kept)
    weight = E * 2 * INNER * HIDDEN * torch.bfloat16.itemsize
    assert sizes[False] >= weight > 2 * sizes[True]


def keep(kept: list[int], tensor: torch.Tensor) -> torch.Tensor:
    kept.append(tensor.untyped_storage().nbytes())
    return tensor


def test_experts_of_another_forward_keep_pefts_way(caplog: pytest.LogCaptureFixture) -> None:
    model = adapted({}, torch.float32, ours=False)
    outermost = model.base_model.model["experts"]
    type(outermost.get_base_layer()).forward.__wrapped__ = lambda self, *inputs: inputs[0]
    with caplog.at_level(logging.WARNING):
        assert replace_experts_forwards(model, torch.float32) == 0
    assert "PEFT computes these adapters: the engine's result for Experts is" in caplog.text
    assert "forward" not in vars(outermost)


@pytest.mark.parametrize("adapter", ["fused", "peft"])
def test_the_memory_of_adapted_experts_is_known(adapter: str, tmp_path: Path) -> None:
    """Activations are within 15% of what a real pass keeps, and the adapter is exact."""
    (mixtral,) = (family for family in FAMILIES if family.kind == "mixtral")
    model = random_family_model(mixtral).requires_grad_(False)
    model.save_pretrained(tmp_path)
    arguments = Arguments(quantization="none", lora_r=R, lora_dropout=0.0, engine_adapter=adapter)
    targets = ["experts.gate_up_proj", "experts.down_proj"]
    found, _ = estimate(tmp_path, arguments, targets, [64], 8, torch.float32)
    pack = {"input_ids": [5] * 64, "example_lengths": [64], "prompt_lengths": [56]}
    assert count_operations(tmp_path, arguments, targets, [pack], torch.float32).forward_operations > 0
    model = add_adapter(model, arguments, targets).train()
    assert found.adapter == 16 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    loss, kept = PackedLoss(model, 64, arguments), {}
    frozen = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss(collate([pack]))
    measured = sum(storage.nbytes() for storage in kept.values())
    assert found.activations == pytest.approx(measured, rel=0.15)


QUANTIZED = ["q_proj", "experts.gate_up_proj", "experts.down_proj"]


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize(("method", "off"), [("int8", 0.01), ("nf4", 0.4)])
def test_quantized_experts_train_as_their_dequantized_weights(
    kind: str, method: str, off: float, tmp_path: Path
) -> None:
    """Loss and gradient to 1e-4, and what is generated. The files hold each expert by itself, or (in, out) of all.

    NF4 is 0.1 off in matrices of usual size.
    """
    plain, arguments = saved(kind, tmp_path), Arguments(quantization=method, lora_r=R, lora_dropout=0.0)
    base = load_base(tmp_path, arguments, torch.float32, torch.device("cpu"))
    codes: dict[str, Any] = stacked_experts(base)
    transposed = kind == "gpt_oss"
    assert codes.keys() == stacked_experts(plain).keys()
    for path, weight in stacked_experts(plain).items():
        near = torch.stack(list(expert_weights(codes[path], False, range(len(weight)), torch.float32)))
        near = near.transpose(1, 2) if transposed else near
        assert (near - weight).norm() <= off * weight.norm()
        weight.data = near
    for name, layer in base.named_modules():
        if is_quantized(layer):
            plain.get_submodule(name).weight.data = weight_of(layer, torch.float32)

    found, wanted = (trained_with(model, arguments) for model in (base, plain))
    assert found[0] == pytest.approx(wanted[0], rel=1e-4)
    assert (found[1] - wanted[1]).norm() <= 1e-4 * wanted[1].norm()
    assert found[2] == wanted[2]


def saved(kind: str, folder: Path) -> Any:
    """A tiny model of a family, and its files."""
    (family,) = (family for family in FAMILIES if family.kind == kind)
    model = random_family_model(family).requires_grad_(False)
    model.save_pretrained(folder)
    return model


def trained_with(model: Any, arguments: Arguments) -> tuple[float, torch.Tensor, list[int]]:
    """The loss and gradient of a random adapter on `model`, and tokens that are generated with it."""
    adapted = add_adapter(model, arguments, QUANTIZED).train()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    loss_of = PackedLoss(adapted, 64, arguments)
    loss, _ = loss_of(
        collate([{"input_ids": list(range(5, 69)), "example_lengths": [40, 24], "prompt_lengths": [9, 9]}])
    )
    loss.backward()
    gradients = torch.cat([p.grad.flatten() for p in adapted.parameters() if p.grad is not None])
    with loss_of.generating():
        tokens = model.generate(torch.arange(5, 12)[None], max_new_tokens=8, do_sample=False, use_cache=True)
    return loss.item(), gradients, tokens[0].tolist()


def test_quantized_experts_take_the_bytes_that_are_planned(tmp_path: Path) -> None:
    """int8 codes and a scale for each row. A merge knows them again in the files, and the job counts them."""
    saved("qwen3_moe", tmp_path)
    arguments = Arguments(quantization="int8", lora_r=R, lora_dropout=0.0)
    base = load_base(tmp_path, arguments, torch.float32, torch.device("cpu"))
    held = sum(codes_of(parameter).nbytes for parameter in base.parameters())
    rows = 8 * sum(layer.out_features for layer in base.modules() if is_quantized(layer))
    rows += 4 * sum(stacked.shape[0] * stacked.shape[1] for stacked in stacked_experts(base).values())
    planned, _ = estimate(tmp_path, arguments, QUANTIZED, [64], 8, torch.float32)
    assert planned.weights == held + rows
    largest = max(stacked.numel() for stacked in stacked_experts(base).values()) * 4
    short, _ = estimate(tmp_path, arguments, ["q_proj"], [2], 1, torch.float32, recompute_all=True)
    assert short.total == short.weights + 3 * largest, "loading holds a stack's parts beside it"
    model = add_adapter(base, arguments, QUANTIZED)
    assert count_layers(model) == (12, 1)  # of each layer four of attention and two of experts; and the head
    try_merge(tmp_path, model)
    for stacked in stacked_experts(base).values():
        codes_of(stacked).zero_()
    with pytest.raises(TrainingError, match="is not the part of"):
        try_merge(tmp_path, model)


def test_quantized_experts_whose_result_is_wrong_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("qwen3_moe", tmp_path)
    arguments = Arguments(quantization="int8", lora_r=R, lora_dropout=0.0)
    base = load_base(tmp_path, arguments, torch.float32, torch.device("cpu"))
    monkeypatch.setattr("engine.experts_layers._apart", lambda *_: 0.3)
    with pytest.raises(TrainingError, match=r"result for Qwen3MoeExperts is 30\.00% off transformers'"):
        add_adapter(base, arguments, ["q_proj"])
