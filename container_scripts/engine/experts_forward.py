"""Experts that a model stacks in one parameter: the arithmetic of linear.py, for each expert and its tokens.

One such parameter, with E experts; S = tokens times the experts that each token goes to:

    W     (E, O, I)   frozen; some models store (E, I, O) and have `is_transposed`
    A_e   (r, I)      trained, float32: rows e r to (e + 1) r of PEFT's lora_A
    B_e   (O, r)      trained, float32: column k E + e of PEFT's lora_B is column k of B_e
    x     (S, I)      input, sorted by expert: x_e is the rows of expert e

    h_e = x_e A_e^T,    y_e = x_e W_e^T + bias_e + s h_e B_e^T        and backward as in linear.py

The thin product comes first and the large one is added to it, for the reason that linear.py's head gives. PEFT adds
s B_e A_e to all of W in the compute dtype: a change of less than half of the last bit of W is rounded away, each pass
makes W a second time, and its backward pass makes a gradient as large as W.

Saved for the backward pass: h, and what x is made of. Of the first parameter that is one row for each token, and not
one for each expert that it goes to; of the second it is what gate and activation are made of (recompute.py).

transformers gives most mixtures of experts one forward (integrations/moe.py), and the experts' modules what differs
between them: gate, biases, a norm. That forward is rewritten here. Models with a forward of their own (Llama 4,
DBRX, JetMoE) keep PEFT's way.

Sources: LoRA (Hu et al. 2021); grouped products of experts: MegaBlocks (Gale et al. 2022).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from typing import Any

import torch

from engine.recompute import Make, make_again

Ends = Callable[[torch.Tensor, int], Sequence[int]]
"""Expert of each row, sorted, and the number of experts → where the rows of each expert end."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One parameter of stacked experts, and its adapter if it has one."""

    weights: Callable[[Sequence[int], torch.dtype], Iterator[torch.Tensor]]
    """Experts and a dtype → W_e, (O, I), of each, until the next is asked for. None is read that is not asked for."""
    out_features: int
    bias: torch.Tensor | None = None
    """(E, O)"""
    a: torch.Tensor | None = None
    """(E r, I) float32; None without an adapter, and so is b."""
    b: torch.Tensor | None = None
    """(O, r E) float32"""
    scale: float = 1.0

    def weight(self, e: int, dtype: torch.dtype) -> torch.Tensor:
        """W_e of one expert, (O, I)."""
        return next(self.weights([e], dtype))


class _StackedLinear(torch.autograd.Function):
    """All experts of one parameter: the formulas at the head of this module."""

    @staticmethod
    def forward(
        ctx: Any,
        a: torch.Tensor | None,
        b: torch.Tensor | None,
        stack: Stack,
        ends: Sequence[int],
        make: Make,
        *parts: torch.Tensor,
    ) -> torch.Tensor:
        x = make(*(part.detach() for part in parts))  # PyTorch's counter of operations stumbles over views of others
        y = x.new_empty(len(x), stack.out_features)
        lora_a, lora_b = by_expert(a, b, len(ends), x.dtype, stack.scale)
        h = None if lora_a is None else x.new_empty(len(x), lora_a.shape[1])
        weights = stack.weights(_chosen(ends), x.dtype)
        for weight, (e, rows, out, low) in zip(weights, _each(ends, x, y, h), strict=True):
            if low is None:
                torch.mm(rows, weight.T, out=out)
            else:
                torch.mm(rows, lora_a[e].T, out=low)
                torch.mm(low, lora_b[e].T, out=out).addmm_(rows, weight.T)
            if stack.bias is not None:
                out.add_(stack.bias[e])
        ctx.save_for_backward(a, b, h, *parts)
        ctx.stack, ctx.ends, ctx.make = stack, ends, make
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        a, b, h, *kept = ctx.saved_tensors
        stack, grad = ctx.stack, upstream[0]
        grad_a: Any = None
        grad_b: Any = None
        x, parts = make_again(ctx.make, kept)
        lora_a, lora_b = by_expert(a, b, len(ctx.ends), grad.dtype, stack.scale)
        grad_h = None
        if h is not None:
            grad_a, grad_b, grad_h = torch.zeros_like(lora_a), torch.zeros_like(lora_b), torch.empty_like(h)
        flows = any(ctx.needs_input_grad[-len(parts) :])
        grad_x = torch.empty_like(x) if flows else None
        chosen = _chosen(ctx.ends)
        weights = stack.weights(chosen, grad.dtype) if flows else repeat(None, len(chosen))
        each = _each(ctx.ends, grad, x, h, grad_h, grad_x)
        for weight, (e, g, rows, low, grad_low, out) in zip(weights, each, strict=True):
            if low is not None:
                torch.mm(g, lora_b[e], out=grad_low)
                torch.mm(grad_low.T, rows, out=grad_a[e])
                torch.mm(g.T, low, out=grad_b[e])
            if weight is None:
                continue
            if low is None:
                torch.mm(g, weight, out=out)
            else:
                torch.mm(grad_low, lora_a[e], out=out).addmm_(g, weight)
        grads = (None,) * len(parts) if grad_x is None else torch.autograd.grad(x, parts, grad_x)
        if h is not None:
            grad_a = grad_a.view_as(a).to(a.dtype)
            grad_b = grad_b.permute(1, 2, 0).reshape_as(b).to(b.dtype).mul_(stack.scale)
        return grad_a, grad_b, None, None, None, *grads


