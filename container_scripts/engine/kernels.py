"""The attention kernels: causal attention inside each example of a batch, in two ways that give the same.

* causal_blocks: scaled_dot_product_attention with is_causal=True, once per example. Exact on every device, and no
  (T, T) mask is made. For examples of 200 tokens in a pack of 2,048 this is a tenth of the whole square's work.
* flex: one FlexAttention kernel for all examples, with the mask that attention.py draws as block mask. It trains on a
  GPU only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.alibi import alibi_factors, with_alibi

_SMALL_BLOCKS = {  # FlexAttention's tile sizes for 100 KB of shared memory: compute capability 8.6, 8.9 and 12.0
    "BLOCK_M": 64,
    "BLOCK_N": 64,
    "BLOCK_M1": 32,
    "BLOCK_N1": 64,
    "BLOCK_M2": 64,
    "BLOCK_N2": 32,
}


class NotCovered(Exception):  # noqa: N818  no fault: the model keeps its own attention
    """A model asks its attention for something that a kernel does not do."""


class Examples:
    """The examples of the current batch. Every attention layer of the model holds this one object.

    Keyword arguments of the model's forward cannot carry them: some architectures do not pass those on to their layers.
    A layer that is recomputed in the backward pass finds the right examples too, because the next batch is set only
    after the backward pass.

    It holds no model: transformers' table of attentions holds it as long as the process lives.

    Args:
        attend: the kernel that reads them.
        longest: tokens of the longest example of all batches.
    """

    def __init__(self, attend: "Attend | None" = None, longest: int = 0) -> None:
        self.attend, self.longest = attend or causal_blocks, longest
        self.lengths: Sequence[int] = ()
        self.positions = torch.empty(0)
        self.used = False
        """Whether a layer of the model has called the attention that reads this."""
        self.makes_masks = True
        """Whether transformers still asks for a mask at the start of a pass: until the model was tried out."""
        self.instead_of = ""
        """The attention of the model that this one has replaced, such as `sdpa`."""
        self._derived: dict[str, Any] = {}

    def set(self, lengths: Sequence[int], positions: Tensor) -> None:
        """Start the next batch.

        Args:
            lengths: the number of tokens of each example.
            positions: (1, tokens) int64, restarting at 0 with each example.
        """
        self.lengths, self.positions = lengths, positions
        self._derived = {}

    def window_with_effect(self, window: int | None) -> int | None:
        """A sliding window, if an example of any batch is longer. Qwen2-MoE says 0 for none."""
        return window if window and window < self.longest else None

    def derive(self, name: str, make: Callable[[], Any]) -> Any:
        """A value that all layers need for this batch, such as the block mask: made at the first call, then kept."""
        if name not in self._derived:
            self._derived[name] = make()
        return self._derived[name]


@dataclass(frozen=True, slots=True)
class AttentionScores:
    """What an attention does to its scores, q . k."""

    scale: float | None = None
    """They are multiplied by it; None means 1/sqrt(head_dim)."""
    dropout: float = 0.0
    """Probability that a weight, which is made of a score, is dropped."""
    window: int | None = None
    """A token sees the last so many tokens of its example, itself included; None if it sees all."""
    slopes: Tensor | None = None
    """(heads,) float32, the slopes of ALiBi (alibi.py); None without ALiBi."""


Attend = Callable[[Tensor, Tensor, Tensor, Examples, AttentionScores], Tensor]
"""(query, key, value, examples, scores) → the attention's output; shapes as in `causal_blocks`."""


def causal_blocks(query: Tensor, key: Tensor, value: Tensor, examples: Examples, scores: AttentionScores) -> Tensor:
    """Causal attention inside each example: one call of PyTorch's kernel per example.

    Args:
        query: (1, heads, tokens, head_dim), any float dtype.
        key, value: (1, kv_heads, tokens, head_dim), the dtype of `query`.
        examples: the examples of this batch.
        scores: what the model does to them.

    Returns:
        (1, heads, tokens, head_dim), the dtype of `query`.
    """
    head_dim, scale, slopes = query.shape[3], scores.scale, scores.slopes
    if slopes is not None:
        scale = scale or 1 / math.sqrt(head_dim)
        factors = examples.derive("alibi", lambda: alibi_factors(slopes / scale, examples.positions, query.dtype))
        query, key, value = with_alibi(query, key, value, *factors)
    masks = [_window_mask(query, tokens, scores.window, examples) for tokens in examples.lengths]
    shared = query.shape[1] != key.shape[1]
    if apart := shared and not _shares_heads(query, key, value, masks, scores.dropout):
        query, key, value = _groups_as_batch(query, key, value)
    parts = (tensor.split(list(examples.lengths), dim=2) for tensor in (query, key, value))
    out = [
        functional.scaled_dot_product_attention(
            q, k, v, mask, scores.dropout, is_causal=mask is None, scale=scale, enable_gqa=shared and not apart
        )
        for q, k, v, mask in zip(*parts, masks, strict=True)
    ]
    whole = torch.cat(out, dim=2)
    return whole.reshape(1, -1, *whole.shape[2:])[..., :head_dim]


