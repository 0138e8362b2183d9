"""Quantised linear layers: bitsandbytes' weights, our arithmetic.

bitsandbytes' own int8 forward quantises the activations too: on CUDA it looks for outliers and waits for the device in
every layer; on the CPU its evaluation path is far slower than its training path; and its training path keeps every
input alive for a weight gradient that nobody asks for. Its 4-bit layers repack themselves when first evaluated. Here
only the weights are quantised (row-wise absmax int8, Dettmers et al. 2022; NF4, Dettmers et al. 2023): a layer's weight
is widened to the compute type, multiplied, and forgotten, in both passes. Nothing is saved for the backward pass.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch.nn import functional

Widen = Callable[[torch.dtype], torch.Tensor]
"""dtype → a layer's weight (out_features, in_features), but for the scales of its rows."""


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, widen: Widen, scales: torch.Tensor | None, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.widen, ctx.scales = widen, scales
        out = functional.linear(x, widen(x.dtype))
        if scales is not None:
            out.mul_(scales)
        return out if bias is None else out.add_(bias)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad = upstream[0] if ctx.scales is None else (upstream[0] * ctx.scales).to(upstream[0].dtype)
        return grad @ ctx.widen(grad.dtype), None, None, None


def int8_linear(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x @ (codes · scales)ᵀ + bias, differentiable in `x` only.

    bf16 and fp16 hold int8 codes exactly, and the scales are applied to the product in float32 arithmetic: so the
    weights are as exact as in float32, whatever the type of `x`.

    Args:
        x: (..., in_features), a floating type.
        codes: (out_features, in_features) int8.
        scales: (out_features,) float32, the largest absolute weight of each row divided by 127.
        bias: (out_features,) or None.

    Returns:
        (..., out_features), the type of `x`.
    """
    out: torch.Tensor = _FrozenLinear.apply(x, codes.to, scales, bias)  # type: ignore[no-untyped-call]
    return out


def multiply_by_widened_weights(model: torch.nn.Module, dtype: torch.dtype) -> int:
    """Give every bitsandbytes layer of `model` the arithmetic above, in `dtype`; returns how many there are."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    layers = 0
    for module in list(model.modules()):
        if isinstance(module, Linear8bitLt):
            scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            module.register_buffer("row_scales", scales.float() / 127, persistent=False)
            module.forward = MethodType(_int8_forward, module)
        elif isinstance(module, Linear4bit):
            module.forward = MethodType(_nf4_forward, module)
        else:
            continue
        module.widened_dtype = dtype
        layers += 1
    return layers


def _int8_forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return int8_linear(x.to(self.widened_dtype), self.weight.data, self.row_scales, self.bias)


def _nf4_forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    def widen(dtype: torch.dtype) -> torch.Tensor:
        weight: torch.Tensor = dequantize_4bit(self.weight.data, self.weight.quant_state).to(dtype)
        return weight

    with torch.autocast(x.device.type, enabled=False):
        out: torch.Tensor = _FrozenLinear.apply(  # type: ignore[no-untyped-call]
            x.to(self.widened_dtype), widen, None, self.bias
        )
        return out