class _Spread(torch.autograd.Function):
    """The rows of `hidden`, each for every expert that it goes to, in the order of the experts."""

    @staticmethod
    def forward(ctx: Any, order: torch.Tensor, top_k: int, hidden: torch.Tensor) -> torch.Tensor:
        ctx.order, ctx.top_k = order, top_k
        return hidden.index_select(0, order // top_k)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """A sum over each token's experts, which is rounded once and draws on no atomic additions."""
        return None, None, _by_token(upstream[0], ctx.order, ctx.top_k).sum(1)


def _by_token(rows: torch.Tensor, order: torch.Tensor, top_k: int) -> torch.Tensor:
    """Rows in the order of the experts, (S, n), as (tokens, top_k, n)."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return rows.index_select(0, back).view(-1, top_k, rows.shape[1])


def _chosen(ends: Sequence[int]) -> list[int]:
    """The experts that have rows."""
    return [e for e, (start, end) in enumerate(pairwise([0, *ends])) if end > start]


def _each(ends: Sequence[int], *tensors: torch.Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Each expert that has rows, and its rows of every tensor."""
    sizes = [end - start for start, end in pairwise([0, *ends])]
    parts = [repeat(None) if tensor is None else tensor.split(sizes) for tensor in tensors]
    for e, (size, *rows) in enumerate(zip(sizes, *parts, strict=False)):
        if size:
            yield e, *rows


def by_expert(
    a: torch.Tensor | None, b: torch.Tensor | None, experts: int, dtype: torch.dtype, scale: float
) -> tuple[Any, Any]:
    """A, (E, r, I), and scale · B, (E, O, r), in `dtype`; None without an adapter."""
    if a is None or b is None:
        return None, None
    rows = (scale * b).view(b.shape[0], -1, experts).permute(2, 0, 1)
    return a.view(experts, -1, a.shape[1]).to(dtype), rows.to(dtype).contiguous()


def ends_of(experts: torch.Tensor, count: int) -> list[int]:
    """Where the rows of each expert end. Waits for the device once; bincount would wait by itself before."""
    ends: list[int] = torch.searchsorted(experts, torch.arange(count, device=experts.device), right=True).tolist()
    return ends


def stacked_linear(stack: Stack, ends: Sequence[int], make: Make, *parts: torch.Tensor) -> torch.Tensor:
    """y of the formulas at the head of this module, differentiable in `parts`, and in the adapter.

    Args:
        ends: where the rows of each expert end.
        make: parts → x, (S, I), sorted by expert. It is made again in the backward pass.

    Returns:
        (S, O), in the dtype of x.
    """
    out: torch.Tensor = _StackedLinear.apply(stack.a, stack.b, stack, ends, make, *parts)  # type: ignore[no-untyped-call]
    return out


def experts_forward(
    experts: Any,
    stacks: Mapping[str, Stack],
    ends_of: Ends,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """transformers' grouped_mm_experts_forward, with the adapters of `stacks`.

    Args:
        experts: a module under transformers' use_experts_implementation.
        stacks: its parameters, by name.
        hidden_states: (tokens, hidden).
        top_k_index: (tokens, k) int64: the experts that each token goes to.
        top_k_weights: (tokens, k): what each expert's output counts.

    Returns:
        (tokens, hidden), in the dtype of `hidden_states`.
    """
    ids, order = torch.sort(top_k_index.flatten(), stable=True)
    ends, top_k = ends_of(ids, experts.num_experts), top_k_index.shape[1]
    spread = partial(_Spread.apply, order, top_k)
    first = stacked_linear(stacks[first_name(experts)], ends, spread, hidden_states)
    out = stacked_linear(stacks["down_proj"], ends, experts._apply_gate if experts.has_gate else experts.act_fn, first)
    if experts.has_post_expert_norm:
        out = experts.post_expert_norm(out)
    weighted = out * top_k_weights.flatten().index_select(0, order)[:, None]
    return _by_token(weighted, order, top_k).sum(1).to(hidden_states.dtype)


def first_name(experts: Any) -> str:
    """The parameter that multiplies the experts' input."""
    return "gate_up_proj" if experts.has_gate else "up_proj"
