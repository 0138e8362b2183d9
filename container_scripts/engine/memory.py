"""How many bytes a training will need, before any weight is loaded.

Most is held inside the loss, between the forward and the backward pass, or in a layer beside it. `Memory` adds up:

    weights       frozen model:  V*H + per layer, int8: O*I codes + 8*O scales; NF4: about 0.52*O*I; else O*I * dtype;
                  stacked experts: the same of each expert, and 4*O scales (experts_quantized.py)
    adapter       A and B of every target:  r*(I + O) values, 16 bytes each (value, gradient, two moments of AdamW)
    activations   what autograd saves of the layers for the backward pass, and the body's output
    head          logits of one chunk of rows, a part of them in float32 (loss.py), and two tensors (labelled tokens,
                  H); or all that the model's own head and loss hold for a moment, of either pass
    workspace     what the layers hold for a moment of either pass beside all that, such as gradients and masks of
                  dropout, and the largest dequantized weight or expert: as far as it is more than the head, which is
                  not there then. Or what loading holds of the largest stack of experts, where that is more than all
                  but the weights

(O, I, r as in linear.py; V = vocabulary, H = hidden size.) Activations differ most between architectures, so they are
counted and not computed from a formula: its own passes run on tensors that have shape and dtype but no memory
(fake_pass.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from engine.arguments import Arguments
from engine.base_memory import base_bytes
from engine.fake_pass import count_held, recompute_layers, skeleton
from engine.loss import CHUNK_ROWS, FLOAT_SHARE
from engine.process_memory import ROOM
from gpu import free_memory
from shared.lora_targets import stacked_experts

__all__ = ["Memory", "estimate", "free_bytes", "recompute_layers", "skeleton"]

_COPIES = 3  # of a stack of experts: one file's tensor for each, gate and up apart, and all in one
ADAM = 16  # bytes per trained parameter, all float32: value, gradient, two moments


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by part, at the moment when most is held: inside the loss, or in a layer before or after it."""

    weights: int
    """The frozen model, quantized as in training."""
    adapter: int
    """The adapter's parameters, their gradients, and AdamW's two moments, float32."""
    activations: int
    """Tensors that autograd saves of the layers for the backward pass."""
    head: int
    """The logits of one chunk of rows, and the hidden states with their gradient at labelled tokens."""
    workspace: int
    """What a layer needs for a moment, with the largest weight in the compute dtype, where that is more than `head`."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{field.name} {getattr(self, field.name) / 2**30:.2f}" for field in fields(self))
        return f"{self.total / 2**30:.2f} GiB ({parts})"


def free_bytes(device: torch.device) -> int:
    """Free bytes for tensors: all that the GPU has free, or a third of the main memory that is free.

    A process on a CPU was measured to hold up to 2.8 times its tensors: the allocator keeps freed memory.
    """
    free = free_memory(device)
    return free if device.type == "cuda" else free // ROOM


def estimate(
    base: Path,
    arguments: Arguments,
    targets: Sequence[str],
    lengths: Sequence[int],
    rows: int,
    dtype: torch.dtype,
    recompute_all: bool = False,
    device: str = "",
) -> tuple[Memory, int]:
    """The memory that training on one batch needs, and how many layers can recompute their activations.

    Args:
        base: folder with the model's config.json; no weights are read.
        targets: names of the modules that get an adapter.
        lengths: tokens of each example of the batch.
        rows: how many tokens of the batch have a label.
        dtype: compute dtype of the frozen model.
        recompute_all: whether every layer recomputes its activations.
        device: `cuda` or `cpu`; empty is this machine's.
    """
    outline, of_base = skeleton(base), base_bytes(base, arguments.quantization, dtype)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    counted = count_held(base, outline, arguments, targets, lengths, rows, dtype, recompute_all, device)
    in_head = counted.own_head or _head_bytes(outline, rows, dtype, CHUNK_ROWS[device])
    adapter = ADAM * counted.adapter_parameters
    in_layers = counted.passing + of_base.largest_weight - in_head  # the head's are gone, or not yet there
    loading = _loading_bytes(outline, dtype) - adapter - counted.bytes - in_head  # none of these is there yet
    memory = Memory(of_base.held, adapter, counted.bytes, in_head, workspace=max(in_layers, loading, 0))
    return memory, counted.layers


def _loading_bytes(model: Any, dtype: torch.dtype) -> int:
    """What loading takes beside the weights: of a stack of experts the parts that it is made of, and it itself."""
    largest = max((stacked.numel() for stacked in stacked_experts(model).values()), default=0)
    return _COPIES * largest * dtype.itemsize


def _head_bytes(model: Any, rows: int, dtype: torch.dtype, chunk: int) -> int:
    """The logits of one chunk of labelled rows, part of them float32, and the gradient of all labelled rows.

    Args:
        rows: how many tokens have a label.
        chunk: how many rows the engine multiplies at once.
    """
    vocabulary, hidden = model.get_output_embeddings().weight.shape
    whole, part = min(rows, chunk), min(rows, chunk // FLOAT_SHARE)
    logits = whole * dtype.itemsize + (0 if dtype is torch.float32 else part * torch.float32.itemsize)
    at_once: int = logits * vocabulary + 2 * rows * hidden * dtype.itemsize
    return at_once