def _window_mask(query: Tensor, tokens: int, window: int | None, examples: Examples) -> Tensor | None:
    """What is added to the scores of an example that is longer than the window: (tokens, tokens), 0 or -inf.

    All layers save this one for their backward pass: PyTorch would make another of its own for each, if this was of
    bools, or if its rows did not begin at multiples of 8 values.
    """
    if window is None or tokens <= window:
        return None

    def make() -> Tensor:
        seen = torch.ones(tokens, -(-tokens // 8) * 8, dtype=torch.bool, device=query.device).tril().triu(1 - window)
        return torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -math.inf)[:, :tokens]

    mask: Tensor = examples.derive(f"window of {window} in {tokens}", make)
    return mask


def _shares_heads(query: Tensor, key: Tensor, value: Tensor, masks: Sequence[Tensor | None], dropout: float) -> bool:
    """Whether a kernel takes keys that several heads of the query share.

    On a GPU that is FlashAttention, which wants half precision, compute capability 8.0, and no mask. Without it PyTorch
    says nothing, and computes and saves the scores of all heads as whole matrices.
    """
    mask, backends = next((mask for mask in masks if mask is not None), None), torch.backends.cuda
    return not query.is_cuda or backends.can_use_flash_attention(
        backends.SDPAParams(query, key, value, mask, dropout, mask is None, True)
    )


def _groups_as_batch(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(1, heads, tokens, head_dim) → (kv_heads, heads / kv_heads, tokens, head_dim): views, which take no memory."""
    query = query[0].unflatten(0, (key.shape[1], -1))
    key, value = (t[0][:, None].expand(-1, query.shape[1], -1, -1) for t in (key, value))
    return query, key, value


def flex(query: Tensor, key: Tensor, value: Tensor, examples: Examples, scores: AttentionScores) -> Tensor:
    """As causal_blocks, but one kernel computes all examples (FlexAttention, Dong et al. 2024); compiled on CUDA.

    Raises:
        NotCovered: the model drops attention weights, which this kernel cannot do, or has windows.
    """
    from torch.nn.attention.flex_attention import flex_attention

    if scores.dropout:
        raise NotCovered("its attention drops weights, which FlexAttention cannot")
    if scores.window is not None:
        raise NotCovered("examples are longer than its window")
    on_gpu, slopes = query.is_cuda, scores.slopes

    def alibi(score: Tensor, _batch: Any, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score + slopes[head] * (k - q)  # type: ignore[index]

    kernel: Any = _compiled(flex_attention) if on_gpu else flex_attention
    out: Tensor = kernel(
        query,
        key,
        value,
        score_mod=alibi if slopes is not None else None,
        block_mask=examples.derive("block_mask", lambda: _block_mask(examples.positions)),
        scale=scores.scale,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=_kernel_options(query.device) if on_gpu else None,
    )
    return out


def _block_mask(positions: Tensor) -> Any:
    """The mask that is drawn at the head of attention.py, as FlexAttention wants it.

    Args:
        positions: (1, tokens) int64, restarting at 0 with each example.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    example, tokens = (positions[0] == 0).cumsum(0), positions.shape[1]

    def visible(_batch: Any, _head: Any, q: Tensor, k: Tensor) -> Tensor:
        return (example[q] == example[k]) & (q >= k)

    return create_block_mask(visible, None, None, tokens, tokens, device=str(positions.device))


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)  # packs differ in length: one kernel for all


@cache
def _kernel_options(device: torch.device) -> dict[str, Any]:
    """The tile sizes; and one kernel for rows of any length.

    Rows of fewer than 128 tokens, such as the probe's and a last pack, would go to a kernel for decoding. Its tile has
    at most 128 rows for a key, and eight heads that share a key make 248 of the probe's 31 tokens.
    """
    little = torch.cuda.get_device_capability(device) in ((8, 6), (8, 9), (12, 0))
    return {"FORCE_USE_FLEX_ATTENTION": True} | (_SMALL_BLOCKS if little else {})
