"""ALiBi (Press et al. 2022), attention with linear biases, on any kernel for plain causal attention.

ALiBi has no position embedding. Instead, head n adds slope[n] * position of the key to its scores. This bias has rank
one, so it fits into the product of query and key, if each head gets eight more dimensions:

    score = scale * (q . k) + slope * position  =  scale * ([q, slope / scale] . [k, position])

No mask tensor is needed (as in FlashBias, Wu et al. 2025). bf16 cannot hold a slope or a position of 2,047 exactly, so
a slope is split into a sum of three numbers, and a position into two digits of base 256, which are all exact: 3 * 2 = 6
of the eight dimensions are used (kernels want a multiple of eight).
"""

import math

import torch
from torch.nn import functional

_EXTRA = 8  # dimensions added to a head
_TERMS = 3  # numbers whose sum is a slope: three times bf16's 8 bits are float32's 24
_BASE = 256  # of a position's two digits: each digit, and 256 times it, is exact in bf16 and in fp16


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
