"""Linear layers with a frozen, quantized weight and a LoRA adapter.

The weights are bitsandbytes', the adapter's parameters are PEFT's, and the arithmetic is here.

One layer, with T = tokens of the batch, I = in_features, O = out_features, r = the adapter's rank, s = alpha / r:

    W   (O, I)   frozen; held as int8 codes and one scale per row, or as NF4, or in the compute dtype
    A   (r, I)   trained, float32                 x   (T, I)   input, compute dtype (bf16, fp16 or float32)
    B   (O, r)   trained, float32                 g   (T, O)   gradient of the output, compute dtype
    m   (T, I)   dropout mask: 0 where a value is dropped, else 1 / (1 - dropout)

Forward, three products (one large, two thin):

    h = (x * m) A^T                 (T, r)
    y = x W^T + bias + s h B^T      (T, O)

Backward, five products (one large, four thin). W is frozen, so its gradient g^T x, a large product, is not made:

    dh = s g B                      (T, r)
    dA = dh^T (x * m)               (r, I)
    dB = s g^T h                    (O, r)
    dx = g W + (dh A) * m           (T, I)

Saved for the backward pass: x, h, A and B. x is shared: when query, key and value layers read the same x, autograd
holds it once. Recomputed: the mask (from its seed) and W in the compute dtype, which is dequantized for one
product and then let go, in both passes. Example for I = O = 4,096, r = 8, T = 2,048 in bf16: x is 16 MiB, h 32 KiB,
W 16 MiB as int8 and 32 MiB dequantized. PEFT around bitsandbytes saves x, a dropped copy of x, and a mask for each
layer.

Why not bitsandbytes' own int8 product: it quantizes the activations too. On CUDA it searches for outliers, which waits
for the device in every layer. On a CPU its evaluation path is many times slower than its training path, and its
training path saves x for the gradient of W. Its 4-bit layers repack their weights at their first evaluation.

Sources: LoRA (Hu et al. 2021); int8 with one absmax per row (Dettmers et al. 2022); NF4 (Dettmers et al. 2023).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

Dequantize = Callable[[torch.dtype], torch.Tensor]
"""dtype → the layer's weight W in that dtype, (out_features, in_features)."""
Multiply = Callable[[torch.Tensor], torch.Tensor]
"""x, (tokens, in_features) → x W^T + bias, (tokens, out_features): a new tensor, which the caller may change."""
_LEVELS = 2**16  # values of an int16
_OUTLIER = 6.0  # LLM.int8()'s threshold: activation columns with a larger value are multiplied in the compute dtype


class _FrozenLinear(torch.autograd.Function):
    """y = x W^T + bias, and dx = g W. Nothing is saved: dx needs only the weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, multiply: Multiply, dequantize: Dequantize) -> torch.Tensor:
        ctx.dequantize = dequantize
        return _shaped_as(x, multiply(x.flatten(0, -2)))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return upstream[0] @ ctx.dequantize(upstream[0].dtype), None, None


class _AdaptedLinear(torch.autograd.Function):
    """A frozen layer and its adapter: the forward and backward formulas at the head of this module."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        multiply: Multiply,
        dequantize: Dequantize,
        scale: float,
        dropout: float,
    ) -> torch.Tensor:
        seed = int(torch.randint(2**62, ())) if dropout else 0
        rows = x.flatten(0, -2)
        dropped = rows * _dropout_mask(rows, dropout, seed) if dropout else rows
        h = dropped @ a.to(x.dtype).T
        out = multiply(rows).addmm_(h, b.to(x.dtype).T, alpha=scale)
        ctx.save_for_backward(x, h, a, b)
        ctx.dequantize, ctx.scale, ctx.dropout, ctx.seed = dequantize, scale, dropout, seed
        return _shaped_as(x, out)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, h, a, b = ctx.saved_tensors
        grad, rows = upstream[0].flatten(0, -2), x.flatten(0, -2)
        grad_h = (grad @ b.to(grad.dtype)).mul_(ctx.scale)
        mask = _dropout_mask(rows, ctx.dropout, ctx.seed) if ctx.dropout else None
        grad_a = grad_h.T @ (rows if mask is None else rows * mask)
        grad_b = (grad.T @ h).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.dequantize(grad.dtype)
            if mask is None:
                grad_x.addmm_(grad_h, a.to(grad.dtype))
            else:
                grad_x.addcmul_(grad_h @ a.to(grad.dtype), mask)
            grad_x = grad_x.view_as(x)
        return grad_x, grad_a.to(a.dtype), grad_b.to(b.dtype), None, None, None, None


