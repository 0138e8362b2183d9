"""Cross-entropy that runs the head only where there is a label, a few hundred rows at a time.

At BLOOM's vocabulary (250,880) the head is the largest matrix product of the model and its logits the largest tensor.
Only tokens with a label need it, and its weight is frozen: so the gradient with respect to the hidden states is worked
out in the forward pass, chunk by chunk, and no (tokens, vocabulary) tensor ever exists.
The idea is that of Liger's fused linear cross-entropy (Hsu et al. 2024) and of cut cross-entropy (Wijmans et al. 2024).
"""

from typing import Any

import torch
from torch.nn import functional

CHUNK_ROWS = {"cuda": 512, "cpu": 128}
"""Rows of hidden states per head product, by device. The head is re-read once per chunk, which a GPU's bandwidth feels
below 512 rows; a CPU is bound by arithmetic from 128 rows on, and has a quarter of the logits to hold."""


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        chunk = CHUNK_ROWS.get(hidden.device.type, CHUNK_ROWS["cuda"])
        for start in range(0, len(targets), chunk):
            rows = slice(start, start + chunk)
            logits = functional.linear(hidden[rows], weight, bias).float()
            target = targets[rows, None]
            picked = logits.gather(1, target)
            top = logits.amax(dim=-1, keepdim=True)
            # In place, and each exponential once: at this vocabulary a chunk's logits are half a gigabyte on a GPU.
            sums = logits.sub_(top).exp_().sum(dim=-1, keepdim=True)
            loss += (top + sums.log() - picked).sum()
            if grad is not None:
                # d loss / d logits = softmax - one_hot, in place of the logits
                probabilities = logits.div_(sums)
                probabilities.scatter_add_(1, target, torch.full_like(target, -1, dtype=logits.dtype))
                torch.mm(probabilities.to(weight.dtype), weight, out=grad[rows])
                del probabilities
            del logits  # before the next chunk's are made
        ctx.grad = grad
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.grad.mul_(upstream[0].to(ctx.grad.dtype)), None, None, None


def is_plain_head(causal: Any) -> bool:
    """Whether the loss can be worked out from the body's output: a frozen linear head, and nothing behind it.

    Soft caps and logit scales sit between head and loss; models with them compute their own logits.
    """
    text, head = causal.config.get_text_config(), causal.get_output_embeddings()
    scaled = any(getattr(text, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"))
    return not scaled and type(head) is torch.nn.Linear and not head.weight.requires_grad


def head_loss(hidden: torch.Tensor, head: torch.nn.Linear, labels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropy of next-token prediction over labelled tokens.

    Args:
        hidden: (1, tokens, hidden), the body's last hidden state.
        head: the model's frozen output layer, (hidden → vocabulary), with `weight` and maybe `bias`.
        labels: (1, tokens) int64.
        rows: (labelled tokens,) int64: where the next token has a label (see batches.collate).

    Returns:
        The sum, a float32 scalar.
    """
    picked = hidden[0].index_select(0, rows).to(head.weight.dtype)
    targets = labels[0].index_select(0, rows + 1)
    loss: torch.Tensor = _FrozenHeadLoss.apply(picked, head.weight, head.bias, targets)  # type: ignore[no-untyped-call]
    return loss
