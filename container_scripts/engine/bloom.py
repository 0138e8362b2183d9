"""What only BLOOM needs: attention with linear biases (ALiBi) on any attention kernel, and GELU as one kernel.

ALiBi (Press et al. 2022) has no position embedding. Instead, head n adds slope[n] * position of the key to its scores.
This bias has rank one, so it fits into the product of query and key, if each head gets eight more dimensions:

    score = scale * (q . k) + slope * position  =  scale * ([q, slope / scale] . [k, position])

No mask tensor, and any kernel for plain causal attention will do (as in FlashBias, Wu et al. 2025). bf16 cannot hold a
slope or a position of 2,047 exactly, so a slope is split into a sum of three numbers, and a position into two digits of
base 256, which are all exact: 3 * 2 = 6 of the eight dimensions are used (kernels want a multiple of eight).
"""

import math
from types import MethodType
from typing import Any

import torch
from torch.nn import functional

_EXTRA = 8  # dimensions added to a head
_TERMS = 3  # numbers whose sum is a slope: three times bf16's 8 bits are float32's 24
_BASE = 256  # of a position's two digits: each digit, and 256 times it, is exact in bf16 and in fp16


def replace_forwards(model: Any, attend: Any, examples: Any) -> None:
    """Change every layer of `model`: attention is computed by `attend` within `examples`, and GELU by PyTorch's kernel.

    BLOOM's own GELU writes the tanh formula as separate operations: eight passes over memory in the forward pass and
    fifteen in the backward pass, where PyTorch's kernel makes one each.

    Args:
        model: a BLOOM model of transformers.
        attend: an attention.Attend.
        examples: an attention.Examples.
    """
    for module in model.modules():
        if type(module).__name__ == "BloomAttention":
            module.forward = MethodType(_attention_forward, module)
            module.attend, module.examples = attend, examples
            module.slopes = alibi_slopes(module.num_heads).to(module.dense.weight.device)
        elif type(module).__name__ == "BloomGelu":
            module.forward = _gelu


def restore_forwards(model: Any) -> None:
    """Undo replace_forwards."""
    for module in model.modules():
        if type(module).__name__ in ("BloomAttention", "BloomGelu"):
            vars(module).pop("forward", None)


def _attention_forward(
    self: Any, hidden_states: torch.Tensor, residual: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    """BloomAttention.forward for training: (1, tokens, hidden), any float dtype → the same shape, plus `residual`."""
    fused = self.query_key_value(hidden_states).view(*hidden_states.shape[:2], self.num_heads, 3, self.head_dim)
    query, key, value = (
        part.transpose(1, 2) for part in fused.unbind(3)
    )  # unbind: its backward pass writes the three gradients into one tensor
    dropout = self.attention_dropout.p if self.training else 0.0
    context = self.attend(query, key, value, self.examples, None, dropout, self.slopes)
    output = self.dense(context.transpose(1, 2).flatten(2))
    return residual + functional.dropout(output, self.hidden_dropout, self.training), None


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


def alibi_slopes(heads: int) -> torch.Tensor:
    """ALiBi's slopes, (heads,) float32: 2^(-8/p), 2^(-16/p), ... for the largest power of two p <= `heads`.

    The other heads get the values halfway between, as in the authors' code.
    """
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2 ** (-8 * (i + 0.5) / power) for i in range(heads - power)]
    return torch.tensor(first + between)


def alibi_factors(
    slopes: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight more dimensions for query and key, whose product is slope * position of the key.

    Args:
        slopes: (heads,) float32, divided by the attention's scale.
        positions: (1, tokens) int64, below 65,536.
        dtype: of the query: any float dtype.

    Returns:
        (1, heads, 1, 8) for the queries, (1, 1, tokens, 8) for the keys; both of `dtype`.
    """
    terms = []
    for _ in range(_TERMS):
        terms.append(slopes.to(dtype))
        slopes = slopes - terms[-1].float()
    low = positions % _BASE
    digits = torch.stack([low] * _TERMS + [positions - low] * _TERMS, dim=2).to(dtype)
    unused = (0, _EXTRA - 2 * _TERMS)
    return (
        functional.pad(torch.stack(terms * 2, dim=1), unused)[None, :, None],
        functional.pad(digits, unused)[:, None],
    )


def with_alibi(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_factor: torch.Tensor, key_factor: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query and key with alibi_factors appended, value with zeros appended: each (1, heads, tokens, head_dim + 8)."""
    more = (*query.shape[:3], _EXTRA)
    return (
        torch.cat([query, query_factor.expand(more)], dim=3),
        torch.cat([key, key_factor.expand(more)], dim=3),
        functional.pad(value, (0, _EXTRA)),
    )
