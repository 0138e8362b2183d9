"""Attention within examples: no token of a pack sees another example, and no work is spent on what it may not see.

A batch is one row of whole examples, so attention is a loop of small causal attentions, one per example: exact, linear
in the number of examples, and without a (tokens, tokens) mask. BLOOM, which has only eager attention in transformers,
gets its ALiBi as a bias of the same kernel; every other architecture is reached through transformers' own attention
interface. Architectures whose attention is more than that (soft-capped scores, windows shorter than an example) keep
transformers' path, which builds the block mask from the position ids.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch.nn import functional

_NAME = "lorasum_examples"
_QUERY_ROWS = 512  # ALiBi's bias is made for this many queries at a time: (heads, 512, keys) and no larger


class ExampleLengths:
    """The lengths of the batch that is in the model now, shared with every attention layer.

    Not passed through the model's keyword arguments: not every architecture hands those down, and recomputation in the
    backward pass happens while the same batch is still the current one.
    """

    def __init__(self) -> None:
        self.current: Sequence[int] = ()


def attend_within_examples(model: Any, longest: int) -> ExampleLengths | None:
    """Make the model attend within examples only; the caller sets `.current` before each forward pass.

    Args:
        model: a transformers causal language model, changed in place.
        longest: tokens of the longest example, to tell whether a sliding window would matter.

    Returns:
        The lengths object, or None when the model keeps transformers' own path (pass position ids, as always).
    """
    config = model.config.get_text_config()
    lengths = ExampleLengths()
    if config.model_type == "bloom":
        for module in model.modules():
            if type(module).__name__ == "BloomAttention":
                module.forward = MethodType(_bloom_forward, module)
                module.example_lengths = lengths
        return lengths
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
        out = causal_blocks(query, key, value, lengths.current, scaling, dropout if module.training else 0.0)
        return out.transpose(1, 2).contiguous(), None

    AttentionInterface.register(_NAME, forward)
    AttentionMaskInterface.register(_NAME, lambda **_: None)
    model.set_attn_implementation(_NAME)
    return lengths


def causal_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    scale: float | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Causal attention inside each example.

    Args:
        query: (1, heads, tokens, head_dim); key, value: (1, kv_heads, tokens, head_dim), any float dtype.
        lengths: tokens of each example, summing to tokens.
        scale: multiplies the scores; None for 1/sqrt(head_dim).
        dropout: probability on the attention weights.

    Returns:
        (1, heads, tokens, head_dim), the dtype of `query`.
    """
    shared = query.shape[1] != key.shape[1]
    out = [
        functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=shared
        )
        for q, k, v in zip(*(t.split(list(lengths), dim=2) for t in (query, key, value)), strict=True)
    ]
    return torch.cat(out, dim=2)


def alibi_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], dropout: float = 0.0
) -> torch.Tensor:
    """Causal attention with linear biases (ALiBi, Press et al. 2022) inside each example.

    The bias is slope · (key - query) rather than BLOOM's slope · key: the same after the softmax, and near keys, which
    matter, keep their precision in bf16.

    Args:
        query, key, value: (1, heads, tokens, head_dim), any float dtype.
        lengths: tokens of each example, summing to tokens.
        dropout: probability on the attention weights.

    Returns:
        (1, heads, tokens, head_dim), the dtype of `query`.
    """
    bias = _alibi_bias(query.shape[1], max(lengths), query.dtype, query.device)
    out = []
    for q, k, v in zip(*(t.split(list(lengths), dim=2) for t in (query, key, value)), strict=True):
        for start in range(0, q.shape[2], _QUERY_ROWS):
            end = min(start + _QUERY_ROWS, q.shape[2])
            out.append(
                functional.scaled_dot_product_attention(
                    q[:, :, start:end],
                    k[:, :, :end],
                    v[:, :, :end],
                    attn_mask=bias[:, :, bias.shape[2] - (end - start) :, bias.shape[3] - end :],
                    dropout_p=dropout,
                )
            )
    return torch.cat(out, dim=2)


@lru_cache(maxsize=1)  # all layers of a forward pass ask for the same one
def _alibi_bias(heads: int, longest: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Bias of the last queries of an example on all its keys, (1, heads, min(longest, 512), longest).

    Only the distance between query and key counts, so the bias of any block of queries is the lower right corner.
    """
    rows = min(longest, _QUERY_ROWS)
    distance = (
        torch.arange(longest, device=device)[None, :] - torch.arange(longest - rows, longest, device=device)[:, None]
    )
    bias = alibi_slopes(heads).to(device)[:, None, None] * distance
    return bias.masked_fill_(distance > 0, -math.inf).to(dtype)[None]


def alibi_slopes(heads: int) -> torch.Tensor:
    """One slope per head, (heads,) float32: a geometric sequence, interleaved when `heads` is no power of two."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2 ** (-8 * (i + 0.5) / power) for i in range(heads - power)]
    return torch.tensor(first + between)


def _bloom_forward(
    self: Any, hidden_states: torch.Tensor, residual: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    """BloomAttention.forward for training: (1, tokens, hidden) → the same, added to `residual`."""
    query, key, value = self._reshape(self.query_key_value(hidden_states))
    dropout = self.attention_dropout.p if self.training else 0.0
    context = alibi_blocks(query, key, value, self.example_lengths.current, dropout)
    output = self.dense(context.transpose(1, 2).flatten(2))
    return residual + functional.dropout(output, self.hidden_dropout, self.training), None
