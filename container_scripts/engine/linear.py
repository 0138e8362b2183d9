"""Linear layers with a frozen, quantized weight and a LoRA adapter.

The weights are bitsandbytes', the adapter's parameters are PEFT's, and the arithmetic is here. layers.py puts it into a
model.

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

The order of the sums decides how well bf16 trains. A young adapter changes y by less than half of what the last bit of
y is worth: added to x W^T that is rounded already, most of the change is rounded away. (y 1.0, change 0.003: the next
bf16 number after 1.0 is 1.0078, so the sum is 1.0 again.) Therefore the thin product comes first, and the large one is
added to it: a matrix product adds in float32 and rounds once, and the change survives on average. The same holds for
dx. PEFT, and what is built on it, adds to the rounded product.

Saved for the backward pass: x, h, A and B. x is shared: when query, key and value layers read the same x, autograd
holds it once. Where x is made of tensors that are held anyway, they are saved instead (recompute.py). Recomputed: the
mask (from its seed) and W in the compute dtype, which is dequantized for one product and then let go, in both passes.
Example for I = O = 4,096, r = 8, T = 2,048 in bf16: x is 16 MiB, h 32 KiB, W 16 MiB as int8 and 32 MiB dequantized.
PEFT around bitsandbytes saves x, a dropped copy of x, and a mask for each layer.

DoRA gives every row of W + s B A a length of its own, m (O,), which is trained too:

    c = m / ||W + s B A||          (O,)   row norms in float32; for the gradient they are constants
    y = c (x W^T + s h B^T) + bias        (T, O)
    dm = sum over T of g (x W^T + s h B^T) / ||W + s B A||,    and c g takes the place of g above

Saved beside x and h: what c multiplies, (T, O). With dropout, PEFT drops values of x before W too, in the part that
c - 1 multiplies: y = (x - x * m) W^T + c ((x * m) W^T + s h B^T) + bias, which is a second large product.

Sources: LoRA (Hu et al. 2021); DoRA (Liu et al. 2024); int8 with one absmax per row (Dettmers et al. 2022); NF4
(Dettmers et al. 2023).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from engine.recompute import Make, make_again

Dequantize = Callable[[torch.dtype], torch.Tensor]
"""dtype → the layer's weight W in that dtype, (out_features, in_features)."""
Multiply = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""x, (tokens, in_features), and u, (tokens, out_features) → u + x W^T + bias. u may be changed; None is zero."""
_LEVELS = 2**16  # values of an int16


class _FrozenLinear(torch.autograd.Function):
    """y = x W^T + bias, and dx = g W. Nothing is saved: dx needs only the weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dequantize: Dequantize, multiply: Multiply) -> torch.Tensor:
        ctx.dequantize = dequantize
        return _shaped_as(x, multiply(x.flatten(0, -2), None))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return upstream[0] @ ctx.dequantize(upstream[0].dtype), None, None


class _AdaptedLinear(torch.autograd.Function):
    """A frozen layer and its adapter: the forward and backward formulas at the head of this module."""

    @staticmethod
    def forward(
        ctx: Any,
        a: torch.Tensor,
        b: torch.Tensor,
        multiply: Multiply,
        dequantize: Dequantize,
        scale: float,
        dropout: float,
        make: Make | None,
        *parts: torch.Tensor,
    ) -> torch.Tensor:
        x = make(*parts) if make else parts[0]
        seed = draw_seed() if dropout else 0
        rows = x.flatten(0, -2)
        dropped = rows * _dropout_mask(rows, dropout, seed) if dropout else rows
        h = dropped @ a.to(x.dtype).T
        out = multiply(rows, h @ (scale * b).to(x.dtype).T)
        ctx.save_for_backward(h, a, b, *parts)
        ctx.dequantize, ctx.scale, ctx.dropout, ctx.seed, ctx.make = dequantize, scale, dropout, seed, make
        return _shaped_as(x, out)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, a, b, *parts = ctx.saved_tensors
        x = parts[0]
        if ctx.make:
            x, parts = make_again(ctx.make, parts)
        grad, rows = upstream[0].flatten(0, -2), x.flatten(0, -2)
        grad_h = (grad @ b.to(grad.dtype)).mul_(ctx.scale)
        mask = _dropout_mask(rows, ctx.dropout, ctx.seed) if ctx.dropout else None
        grad_a = grad_h.T @ (rows if mask is None else rows * mask)
        grad_b = (grad.T @ h).mul_(ctx.scale)
        grads: tuple[torch.Tensor | None, ...] = (None,) * len(parts)
        if any(ctx.needs_input_grad[-len(parts) :]):
            grad_x = grad_h @ a.to(grad.dtype)
            if mask is not None:
                grad_x.mul_(mask)
            grad_x = grad_x.addmm_(grad, ctx.dequantize(grad.dtype)).view_as(x)
            grads = torch.autograd.grad(x, parts, grad_x) if ctx.make else (grad_x,)
        return grad_a.to(a.dtype), grad_b.to(b.dtype), None, None, None, None, None, *grads


