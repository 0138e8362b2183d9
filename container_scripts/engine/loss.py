"""Cross-entropy that multiplies the head only where there is a label, a few hundred rows at a time.

With N = rows that have a label, H = hidden size, V = vocabulary, C = rows per chunk, and

    h   (N, H)   the body's last hidden state at those rows, compute dtype
    W   (V, H)   the head's weight, frozen; b (V,) its bias, if it has one
    t   (N,)     the next tokens, int64

the loss is the sum over all rows of  logsumexp(z) - z[t]  with  z = h W^T + b  (one row of z has V values).

W is frozen, so the only gradient is that of h, and it depends on one row's z alone:

    dh = (softmax(z) - one_hot(t)) W

So the forward pass computes both, chunk by chunk: z (C, V) in the compute dtype; a few rows of it at a time in
float32, their loss, and their softmax in the place of z; then dh. Saved for the backward pass: dh (N, H). Recomputed:
nothing; the backward pass multiplies dh by the upstream gradient. A tensor of (tokens, V) is never made. Example,
BLOOM's V = 250,880 at 2,048 tokens of which 400 have a label: all logits in float32 are 1.9 GiB and their gradient as
much again; here a chunk of 400 rows is 0.19 GiB in bf16, and 128 rows of it in float32 are 0.12 GiB.

The idea is that of Liger's fused linear cross-entropy (Hsu et al. 2024) and of cut cross-entropy (Wijmans et al. 2024).
"""

from typing import Any

import torch
from torch.nn import functional

CHUNK_ROWS = {"cuda": 512, "cpu": 128}
"""Rows per chunk (C), by type of device. The head is read from memory once per chunk: on a GPU that costs time below
512 rows. A CPU is limited by its arithmetic from 128 rows on, and smaller chunks take less memory."""
FLOAT_SHARE = 4
"""One part in so many of a chunk is float32 at once. A CPU's cache holds it, which makes bf16's loss a tenth faster."""


class _FrozenHeadLoss(torch.autograd.Function):
    """The loss and dh, as at the head of this module."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        chunk = CHUNK_ROWS.get(hidden.device.type, CHUNK_ROWS["cuda"])
        for start in range(0, len(targets), chunk):
            rows = slice(start, start + chunk)
            logits = functional.linear(hidden[rows], weight, bias)
            loss += _loss_and_gradient(logits, targets[rows], chunk // FLOAT_SHARE)
            if grad is not None:
                torch.mm(logits, weight, out=grad[rows])
            del logits  # so that two chunks' logits never exist at once
        ctx.grad = grad
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.grad.mul_(upstream[0].to(ctx.grad.dtype)), None, None, None


def _loss_and_gradient(logits: torch.Tensor, targets: torch.Tensor, at_once: int) -> torch.Tensor:
    """The summed loss of some rows, whose logits become its gradient, softmax - one_hot, in the same memory.

    Args:
        at_once: how many rows are float32 at a time.
    """
    loss = torch.zeros((), dtype=torch.float32, device=logits.device)
    for part, target in zip(logits.split(at_once), targets[:, None].split(at_once), strict=True):
        z = part.float()
        picked, top = z.gather(1, target), z.amax(dim=-1, keepdim=True)
        sums = z.sub_(top).exp_().sum(dim=-1, keepdim=True)  # in place, and each exponential once
        loss += (top + sums.log() - picked).sum()
        z.div_(sums).scatter_add_(1, target, torch.full_like(target, -1, dtype=z.dtype))
        part.copy_(z)  # nothing to do in float32
        del z  # so that two parts in float32 never exist at once
    return loss


def head_loss(hidden: torch.Tensor, head: torch.nn.Linear, labels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The sum of next-token cross-entropy over the tokens that have a label.

    Args:
        hidden: (1, tokens, hidden), the body's last hidden state, any float dtype.
        head: the model's frozen output layer: `weight` (vocabulary, hidden), and `bias` (vocabulary,) or None.
        labels: (1, tokens) int64.
        rows: (labelled tokens,) int64: the tokens whose next token has a label (see batches.collate).

    Returns:
        A float32 scalar, differentiable in `hidden`.
    """
    picked = hidden[0].index_select(0, rows).to(head.weight.dtype)
    targets = labels[0].index_select(0, rows + 1)
    loss: torch.Tensor = _FrozenHeadLoss.apply(picked, head.weight, head.bias, targets)  # type: ignore[no-untyped-call]
    return loss
