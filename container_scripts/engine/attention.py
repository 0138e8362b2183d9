"""Attention within examples: no token of a pack sees another example, and nothing is computed for what it may not see.

The mask of a pack of two examples, of 4 and 3 tokens (`x`: the query's token sees the key's token):

    key         0 1 2 3   4 5 6         example_lengths = [4, 3]
    query 0     x                       positions       = [0, 1, 2, 3, 0, 1, 2]
          1     x x
          2     x x x
          3     x x x x
          4               x
          5               x x
          6               x x x

A batch is one row of T tokens (batches.py), so query, key and value are (1, heads, T, head_dim). Two kernels compute
the blocks on the diagonal, and only these:

* `examples` (causal_blocks): scaled_dot_product_attention with is_causal=True, once per example. Exact on every device,
  and no (T, T) mask is made. For examples of 200 tokens in a pack of 2,048 this is a tenth of the whole square's work.
* `flex`: one FlexAttention kernel for all examples, with the mask above as block mask. It trains on a GPU only.

How an architecture gets it:

* Most architectures: through transformers' AttentionInterface, under the name `lorasum_examples`.
* BLOOM does not use that interface and adds ALiBi's biases to the scores: bloom.py replaces its attention layer.
* A model that asks its attention for more than that (soft-capped scores, attention sinks, a sliding window shorter than
  an example) keeps transformers' own attention, which builds the same mask from the position ids.

Which of these a model needs is not written down anywhere: probe.py tries them out.
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
_WITHOUT_EFFECT = {  # arguments of an attention function that change nothing in a plain causal forward pass
    "cache_position",
    "is_training",
    "layer_idx",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "past_key_values",
    "position_embeddings",
    "position_ids",
    "return_dict",
    "use_cache",
}
_SMALL_BLOCKS = {  # FlexAttention's tile sizes for 100 KB of shared memory: compute capability 8.6, 8.9 and 12.0
    "BLOCK_M": 64,
    "BLOCK_N": 64,
    "BLOCK_M1": 32,
    "BLOCK_N1": 64,
    "BLOCK_M2": 64,
    "BLOCK_N2": 32,
}


class NotCovered(Exception):  # noqa: N818  no fault: the model keeps its own attention
    """A model asks its attention for something that the kernels here do not do."""


class Examples:
    """The examples of the current batch. Every attention layer of the model holds this one object.

    Keyword arguments of the model's forward cannot carry them: some architectures do not pass those on to their layers.
    A layer that is recomputed in the backward pass finds the right examples too, because the next batch is set only
    after the backward pass.
    """

    def __init__(self) -> None:
        self.lengths: Sequence[int] = ()
        self.positions = torch.empty(0)
        self.used = False
        """Whether a layer of the model has called the attention that reads this."""
        self._derived: dict[str, Any] = {}

    def set(self, lengths: Sequence[int], positions: torch.Tensor) -> None:
        """Start the next batch.

        Args:
            lengths: the number of tokens of each example.
            positions: (1, tokens) int64, restarting at 0 with each example.
        """
        self.lengths, self.positions = lengths, positions
        self._derived = {}

    def derive(self, name: str, make: Callable[[], Any]) -> Any:
        """A value that all layers need for this batch, such as the block mask: made at the first call, then kept."""
        if name not in self._derived:
            self._derived[name] = make()
        return self._derived[name]


Attend = Callable[..., torch.Tensor]
"""(query, key, value, examples, scale, dropout, slopes) → the attention's output; shapes as in `causal_blocks`."""


def attend_within_examples(model: Any, longest: int, kernel: str = "examples") -> Examples:
    """Change `model` so that its attention stays within examples.

    Its next forward pass raises NotCovered if the model asks its attention for anything that the kernels here do not
    do. Examples.used says whether the model asked at all. In both cases restore_attention brings back its own.

    Args:
        model: a transformers causal language model, changed in place.
        longest: tokens of the longest example. A sliding window that is at least as long has no effect.
        kernel: `examples` or `flex`.

    Returns:
        The examples, which the caller sets before each forward pass.
    """
    attend: Attend = flex if kernel == "flex" else causal_blocks
    examples = Examples()
    if model.config.get_text_config().model_type == "bloom":
        bloom.replace_forwards(model, attend, examples)
        examples.used = True
        return examples
    _register(attend, examples, longest)
    model.set_attn_implementation(_NAME)
    return examples


