"""Linear layers with a frozen weight: bitsandbytes' quantised weights, PEFT's adapters, our arithmetic.

bitsandbytes' own int8 forward quantises the activations too: on CUDA it looks for outliers and waits for the device in
every layer; on a CPU its evaluation path is far slower than its training path; and its training path keeps every input
alive for a weight gradient that nobody asks for. Its 4-bit layers repack themselves when first evaluated. PEFT's
adapter keeps a copy of its input, and a mask, for every layer it is on. Here a quantised weight (row-wise absmax int8,
Dettmers et al. 2022; NF4, Dettmers et al. 2023) is widened to the type of the input, multiplied, and forgotten, in both
passes; and layer and adapter are one step, whose backward pass needs the input and nothing else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

Widen = Callable[[torch.dtype], torch.Tensor]
"""dtype → a layer's weight, (out_features, in_features)."""
Multiply = Callable[[torch.Tensor], torch.Tensor]
"""(tokens, in_features) → its product with the weight, plus the bias: (tokens, out_features), a new tensor."""
_LEVELS = 2**16  # of an int16
_OUTLIER = 6.0  # LLM.int8()'s threshold: columns of activations with larger values are multiplied apart


class _Frozen(torch.autograd.Function):
    """A frozen layer. Nothing is saved: its input's gradient needs the weight only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, multiply: Multiply, widen: Widen) -> torch.Tensor:
        ctx.widen = widen
        out = multiply(x.flatten(0, -2))
        return out.view(*x.shape[:-1], out.shape[1])

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return upstream[0] @ ctx.widen(upstream[0].dtype), None, None


class _Adapted(torch.autograd.Function):
    """A frozen layer and its adapter. The input is saved, which layers that read the same one share; dropout is drawn
    again in the backward pass, from the same seed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        multiply: Multiply,
        widen: Widen,
        scale: float,
        dropout: float,
    ) -> torch.Tensor:
        seed = int(torch.randint(2**62, ())) if dropout else 0
        rows = x.flatten(0, -2)
        dropped = rows * _kept(rows, dropout, seed) if dropout else rows
        low = dropped @ a.to(x.dtype).T
        out = multiply(rows).addmm_(low, b.to(x.dtype).T, alpha=scale)
        ctx.save_for_backward(x, low, a, b)
        ctx.widen, ctx.scale, ctx.dropout, ctx.seed = widen, scale, dropout, seed
        return out.view(*x.shape[:-1], out.shape[1])

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, low, a, b = ctx.saved_tensors
        grad, rows = upstream[0].flatten(0, -2), x.flatten(0, -2)
        low_grad = (grad @ b.to(grad.dtype)).mul_(ctx.scale)
        kept = _kept(rows, ctx.dropout, ctx.seed) if ctx.dropout else None
        grad_a = low_grad.T @ (rows if kept is None else rows * kept)
        grad_b = (grad.T @ low).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.widen(grad.dtype)
            if kept is None:
                grad_x.addmm_(low_grad, a.to(grad.dtype))
            else:
                grad_x.addcmul_(low_grad @ a.to(grad.dtype), kept)
            grad_x = grad_x.view_as(x)
        return grad_x, grad_a.to(a.dtype), grad_b.to(b.dtype), None, None, None, None


