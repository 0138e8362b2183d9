"""Estimates the memory that a batch takes, so that no more prompts are generated together than fit.

A request may hold 64 prompts of thousands of tokens. Generated as one batch in one pass, the attention scores of a
BLOOM with 16 heads alone would take

    batch · heads · seq · seq · 16 bytes            64 · 16 · 7600 · 7600 · 16 bytes = 946 GB

So a long prompt is read in pieces of PIECE tokens, which gives the same answer and leaves 1 GB for one such prompt. The
memory of one row is estimated from the model's own configuration, and rows share a batch while their sum fits.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gpu import free_memory

if TYPE_CHECKING:
    from generation.batching_rules import Sharing
    from generation.generator import Generator
    from generation.rows import Row

PIECE = 512
"""Tokens of a prompt that go through the model at once."""

_PASS = {"cpu": PIECE, "cuda": 16 * PIECE}
"""Tokens, with padding, of the prompts that are read in one pass: more at once would be no faster, but begin later."""

_CPU_SHARE = 0.5  # of the free memory: other programs need some, and malloc does not give back all of it
_GPU_SHARE = 0.8


def batch_bytes(rows: Sequence["Row"], generator: "Generator") -> int:
    """Estimate of the memory that a batch of these rows takes, in bytes: each row is as wide as the longest."""
    length, new_tokens = max(len(row.prompt) for row in rows), max(row.new_tokens for row in rows)
    return len(rows) * row_bytes(length, new_tokens, generator.model, generator.sharing)


def fits_alone(row: "Row", generator: "Generator") -> bool:
    """Whether there is memory for one row and no other."""
    return batch_bytes([row], generator) <= free_memory(generator.model.device)


def row_bytes(length: int, new_tokens: int, model: Any, sharing: "Sharing") -> int:
    """Estimate of the memory that one row of a batch takes while it is generated, in bytes.

    It is what the row keeps of its tokens, which `sharing` has measured, and the most that it needs at once in one
    layer: the activations of a piece of the prompt, and the attention scores where the model has them as one matrix.
    """
    config = model.config.get_text_config()
    size = model.dtype.itemsize
    heads = _largest(config, "num_attention_heads") or 1  # Mamba has none
    hidden = config.hidden_size
    inner = _largest(config, "intermediate_size") or 4 * hidden
    kept = (length + new_tokens) * sharing.token_bytes + sharing.state_bytes
    piece = min(length, PIECE) if sharing.allows_pieces(length + new_tokens) else length
    activations = piece * (8 * hidden + 3 * inner) * size
    whole_matrix = getattr(config, "_attn_implementation", "") == "eager"
    scores = piece * length * (heads * 16 if whole_matrix else 4)  # four float32 matrices a head, measured; or a mask
    return int(kept + activations + scores + 3 * 4 * config.vocab_size)


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


def passes(rows: Sequence["Row"], device: Any) -> Iterator[list["Row"]]:
    """The rows in parts that are read in one pass each, from the shortest to the longest.

    Rows of about one length share a pass, because the shorter ones are padded to the longest: 16 chats of 103 to 462
    tokens in one pass would be 7,392 tokens, half of them padding, and take twice the time.
    """
    part: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.tokens)):
        if part and (len(part) + 1) * len(row.tokens) > _PASS[device.type]:
            yield part
            part = []
        part.append(row)
    if part:
        yield part
