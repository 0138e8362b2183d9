"""What the engine does for BLOOM alone: attention with linear biases (ALiBi) on any kernel, and GELU in one step."""

import math
from types import MethodType
from typing import Any

import torch
from torch.nn import functional

_EXTRA = 8  # dimensions of a head that carry the bias; kernels want multiples of eight
_PARTS = 3  # of a slope: three times eight bits are a float32's
_DIGIT = 256  # positions are written in this base: every digit, and 256 times it, is exact in bf16 and in fp16


def take_over(model: Any, attend: Any, examples: Any) -> None:
    """Have every layer attend by `attend` (attention.Attend) within `examples`, and use PyTorch's own GELU.

    BLOOM's GELU is the tanh form written out: eight passes over memory going forward and fifteen going back, where
    PyTorch's kernel makes one.
    """
    for module in model.modules():
        if type(module).__name__ == "BloomAttention":
            module.forward = MethodType(_attention_forward, module)
            module.attend, module.examples = attend, examples
            module.slopes = alibi_slopes(module.num_heads).to(module.dense.weight.device)
        elif type(module).__name__ == "BloomGelu":
            module.forward = _gelu


def _attention_forward(
    self: Any, hidden_states: torch.Tensor, residual: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    """BloomAttention.forward for training: (1, tokens, hidden) → the same, added to `residual`."""
    fused = self.query_key_value(hidden_states).view(*hidden_states.shape[:2], self.num_heads, 3, self.head_dim)
    query, key, value = (part.transpose(1, 2) for part in fused.unbind(3))  # whose gradients are stacked, in one pass
    dropout = self.attention_dropout.p if self.training else 0.0
    context = self.attend(query, key, value, self.examples, None, dropout, self.slopes)
    output = self.dense(context.transpose(1, 2).flatten(2))
    return residual + functional.dropout(output, self.hidden_dropout, self.training), None


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


def alibi_slopes(heads: int) -> torch.Tensor:
    """ALiBi's slopes (Press et al. 2022), (heads,) float32: a geometric sequence, interleaved when `heads` is no power
    of two."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2 ** (-8 * (i + 0.5) / power) for i in range(heads - power)]
    return torch.tensor(first + between)


def alibi_factors(
    slopes: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight more dimensions of a head, in which query · key is slope · position of the key.

    The bias is of rank one, so plain attention can carry it: no mask, any kernel (as FlashBias does, Wu et al. 2025).
    In bf16 and fp16 it is as exact as in float32: a slope is the sum of three numbers, a position of two digits.

    Args:
        slopes: (heads,) float32, divided by what the scores are multiplied by.
        positions: (1, tokens), integers below 65,536.

    Returns:
        (1, heads, 1, 8) for the queries, (1, 1, tokens, 8) for the keys; both of `dtype`.
    """
    parts = []
    for _ in range(_PARTS):
        parts.append(slopes.to(dtype))
        slopes = slopes - parts[-1].float()
    low = positions % _DIGIT
    digits = torch.stack([low] * _PARTS + [positions - low] * _PARTS, dim=2).to(dtype)
    unused = (0, _EXTRA - 2 * _PARTS)
    return (
        functional.pad(torch.stack(parts * 2, dim=1), unused)[None, :, None],
        functional.pad(digits, unused)[:, None],
    )


def with_alibi(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, of_query: torch.Tensor, of_key: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The heads with alibi_factors at their end, and zeros at the value's: (1, heads, tokens, head_dim + 8)."""
    more = (*query.shape[:3], _EXTRA)
    return (
        torch.cat([query, of_query.expand(more)], dim=3),
        torch.cat([key, of_key.expand(more)], dim=3),
        functional.pad(value, (0, _EXTRA)),
    )
