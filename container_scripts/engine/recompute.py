"""Values that the backward pass makes a second time, because keeping them takes more memory than their parts do.

    value                            kept of it before, of each token            kept now
    norm of bf16 or fp16             its input in float32 and its output         input and output, 2 bytes a value
    down(act(gate(x)) * up(x))       gate, act(gate), up and their product       gate and up

A value is made again by the function that made it, so it has the same bits, and its gradient is PyTorch's own. That
costs a few passes over a tensor; no matrix product is repeated. In a Llama of bf16 whose linear layers all have
adapters, a third of the activations is not kept. Liger's kernels (Hsu et al. 2024) make act(gate) again too, and keep
the product.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

Make = Callable[..., torch.Tensor]
"""Tensors → the value that they are the parts of. It draws no random numbers."""


class _Remade(torch.autograd.Function):
    """make(*parts), of which only the parts are kept."""

    @staticmethod
    def forward(ctx: Any, make: Make, *parts: torch.Tensor) -> torch.Tensor:
        ctx.make = make
        ctx.save_for_backward(*parts)
        return make(*parts)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        value, parts = make_again(ctx.make, ctx.saved_tensors)
        return None, *torch.autograd.grad(value, parts, upstream[0])


def make_again(make: Make, kept: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The value, and the parts to which its gradient flows, as torch.autograd.grad wants them."""
    parts = [part.detach().requires_grad_() for part in kept]
    with torch.enable_grad():
        return make(*parts), parts


def remade(make: Make, *parts: torch.Tensor) -> torch.Tensor:
    """make(*parts), differentiable in `parts`, of which only they are kept for the backward pass."""
    value: torch.Tensor = _Remade.apply(make, *parts)  # type: ignore[no-untyped-call]
    return value


def keep_parts_only(model: torch.nn.Module) -> None:
    """Replace the forward of norms and of gated layers in a frozen model: same values, less kept.

    Layers with an adapter must be in place already: those whose forward takes `make` keep parts themselves.
    """
    modules: list[Any] = list(model.modules())
    for module in modules:
        if _is_gated(module):
            module.forward = partial(_gated_forward, module, _takes_parts(module.down_proj))
        elif _is_norm_of_half_precision(module):
            module.forward = partial(_norm_forward, module.forward)


def count_remade(model: torch.nn.Module) -> int:
    """How many norms and gated layers of a model keep their parts only."""
    ours = (_gated_forward, _norm_forward)
    return sum(getattr(vars(module).get("forward"), "func", None) in ours for module in model.modules())


def _gated_forward(self: Any, takes_parts: bool, x: torch.Tensor) -> torch.Tensor:
    gate, up, make = self.gate_proj(x), self.up_proj(x), partial(_gated, self.act_fn)
    out: torch.Tensor = self.down_proj(gate, up, make=make) if takes_parts else self.down_proj(remade(make, gate, up))
    return out


def _gated(act: Callable[[torch.Tensor], torch.Tensor], gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return act(gate) * up


def _norm_forward(forward: Make, x: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
    return forward(x, *more, **named) if more or named else remade(forward, x)


def _takes_parts(layer: Any) -> bool:
    return "make" in inspect.signature(layer.forward).parameters


def _is_gated(module: torch.nn.Module) -> bool:
    """Whether its forward computes what ours does, as in most architectures: tried with numbers in place of layers."""
    if "forward" in vars(module) or not all(hasattr(module, name) for name in vars(_NUMBERS)):
        return False
    try:
        return all(type(module).forward(_NUMBERS, x) == _gated_number(x) for x in (1, -2, 5, 7))
    except Exception:  # it asks for more than these four
        return False


_NUMBERS: Any = SimpleNamespace(
    gate_proj=lambda x: x + 2, up_proj=lambda x: 3 * x + 1, act_fn=lambda x: x * x, down_proj=lambda x: 5 * x - 1
)


def _gated_number(x: Any) -> Any:
    return _NUMBERS.down_proj(_gated(_NUMBERS.act_fn, _NUMBERS.gate_proj(x), _NUMBERS.up_proj(x)))


def _is_norm_of_half_precision(module: torch.nn.Module) -> bool:
    """PyTorch's own norms keep no copy in float32."""
    name, kind = type(module).__name__, type(module).__module__
    weights = list(module.parameters())
    return (
        "Norm" in name
        and not kind.startswith("torch.")
        and len(weights) > 0
        and all(weight.itemsize == 2 and not weight.requires_grad for weight in weights)
    )
