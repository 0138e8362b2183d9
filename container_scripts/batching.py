"""Divides the prompts of one request into batches that fit into memory together.

A request may hold 64 prompts of thousands of tokens. Generated as one batch in one pass, the attention scores of a
BLOOM with 16 heads alone would take

    batch · heads · seq · seq · 16 bytes            64 · 16 · 7600 · 7600 · 16 bytes = 946 GB

So a long prompt is read in pieces of PIECE tokens, which gives the same answer and leaves 1 GB for one such prompt. The
memory of one row is estimated from the model's own configuration, and rows of about the same length share a batch while
their sum fits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

PIECE = 512
"""Tokens of a prompt that go through the model at once."""

_CPU_SHARE = 0.5  # of the free memory: other programs need some, and malloc does not give back all of it
_GPU_SHARE = 0.8
_CGROUP = Path("/sys/fs/cgroup")


def batches(lengths: Sequence[int], new_tokens: int, model: Any) -> list[list[int]]:
    """Indices of the prompts, batch by batch, from the shortest prompts to the longest.

    Args:
        lengths: tokens of each prompt.
        new_tokens: most tokens that are generated for each.
        model: the transformers model that is going to generate. Each batch has at least one prompt, fit or not.
    """
    free = free_bytes(model.device)
    divided: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        row = row_bytes(lengths[index], new_tokens, model)  # the longest so far: the others are padded to it
        if divided and (len(divided[-1]) + 1) * row <= free:
            divided[-1].append(index)
        else:
            divided.append([index])
    return divided


def row_bytes(length: int, new_tokens: int, model: Any) -> int:
    """Estimate of the memory that one row of a batch takes while it is generated, in bytes.

    It is what the row keeps for every layer (keys and values), and the most that it needs at once in one layer: the
    activations of a piece of the prompt, and the attention scores where the model computes them as one matrix.
    """
    config = model.config.get_text_config()
    size = model.dtype.itemsize
    heads = config.num_attention_heads
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    head_size = getattr(config, "head_dim", None) or hidden // heads
    kept = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * head_size * size
    piece = min(length, PIECE)
    activations = piece * (8 * hidden + 3 * inner) * size
    whole_matrix = getattr(config, "_attn_implementation", "") == "eager"
    scores = piece * length * (heads * 16 if whole_matrix else 4)  # four float32 matrices a head, measured; or a mask
    return int((length + new_tokens) * kept + activations + scores + 3 * 4 * config.vocab_size)


def free_bytes(device: Any) -> int:
    """The memory that a batch may take on the device, in bytes: a share of what is free now."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((free + reusable) * _GPU_SHARE)
    return int(min(_available(), _left_of_container()) * _CPU_SHARE)


def _available() -> float:
    """What Linux can give to programs without swapping, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("inf")  # no Linux: nothing is known
    values = dict(line.partition(":")[::2] for line in lines)
    return int(values["MemAvailable"].split()[0]) * 1024


def _left_of_container() -> float:
    """What a container may still take, in bytes; infinite if it has no limit."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((_CGROUP / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no cgroup, or the limit is "max"
        return float("inf")
    return limit - used
