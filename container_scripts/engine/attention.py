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

A batch is one row of T tokens (batches.py), so query, key and value are (1, heads, T, head_dim). Two kernels
(kernels.py) compute the blocks on the diagonal, and only these.

How an architecture gets it:

* Most architectures: through transformers' AttentionInterface, under the name `lorasum_examples`.
* BLOOM does not use that interface and adds ALiBi's biases to the scores: bloom.py replaces its attention layer.
* A model that asks its attention for more than that (soft-capped scores, attention sinks) keeps transformers' own
  attention, which builds the same mask from the position ids.

A sliding window is one more limit inside an example. A layer tells its attention of it, and transformers makes a mask
that has it too. The two are compared when the model is tried out, because in a training no masks are made.

Which of these a model needs is not written down anywhere: probe.py tries them out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from engine import bloom
from engine.kernels import AttentionScores, Examples, NotCovered, causal_blocks, flex

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
    examples = Examples(flex if kernel == "flex" else causal_blocks, longest)
    _put(model, examples)
    return examples


def _put(model: Any, examples: Examples) -> None:
    """Change `model` so that its attention is computed within `examples`."""
    examples.instead_of = model.config._attn_implementation
    if bloom.is_bloom(model):
        bloom.replace_forwards(model, examples)
        examples.used = True
    else:
        _register(examples)
        model.set_attn_implementation(_NAME)


@contextmanager
def own_attention(model: Any, examples: Examples | None) -> Iterator[None]:
    """In this block the model has transformers' own attention, which reads the keys and values that generating keeps.

    Args:
        examples: from attend_within_examples; None if the model has its own attention anyway.
    """
    if examples is None:
        yield
        return
    restore_attention(model, examples.instead_of)
    try:
        yield
    finally:
        _put(model, examples)


def _register(examples: Examples) -> None:
    """Make the kernel of `examples` known to transformers as _NAME. A second call replaces the first."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def forward(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | int | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **asked: Any,
    ) -> tuple[torch.Tensor, None]:
        if not getattr(module, "is_causal", True):
            raise NotCovered("it has attention in both directions")
        window = examples.window_with_effect(sliding_window)
        of_mask = attention_mask if isinstance(attention_mask, int) else None
        _refuse_what_is_not_covered(attention_mask=attention_mask if of_mask is None else None, **asked)
        if examples.makes_masks and window != of_mask:
            raise NotCovered(f"a layer asks for a window of {window} tokens, and its mask has one of {of_mask}")
        examples.used = True
        scores = AttentionScores(scaling, dropout if module.training else 0.0, window)
        out = examples.attend(query, key, value, examples, scores)
        return out.transpose(1, 2).contiguous(), None

    def mask(local_size: int | None = None, use_vmap: bool = False, **_: Any) -> int | None:
        """What a layer gets for its mask: the window that is in it."""
        if use_vmap:
            raise NotCovered("it has a mask of its own")
        return examples.window_with_effect(local_size)

    AttentionInterface.register(_NAME, forward)
    if examples.makes_masks:
        AttentionMaskInterface.register(_NAME, mask)


def make_no_more_masks(examples: Examples | None) -> None:
    """Tell transformers that this attention needs no mask, once the model was seen to ask for none but windows.

    It would look for examples in the position ids at the start of every pass, which waits for the GPU.
    """
    from transformers.masking_utils import AttentionMaskInterface

    if examples is not None:
        examples.makes_masks = False
    AttentionMaskInterface._global_mapping.pop(_NAME, None)


def _refuse_what_is_not_covered(**asked: Any) -> None:
    """Raise NotCovered if a layer asks for anything that the kernels here do not do.

    Args:
        asked: the arguments that a layer gives to its attention beside query, key, value and what is a field of scores.
    """
    for name, value in asked.items():
        if value is not None and name not in _WITHOUT_EFFECT and not (name == "is_causal" and value is True):
            raise NotCovered(f"its attention asks for {name}")


def restore_attention(model: Any, implementation: str) -> None:
    """Undo attend_within_examples: give `model` transformers' own attention of this name, such as `sdpa`."""
    if bloom.is_bloom(model):
        bloom.restore_forwards(model, implementation)
    else:
        model.set_attn_implementation(implementation)
