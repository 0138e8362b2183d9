"""Adapters for a model of fake tensors (fake_pass.py): they hold what the real ones hold. PEFT cannot be used there."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch.nn import functional
from torch.nn.utils import parametrize

from engine.arguments import Arguments
from engine.experts_forward import experts_forward
from engine.experts_layers import engine_computes, stacks_of
from engine.linear import adapted_linear, dora_linear
from engine.recompute import Make, remade
from shared.lora_targets import stacked_experts, target_experts, target_layers


class _FakeLora(torch.nn.Module):
    """Stands for a layer with an adapter and saves the same tensors."""

    def __init__(self, layer: Any, arguments: Arguments) -> None:
        super().__init__()
        self.layer, r = layer, arguments.lora_r
        self.transposed = not isinstance(layer, torch.nn.Linear)  # GPT-2's Conv1D
        out_features, in_features = reversed(layer.weight.shape) if self.transposed else layer.weight.shape
        self.a = torch.nn.Parameter(torch.empty(r, in_features, dtype=torch.float32))
        self.b = torch.nn.Parameter(torch.empty(out_features, r, dtype=torch.float32))
        self.magnitude = torch.nn.Parameter(torch.empty(out_features)) if arguments.lora_dora else None
        self.dropout, self.fused = arguments.lora_dropout, arguments.engine_adapter == "fused"

    def _weight_in(self, dtype: torch.dtype) -> torch.Tensor:
        weight: torch.Tensor = self.layer.weight.to(dtype)
        return weight.T if self.transposed else weight

    def _multiply(self, x: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
        out: torch.Tensor = self.layer(x) if start is None else start.addmm_(x, self._weight_in(x.dtype).T)
        return out

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight: Mamba's forward reads it."""
        return cast(torch.Tensor, self.layer.weight)

    @property
    def bias(self) -> torch.Tensor | None:
        """The frozen bias."""
        return cast("torch.Tensor | None", self.layer.bias)

    def forward(self, *parts: torch.Tensor, make: Make | None = None) -> torch.Tensor:
        if self.fused and self.magnitude is None:
            x, weight, drop = parts if make else parts[0], self._weight_in, self.dropout
            return adapted_linear(x, self.a, self.b, weight, self._multiply, dropout=drop, make=make)
        x = remade(make, *parts) if make else parts[0]
        if self.magnitude is not None:  # PEFT's saves about as much
            return dora_linear(
                x, self.a, self.b, self.magnitude, self._weight_in, self._multiply, self.bias, dropout=self.dropout
            )
        low = functional.linear(functional.dropout(x.to(self.a.dtype), self.dropout), self.a)
        out: torch.Tensor = self.layer(x) + functional.linear(low, self.b) * 4.0
        return out.to(x.dtype)


class _FakeExpertLora(torch.nn.Module):
    """Stands for the update of stacked experts, (experts, m, n), which PEFT adds to their weights in each pass."""

    def __init__(self, experts: torch.Tensor, r: int) -> None:
        super().__init__()
        count, rows, columns = experts.shape
        self.a = torch.nn.Parameter(torch.empty(count, r, columns))
        self.b = torch.nn.Parameter(torch.empty(count, rows, r))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(weight, self.b.to(weight.dtype), self.a.to(weight.dtype))


def _add_fake_to_experts(experts: Any, names: Sequence[str], arguments: Arguments) -> None:
    """Adapters on the parameters `names` of one module of experts, which may be none if it is quantized."""
    if not engine_computes(experts, arguments):
        for name in names:
            update = _FakeExpertLora(getattr(experts, name), arguments.lora_r)
            parametrize.register_parametrization(experts, name, update, unsafe=True)
        return
    stacks = stacks_of(experts, {})
    for name in names:
        count, *sides = getattr(experts, name).shape
        out, r = stacks[name].out_features, count * arguments.lora_r
        a, b = (torch.nn.Parameter(torch.empty(shape)) for shape in ((r, sum(sides) - out), (out, r)))
        experts.register_parameter(f"{name}_a", a)
        experts.register_parameter(f"{name}_b", b)
        stacks[name] = replace(stacks[name], a=a, b=b)
    # All tokens go to one expert, which saves what any other way does.
    experts.forward = partial(experts_forward, experts, stacks, lambda ids, count: [len(ids)] * count)


def add_fake_adapters(model: Any, arguments: Arguments, targets: Sequence[str]) -> int:
    """Put a _FakeLora around each target layer, and its like on experts; return how many parameters they have."""
    before = model.num_parameters()
    names: dict[str, list[str]] = {}
    for path in stacked_experts(model) if arguments.quantization != "none" else ():
        names.setdefault(path.rpartition(".")[0], [])
    for path in target_experts(model, targets):
        parent, _, own = path.rpartition(".")
        names.setdefault(parent, []).append(own)
    for parent, stacked in names.items():
        _add_fake_to_experts(model.get_submodule(parent), stacked, arguments)
    for name, module in target_layers(model, targets).items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, _FakeLora(module, arguments))
    return int(model.num_parameters() - before)