def _register(attend: Attend, examples: Examples, longest: int) -> None:
    """Make `attend` known to transformers as _NAME. A second call replaces the first."""
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
        **asked: Any,
    ) -> tuple[torch.Tensor, None]:
        if not getattr(module, "is_causal", True):
            raise NotCovered("it has attention in both directions")
        refuse_what_is_not_covered(longest, attention_mask=attention_mask, **asked)
        examples.used = True
        out = attend(query, key, value, examples, scaling, dropout if module.training else 0.0)
        return out.transpose(1, 2).contiguous(), None

    def mask(local_size: int | None = None, use_vmap: bool = False, **_: Any) -> None:
        """The mask that transformers would make for a layer: none, because the kernels here need none."""
        if use_vmap:
            raise NotCovered("it has a mask of its own")
        refuse_what_is_not_covered(longest, sliding_window=local_size)

    AttentionInterface.register(_NAME, forward)
    AttentionMaskInterface.register(_NAME, mask)


def refuse_what_is_not_covered(longest: int, **asked: Any) -> None:
    """Raise NotCovered if a layer asks for anything that plain causal attention within examples does not do.

    Args:
        longest: tokens of the longest example.
        asked: the arguments that a layer gives to its attention beside query, key and value.
    """
    for name, value in asked.items():
        if value is None or name in _WITHOUT_EFFECT or (name == "is_causal" and value is True):
            continue
        if name == "sliding_window" and (not value or value >= longest):  # Qwen2-MoE says 0 for none
            continue
        raise NotCovered(f"its attention asks for {name}")


def restore_attention(model: Any, implementation: str) -> None:
    """Undo attend_within_examples: give `model` transformers' own attention of this name, such as `sdpa`."""
    model.set_attn_implementation(implementation)
    bloom.restore_forwards(model)


def causal_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    examples: Examples,
    scale: float | None = None,
    dropout: float = 0.0,
    slopes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention inside each example: one call of PyTorch's kernel per example.

    Args:
        query: (1, heads, tokens, head_dim), any float dtype.
        key, value: (1, kv_heads, tokens, head_dim), the dtype of `query`.
        examples: the examples of this batch.
        scale: the scores are multiplied by it; None means 1/sqrt(head_dim).
        dropout: probability that an attention weight is dropped.
        slopes: (heads,) float32, the slopes of ALiBi (see bloom.alibi_factors); None without ALiBi.

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
    """As causal_blocks, but one kernel computes all examples (FlexAttention, Dong et al. 2024); compiled on CUDA.

    Raises:
        TrainingError: the model drops attention weights, which this kernel cannot do.
    """
    from torch.nn.attention.flex_attention import flex_attention

    if dropout:
        raise TrainingError("FlexAttention has no dropout on its weights", "set training.engine.attention to examples")
    on_gpu = query.is_cuda

    def alibi(score: torch.Tensor, _batch: Any, head: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return score + slopes[head] * (k - q)  # type: ignore[index]

    kernel: Any = _compiled(flex_attention) if on_gpu else flex_attention
    out: torch.Tensor = kernel(
        query,
        key,
        value,
        score_mod=alibi if slopes is not None else None,
        block_mask=examples.derive("block_mask", lambda: _block_mask(examples.positions)),
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=_SMALL_BLOCKS if on_gpu and _little_shared_memory(query.device) else None,
    )
    return out


def _block_mask(positions: torch.Tensor) -> Any:
    """The mask that is drawn at the head of this module, as FlexAttention wants it.

    Args:
        positions: (1, tokens) int64, restarting at 0 with each example.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    example, tokens = (positions[0] == 0).cumsum(0), positions.shape[1]

    def visible(_batch: Any, _head: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (example[q] == example[k]) & (q >= k)

    return create_block_mask(visible, None, None, tokens, tokens, device=str(positions.device))


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)  # packs differ in length: one kernel for all


@cache
def _little_shared_memory(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) in ((8, 6), (8, 9), (12, 0))
