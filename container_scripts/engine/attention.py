"""Attention within examples: no token of a pack sees another example, and no work is spent on what it may not see.

A batch is one row of whole examples. `examples` is a loop of small causal attentions, one per example: exact, linear
in the number of examples, and without a (tokens, tokens) mask; `flex` is one kernel with the examples as a block mask,
on a GPU. Architectures are reached through transformers' own attention interface; BLOOM, which does not go through it,
has its ALiBi and its attention layer in bloom.py. Those whose attention is more than that (soft-capped scores, windows
shorter than an example) keep transformers' path, which builds the block mask from the position ids.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch.nn import functional

from engine import bloom
from engine.failure import TrainingError

_NAME = "lorasum_examples"
_SMALL_BLOCKS = {  # FlexAttention's tiles where shared memory is 100 KB: compute capability 8.6, 8.9 and 12.0
    "BLOCK_M": 64,
    "BLOCK_N": 64,
    "BLOCK_M1": 32,
    "BLOCK_N1": 64,
    "BLOCK_M2": 64,
    "BLOCK_N2": 32,
}


class Examples:
    """The examples of the batch that is in the model now, shared with every attention layer.

    Not passed through the model's keyword arguments: not every architecture hands those down, and recomputation in the
    backward pass happens while the same batch is still the current one.
    """

    def __init__(self) -> None:
        self.lengths: Sequence[int] = ()
        self.positions = torch.empty(0)
        self._derived: dict[str, Any] = {}

    def set(self, lengths: Sequence[int], positions: torch.Tensor) -> None:
        """Another batch. `lengths`: tokens of each example; `positions`: (1, tokens), restarting at 0 with each."""
        self.lengths, self.positions = lengths, positions
        self._derived = {}

    def derive(self, name: str, make: Callable[[], Any]) -> Any:
        """What all layers need of this batch, made by the first that asks."""
        if name not in self._derived:
            self._derived[name] = make()
        return self._derived[name]


Attend = Callable[..., torch.Tensor]
"""(query, key, value, examples, scale, dropout, slopes) → the context; shapes as in `causal_blocks`."""


def attend_within_examples(model: Any, longest: int, kernel: str = "examples") -> Examples | None:
    """Make the model attend within examples only; the caller sets the batch's examples before each forward pass.

    Args:
        model: a transformers causal language model, changed in place.
        longest: tokens of the longest example, to tell whether a sliding window would matter.
        kernel: `examples` or `flex`.

    Returns:
        The examples, to be set; or None when the model keeps transformers' own path (pass position ids, as always).
    """
    config = model.config.get_text_config()
    attend: Attend = flex if kernel == "flex" else causal_blocks
    examples = Examples()
    if config.model_type == "bloom":
        bloom.take_over(model, attend, examples)
        return examples
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    soft_capped = getattr(config, "attn_logit_softcapping", None)
    if soft_capped or (window and window < longest) or not getattr(model, "_supports_sdpa", False):
        return None
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def forward(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        out = attend(query, key, value, examples, scaling, dropout if module.training else 0.0)
        return out.transpose(1, 2).contiguous(), None

    AttentionInterface.register(_NAME, forward)
    AttentionMaskInterface.register(_NAME, lambda **_: None)
    model.set_attn_implementation(_NAME)
    return examples


def causal_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    examples: Examples,
    scale: float | None = None,
    dropout: float = 0.0,
    slopes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention inside each example, one after another.

    Args:
        query: (1, heads, tokens, head_dim); key, value: (1, kv_heads, tokens, head_dim), any float dtype.
        examples: of the batch.
        scale: multiplies the scores; None for 1/sqrt(head_dim).
        dropout: probability on the attention weights.
        slopes: (heads,) float32, of ALiBi; see bloom.alibi_factors.

    Returns:
        (1, heads, tokens, head_dim), the dtype of `query`.
    """
    head_dim = query.shape[3]
    if slopes is not None:
        scale = scale or 1 / math.sqrt(head_dim)
        factors = examples.derive("alibi", lambda: bloom.alibi_factors(slopes / scale, examples.positions, query.dtype))
        query, key, value = bloom.with_alibi(query, key, value, *factors)
    shared = query.shape[1] != key.shape[1]
    out = [
        functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=shared
        )
        for q, k, v in zip(*(t.split(list(examples.lengths), dim=2) for t in (query, key, value)), strict=True)
    ]
    return torch.cat(out, dim=2)[..., :head_dim]


def flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    examples: Examples,
    scale: float | None = None,
    dropout: float = 0.0,
    slopes: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same as causal_blocks, by one kernel for all examples (FlexAttention, Dong et al. 2024): compiled on CUDA.

    Raises:
        TrainingError: the model has dropout on its attention weights, which the kernel does not have.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if dropout:
        raise TrainingError("FlexAttention has no dropout on its weights", "set training.engine.attention to examples")
    tokens, on_gpu = query.shape[2], query.is_cuda

    def block_mask() -> Any:
        example = (examples.positions[0] == 0).cumsum(0)

        def visible(_batch: Any, _head: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return (example[q] == example[k]) & (q >= k)

        return create_block_mask(visible, None, None, tokens, tokens, device=str(query.device))

    def alibi(score: torch.Tensor, _batch: Any, head: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return score + slopes[head] * (k - q)  # type: ignore[index]

    kernel: Any = _compiled(flex_attention) if on_gpu else flex_attention
    out: torch.Tensor = kernel(
        query,
        key,
        value,
        score_mod=alibi if slopes is not None else None,
        block_mask=examples.derive("block_mask", block_mask),
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=_SMALL_BLOCKS if on_gpu and _little_shared_memory(query.device) else None,
    )
    return out


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)  # packs differ in length: one kernel for all


@cache
def _little_shared_memory(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) in ((8, 6), (8, 9), (12, 0))
