"""Where a frozen weight keeps its codes: in itself, or in main memory that processes share.

Codes are what a weight is held as: int8, NF4, or the whole weight in the compute dtype. They are in parts: a part is
what one product takes. Whoever moves, shares or fetches codes knows of weights no more than this:

    parameter                              its codes, (parts, ...)                         they are
    of a linear layer                      (1, O, I); (1, O I / 2, 1) with NF4             the parameter itself
    of stacked experts, not quantized      (E, O, I), or (E, I, O) in some models          the parameter itself
    of stacked experts, int8 or NF4        (E, O, I); (E, O I / 2, 1) with NF4             its attribute `expert_codes`

(E experts, O = out_features, I = in_features; experts_quantized.py says why theirs are an attribute.) A parameter whose
codes are not where they are multiplied has an attribute `fetch`: numbers of parts → those parts, on the device, each
until the next is asked for (weight_prefetch.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch


def codes_of(weight: Any) -> torch.Tensor:
    """The codes of a parameter where they are kept: (parts, ...), of any dtype."""
    if hasattr(weight, "expert_codes"):
        codes: torch.Tensor = weight.expert_codes
        return codes
    whole: torch.Tensor = weight.data
    return whole if whole.ndim == 3 else whole[None]


def keep_codes(weight: Any, codes: torch.Tensor) -> None:
    """Have a parameter keep these codes, (parts, ...), in place of its own."""
    if hasattr(weight, "expert_codes"):
        weight.expert_codes = codes
        return
    weight.data = codes if weight.ndim == 3 else codes[0]
    if hasattr(weight, "CB"):
        weight.CB = None  # bitsandbytes' second name for int8 codes


def parts_of(weight: Any, parts: Sequence[int]) -> Iterator[torch.Tensor]:
    """These parts of a parameter's codes where they are multiplied, each until the next is asked for."""
    if is_elsewhere(weight):
        yield from weight.fetch(parts)
    else:
        codes = codes_of(weight)
        yield from (codes[part] for part in parts)


def is_elsewhere(weight: Any) -> bool:
    """Whether a parameter's codes are fetched for each product."""
    return hasattr(weight, "fetch")