def _kept(like: torch.Tensor, dropout: float, seed: int) -> torch.Tensor:
    """What dropout multiplies by: 0 where a value is dropped, else what keeps the mean.

    One draw of 64 bits is four values' 16, a quarter of the time on a CPU; `dropout` is rounded to 1/65,536.
    """
    generator = torch.Generator(like.device).manual_seed(seed)
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    draws.random_(-(2**63), None, generator=generator)
    dropped = round(dropout * _LEVELS)  # of all levels
    kept = draws.view(torch.int16)[: like.numel()].view_as(like) >= dropped - _LEVELS // 2
    return kept.to(like.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def adapted_linear(
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    widen: Widen,
    multiply: Multiply,
    scale: float = 1.0,
    dropout: float = 0.0,
) -> torch.Tensor:
    """x Wᵀ + bias + scale · dropout(x) Aᵀ Bᵀ (LoRA, Hu et al. 2021), differentiable in `x`, `a` and `b`.

    Args:
        x: (..., in_features), any float type; the arithmetic is in it.
        a, b: (r, in_features), (out_features, r), float32.
        widen: gives W, (out_features, in_features).
        multiply: works out x Wᵀ + bias.
        scale: alpha / r.
        dropout: probability, on the adapter's input. Drawn from torch's default generator.

    Returns:
        (..., out_features), the type of `x`.
    """
    out: torch.Tensor = _Adapted.apply(x, a, b, multiply, widen, scale, dropout)  # type: ignore[no-untyped-call]
    return out


def widened_int8(codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """codes · scales, worked out in float32 and rounded to `dtype`.

    Args:
        codes: (out_features, in_features) int8.
        scales: (out_features,) float32, the largest absolute weight of each row divided by 127.
    """
    if codes.is_cuda:  # one pass over memory
        return torch.mul(codes, scales[:, None], out=torch.empty(codes.shape, dtype=dtype, device=codes.device))
    return codes.to(dtype).mul_(scales[:, None])  # a CPU multiplies one type twenty times faster than two


def use_our_arithmetic(model: torch.nn.Module, linear: str = "widened", adapter: str = "fused") -> int:
    """Give every quantised layer and every layer with an adapter the arithmetic above; returns how many there are.

    Args:
        model: a frozen model under PEFT, changed in place.
        linear: `widened`, or how int8 layers multiply going forward: `int8`, activations quantised too, row by row, or
            `llm.int8`, the same with outliers multiplied apart (Dettmers et al. 2022). Backward they widen, as always.
        adapter: `fused`, or `peft` for PEFT's own forward around the layer.
    """
    from peft.tuners.lora import LoraLayer

    modules: list[Any] = list(model.modules())  # an adapter stands before the layer that it is on
    inside, count = set(), 0
    for module in modules:
        if isinstance(module, LoraLayer) and adapter == "fused":
            layer: Any = module.get_base_layer()
            module.forward = partial(_adapted_forward, module, *_parts(layer, linear))
            inside.add(layer)
        elif _is_quantised(module) and module not in inside:
            module.forward = partial(_frozen_forward, *_parts(module, linear))
        else:
            continue
        count += 1
    return count


def _adapted_forward(self: Any, multiply: Multiply, widen: Widen, x: torch.Tensor) -> torch.Tensor:
    (name,) = self.active_adapters
    dropout = self.lora_dropout[name]
    p = dropout.p if self.training and isinstance(dropout, torch.nn.Dropout) else 0.0
    a, b = self.lora_A[name].weight, self.lora_B[name].weight
    return adapted_linear(x, a, b, widen, multiply, self.scaling[name], p)


def _frozen_forward(multiply: Multiply, widen: Widen, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = _Frozen.apply(x, multiply, widen)  # type: ignore[no-untyped-call]
    return out


def _is_quantised(module: torch.nn.Module) -> bool:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return isinstance(module, Linear8bitLt | Linear4bit)


def _parts(layer: Any, linear: str) -> tuple[Multiply, Widen]:
    """How a layer multiplies, and its weight: of bitsandbytes, of PyTorch, or GPT-2's transposed one."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    from transformers.pytorch_utils import Conv1D

    if isinstance(layer, Linear8bitLt):
        codes, absmax = layer.weight.data, layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
        widen: Widen = partial(widened_int8, codes, absmax.float() / 127)
        if linear != "widened":
            threshold = _OUTLIER if linear == "llm.int8" else 0.0
            return partial(_int8_product, codes, absmax, layer.bias, threshold), widen
    elif isinstance(layer, Linear4bit):
        widen = partial(_nf4_weight, layer)
    else:
        widen = partial(_plain_weight, layer, isinstance(layer, Conv1D))
    return partial(_product, widen, layer.bias), widen


def _nf4_weight(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    return weight


def _plain_weight(layer: Any, transposed: bool, dtype: torch.dtype) -> torch.Tensor:
    weight: torch.Tensor = layer.weight.to(dtype)
    return weight.T if transposed else weight


def _product(widen: Widen, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, widen(x.dtype), bias)


def _int8_product(
    codes: torch.Tensor, absmax: torch.Tensor, bias: torch.Tensor | None, threshold: float, x: torch.Tensor
) -> torch.Tensor:
    """bitsandbytes' int8 kernels: activations are quantised row by row, columns with outliers multiplied apart."""
    operations = torch.ops.bitsandbytes
    quantised, scales, outliers = operations.int8_vectorwise_quant(x.half(), threshold)
    if threshold:
        mixed = operations.int8_mixed_scaled_mm(x, quantised, codes, scales, absmax, outliers, bias)
        out: torch.Tensor = mixed[0]
    else:
        out = operations.int8_scaled_mm(quantised, codes, scales, absmax, bias=bias, dtype=x.dtype)
    return out