def _shaped_as(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`rows`, (tokens, out_features), in the leading shape of `x`.

    Autograd forbids models to change a view that a Function returns in place (Llama 4 does), so it is not told of this
    one. PyTorch's own linear layer does the same.
    """
    shaped: torch.Tensor = torch.ops.aten._unsafe_view(rows, (*x.shape[:-1], rows.shape[1]))
    return shaped


def _dropout_mask(like: torch.Tensor, dropout: float, seed: int) -> torch.Tensor:
    """m: 0 with probability `dropout`, else 1 / (1 - dropout); the shape, dtype and device of `like`.

    A random number of 64 bits decides about four values, 16 bits each: a quarter of the time of one number per value,
    on a CPU. So `dropout` is rounded to a multiple of 1/65,536.
    """
    generator = torch.Generator(like.device).manual_seed(seed)
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    draws.random_(-(2**63), None, generator=generator)
    dropped = round(dropout * _LEVELS)  # this many of the levels mean "drop"
    kept = draws.view(torch.int16)[: like.numel()].view_as(like) >= dropped - _LEVELS // 2
    return kept.to(like.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def adapted_linear(
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    dequantize: Dequantize,
    multiply: Multiply,
    scale: float = 1.0,
    dropout: float = 0.0,
) -> torch.Tensor:
    """x W^T + bias + scale · dropout(x) A^T B^T (LoRA, Hu et al. 2021), differentiable in `x`, `a` and `b`.

    Args:
        x: (..., in_features), any float dtype; all arithmetic is in this dtype.
        a: (r, in_features) float32.
        b: (out_features, r) float32.
        dequantize: returns W, (out_features, in_features), in a given dtype.
        multiply: returns x W^T + bias.
        scale: alpha / r.
        dropout: probability that a value of the adapter's input is dropped. The mask's seed is drawn from torch's
            default generator.

    Returns:
        (..., out_features), in the dtype of `x`.
    """
    out: torch.Tensor = _AdaptedLinear.apply(x, a, b, multiply, dequantize, scale, dropout)  # type: ignore[no-untyped-call]
    return out


def dequantize_int8(codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """An int8 weight in `dtype`, (out_features, in_features): codes · scales, one scale per row.

    Args:
        codes: (out_features, in_features) int8.
        scales: (out_features,) float32: the largest absolute weight of each row, divided by 127.
        dtype: any float dtype; each weight is rounded to it once.
    """
    if codes.is_cuda:  # one pass over the weight
        return torch.mul(codes, scales[:, None], out=torch.empty(codes.shape, dtype=dtype, device=codes.device))
    return codes.to(dtype).mul_(scales[:, None])  # a CPU multiplies one type twenty times faster than two


def replace_linear_forwards(model: torch.nn.Module, linear: str = "dequantized", adapter: str = "fused") -> int:
    """Replace the forward of every quantized layer and of every layer with an adapter; return how many there are.

    Args:
        model: a frozen model under PEFT, changed in place.
        linear: how int8 layers multiply in the forward pass. `dequantized`: by the weight in the compute dtype. `int8`:
            the activations are quantized row by row, and codes are multiplied by codes. `llm.int8`: the same, but
            activation columns with outliers are multiplied in the compute dtype (Dettmers et al. 2022). The backward
            pass always uses the dequantized weight.
        adapter: `fused`: layer and adapter are one step, as above. `peft`: PEFT's own forward calls the layer.
    """
    from peft.tuners.lora import LoraLayer

    modules: list[Any] = list(model.modules())  # a LoraLayer comes before the base layer that it holds
    fused, count = set(), 0  # base layers that their adapter's forward already covers
    for module in modules:
        if isinstance(module, LoraLayer) and adapter == "fused":
            layer: Any = module.get_base_layer()
            module.forward = partial(_adapted_forward, module, *_multiply_and_dequantize(layer, linear))
            fused.add(layer)
        elif is_quantized(module) and module not in fused:
            module.forward = partial(_frozen_forward, *_multiply_and_dequantize(module, linear))
        else:
            continue
        count += 1
    return count


def _adapted_forward(self: Any, multiply: Multiply, dequantize: Dequantize, x: torch.Tensor) -> torch.Tensor:
    (name,) = self.active_adapters
    dropout = self.lora_dropout[name]
    p = dropout.p if self.training and isinstance(dropout, torch.nn.Dropout) else 0.0
    a, b = self.lora_A[name].weight, self.lora_B[name].weight
    return adapted_linear(x, a, b, dequantize, multiply, self.scaling[name], p)


def _frozen_forward(multiply: Multiply, dequantize: Dequantize, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = _FrozenLinear.apply(x, multiply, dequantize)  # type: ignore[no-untyped-call]
    return out


def _multiply_and_dequantize(layer: Any, linear: str) -> tuple[Multiply, Dequantize]:
    """The two functions of one layer: bitsandbytes' int8 or 4-bit, PyTorch's Linear, or GPT-2's transposed Conv1D."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    from transformers.pytorch_utils import Conv1D

    if isinstance(layer, Linear8bitLt):
        codes, absmax = layer.weight.data, layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
        dequantize: Dequantize = partial(dequantize_int8, codes, absmax.float() / 127)
        if linear != "dequantized":
            threshold = _OUTLIER if linear == "llm.int8" else 0.0
            return partial(_int8_product, codes, absmax, layer.bias, threshold), dequantize
    elif isinstance(layer, Linear4bit):
        dequantize = partial(_nf4_weight, layer)
    else:
        dequantize = partial(_plain_weight, layer, isinstance(layer, Conv1D))
    return partial(_product, dequantize, layer.bias), dequantize


def weight_of(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    """The weight of a linear layer, quantized or not, in `dtype`: (out_features, in_features)."""
    _, dequantize = _multiply_and_dequantize(layer, "dequantized")
    return dequantize(dtype)


def is_quantized(module: torch.nn.Module) -> bool:
    """Whether a layer holds its weight as int8 or 4-bit codes."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return isinstance(module, Linear8bitLt | Linear4bit)


def _nf4_weight(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    return weight


def _plain_weight(layer: Any, transposed: bool, dtype: torch.dtype) -> torch.Tensor:
    weight: torch.Tensor = layer.weight.to(dtype)
    return weight.T if transposed else weight


def _product(dequantize: Dequantize, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, dequantize(x.dtype), bias)


def _int8_product(
    codes: torch.Tensor, absmax: torch.Tensor, bias: torch.Tensor | None, threshold: float, x: torch.Tensor
) -> torch.Tensor:
    """x W^T + bias by bitsandbytes' int8 kernels, which quantize each row of x.

    With a positive `threshold`, columns of x that hold a larger value are multiplied in the dtype of x instead.
    """
    operations = torch.ops.bitsandbytes
    quantized, scales, outliers = operations.int8_vectorwise_quant(x.half(), threshold)
    if threshold:
        mixed = operations.int8_mixed_scaled_mm(x, quantized, codes, scales, absmax, outliers, bias)
        out: torch.Tensor = mixed[0]
    else:
        out = operations.int8_scaled_mm(quantized, codes, scales, absmax, bias=bias, dtype=x.dtype)
    return out
