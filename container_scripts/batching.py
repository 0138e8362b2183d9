"""Divides the prompts of one request into batches that fit into memory together.

A request may hold 64 prompts of thousands of tokens. Generated as one batch in one pass, the attention scores of a
BLOOM with 16 heads alone would take

    batch · heads · seq · seq · 16 bytes            64 · 16 · 7600 · 7600 · 16 bytes = 946 GB

So a long prompt is read in pieces of PIECE tokens, which gives the same answer and leaves 1 GB for one such prompt. The
memory of one row is estimated from the model's own configuration, and rows of about the same length share a batch while
their sum fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpu import free_memory

PIECE = 512
"""Tokens of a prompt that go through the model at once."""

_CPU_SHARE = 0.5  # of the free memory: other programs need some, and malloc does not give back all of it
_GPU_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a model can share between tokens and between prompts without changing an answer.

    Attributes:
        cache: whether what it keeps of earlier tokens (keys and values, or a state) serves the next one.
        rows: whether prompts of different lengths can be padded to one and go through it together.
        pieces: whether a prompt can go through it in pieces.
        longest: tokens of a row, up to which rows and pieces can; None for any length.
    """

    cache: bool
    rows: bool
    pieces: bool
    longest: int | None

    def allows_rows(self, tokens: int) -> bool:
        """Whether a prompt that may grow to so many tokens can be answered beside others."""
        return self.rows and (self.longest is None or tokens <= self.longest)

    def allows_pieces(self, tokens: int) -> bool:
        """Whether a prompt that may grow to so many tokens can be read in pieces."""
        return self.pieces and (self.longest is None or tokens <= self.longest)


def batches(lengths: Sequence[int], new_tokens: int, model: Any, sharing: Sharing) -> list[list[int]]:
    """Indices of the prompts, batch by batch, from the shortest prompts to the longest.

    Args:
        lengths: tokens of each prompt.
        new_tokens: most tokens that are generated for each.
        model: the transformers model that is going to generate. Each batch has at least one prompt, fit or not.
        sharing: which prompts may share a batch.
    """
    free = batch_room(model.device)
    divided: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        row = row_bytes(lengths[index], new_tokens, model, sharing)  # the longest so far: the others are padded to it
        fits = divided and (len(divided[-1]) + 1) * row <= free
        if fits and sharing.allows_rows(lengths[index] + new_tokens):
            divided[-1].append(index)
        else:
            divided.append([index])
    return divided


def row_bytes(length: int, new_tokens: int, model: Any, sharing: Sharing) -> int:
    """Estimate of the memory that one row of a batch takes while it is generated, in bytes.

    It is what the row keeps for every layer (keys and values), and the most that it needs at once in one layer: the
    activations of a piece of the prompt, and the attention scores where the model computes them as one matrix.
    """
    config = model.config.get_text_config()
    size = model.dtype.itemsize
    heads = _largest(config, "num_attention_heads") or 1  # Mamba has none: what it keeps is overestimated
    hidden = config.hidden_size
    inner = _largest(config, "intermediate_size") or 4 * hidden
    head_size = _largest(config, "head_dim") or hidden // heads
    kept = 2 * config.num_hidden_layers * (_largest(config, "num_key_value_heads") or heads) * head_size * size
    piece = min(length, PIECE) if sharing.allows_pieces(length + new_tokens) else length
    activations = piece * (8 * hidden + 3 * inner) * size
    whole_matrix = getattr(config, "_attn_implementation", "") == "eager"
    scores = piece * length * (heads * 16 if whole_matrix else 4)  # four float32 matrices a head, measured; or a mask
    return int((length + new_tokens) * kept + activations + scores + 3 * 4 * config.vocab_size)


def _largest(config: Any, name: str) -> int:
    """A number of the config, the largest where layers differ (Gemma 3n and 4); 0 if there is none."""
    try:
        found = getattr(config, name, None)
    except RuntimeError:  # transformers wants the layer's own config to be asked
        found = [getattr(layer, name, None) for layer in config.per_layer_config]
    numbers = found if isinstance(found, list | tuple) else [found]
    return max((number for number in numbers if isinstance(number, int)), default=0)


def batch_room(device: Any) -> int:
    """The memory that a batch may take on the device, in bytes: a share of what is free now."""
    return int(free_memory(device) * (_GPU_SHARE if device.type == "cuda" else _CPU_SHARE))