def _shaped_as(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`rows`, (tokens, out_features), in the leading shape of `x`.

    Autograd forbids models to change a view that a Function returns in place (Llama 4 does), so it is not told of this
    one. PyTorch's own linear layer does the same.
    """
    shaped: torch.Tensor = torch.ops.aten._unsafe_view(rows, (*x.shape[:-1], rows.shape[1]))
    return shaped


def draw_seed() -> int:
    """Of a dropout mask: from torch's default generator."""
    return int(torch.randint(2**62, ()))


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
    x: torch.Tensor | Sequence[torch.Tensor],
    a: torch.Tensor,
    b: torch.Tensor,
    dequantize: Dequantize,
    multiply: Multiply,
    scale: float = 1.0,
    dropout: float = 0.0,
    make: Make | None = None,
) -> torch.Tensor:
    """x W^T + bias + scale · dropout(x) A^T B^T (LoRA, Hu et al. 2021), differentiable in `x`, `a` and `b`.

    Args:
        x: (..., in_features), any float dtype; all arithmetic is in this dtype. With `make`, the parts that it is made
            of: they are kept for the backward pass, and it is not.
        a: (r, in_features) float32.
        b: (out_features, r) float32.
        dequantize: returns W, (out_features, in_features), in a given dtype.
        multiply: adds x W^T + bias to a tensor.
        scale: alpha / r.
        dropout: probability that a value of the adapter's input is dropped. The mask's seed is drawn from torch's
            default generator.
        make: parts → x.

    Returns:
        (..., out_features), in the dtype of `x`.
    """
    parts = x if make else (x,)
    out: torch.Tensor = _AdaptedLinear.apply(a, b, multiply, dequantize, scale, dropout, make, *parts)  # type: ignore[no-untyped-call]
    return out


def frozen_linear(x: torch.Tensor, dequantize: Dequantize, multiply: Multiply) -> torch.Tensor:
    """x W^T + bias without an adapter, differentiable in `x`; arguments as in adapted_linear."""
    out: torch.Tensor = _FrozenLinear.apply(x, dequantize, multiply)  # type: ignore[no-untyped-call]
    return out


def dora_linear(
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    magnitude: torch.Tensor,
    dequantize: Dequantize,
    multiply: Multiply,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    dropout: float = 0.0,
) -> torch.Tensor:
    """DoRA (Liu et al. 2024) as at the head of this module, differentiable in `x`, `a`, `b` and `magnitude`.

    Args:
        x, a, b, dequantize, scale, dropout: as in adapted_linear.
        magnitude: (out_features,) float32: the length of each row of the weight.
        multiply: returns x W^T, without bias.
        bias: (out_features,), or None.

    Returns:
        (..., out_features), in the dtype of `x`.
    """
    with torch.no_grad():
        norm = torch.addmm(dequantize(torch.float32), b.float(), a.float(), alpha=scale).norm(dim=1)
    kept = functional.dropout(x, dropout) if dropout else x
    # In float32: c is so near to 1 that bf16 would not see it change.
    out: torch.Tensor = adapted_linear(kept, a, b, dequantize, multiply, scale) * (magnitude / norm)
    if dropout:
        out = out + frozen_linear(x - kept, dequantize, multiply)
    if bias is not None:
        out = out + bias
    return out.to(x.dtype)
