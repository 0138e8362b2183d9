"""How many bytes a training will need, before any weight is loaded, and which settings fit into the memory there is.

Most is held at the end of the forward pass, inside the loss. `Memory` adds up what exists then:

    weights       frozen model:  V*H + per layer, int8: O*I codes + 8*O scales; NF4: about 0.52*O*I; else O*I * dtype
    adapter       A and B of every target:  r*(I + O) values, 16 bytes each (value, gradient, two moments of AdamW)
    activations   what autograd saves of the layers for the backward pass, and the body's output
    head          logits of one chunk of rows, a part of them in float32 (loss.py), and two tensors (labelled tokens, H)
    workspace     the largest dequantized weight, and twice the largest tensor that one layer needs for a moment; with
                  DoRA also the largest adapted weight and its sum with B A, float32; with adapters on stacked experts
                  that PEFT computes also the sum of the largest of them with B A, and its gradient

(O, I, r as in linear.py; V = vocabulary, H = hidden size.) Activations differ most between architectures, so they are
counted and not computed from a formula: the model is built of fake tensors (PyTorch's FakeTensorMode), which have
shape and dtype but no memory; its own forward pass runs on them; hooks see every tensor that autograd saves.

If a batch does not fit, `auto` settings give way in this order: fewer packs at once (the optimizer step sees the same
packs, in more passes), then recomputing the activations of as many layers as necessary. A layer that is recomputed
saves its input (1, T, H) only, and runs its forward pass a second time in the backward pass.
"""

import heapq
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from contract import EXAMPLE_LENGTHS, PROMPT_LENGTHS
from engine.arguments import Arguments
from engine.batches import Batch
from engine.experts_layers import experts_of_peft
from engine.failure import TrainingError
from engine.fake_pass import count_saved, recompute_layers, skeleton
from engine.loss import CHUNK_ROWS, FLOAT_SHARE
from engine.model import quantized_layers
from engine.routes import can_leave_out_logits
from gpu import free_memory
from lora_targets import target_layers

__all__ = ["Memory", "Plan", "estimate", "free_bytes", "plan_memory", "recompute_layers", "skeleton"]

_USABLE = 0.9  # share of the free memory to plan with; the rest covers the estimate's error and fragmentation
_HOPELESS = 1.1  # refuse above this share of the free memory: the estimate's error is smaller
_ROW_SCALES = 8  # bytes per row of an int8 weight: bitsandbytes' absmax and our scale, float32 each
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # per weight, with double-quantized scales: QLoRA (Dettmers et al. 2023)
ROOM = 3  # a process on a CPU may hold up to three times its tensors
ADAM = 16  # bytes per trained parameter, all float32: value, gradient, two moments


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by part, at the moment when most is held: inside the loss, at the end of the forward pass."""

    weights: int
    """The frozen model, quantized as in training."""
    adapter: int
    """The adapter's parameters, their gradients, and AdamW's two moments, float32."""
    activations: int
    """Tensors that autograd saves of the layers for the backward pass."""
    head: int
    """The logits of one chunk of rows, and the hidden states with their gradient at labelled tokens."""
    workspace: int
    """The largest weight in the compute dtype, and the largest tensors that one layer needs for a moment."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{field.name} {getattr(self, field.name) / 2**30:.2f}" for field in fields(self))
        return f"{self.total / 2**30:.2f} GiB ({parts})"


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings with which a training fits into memory."""

    arguments: Arguments
    """Those of the job, with `per_device_batch_size: auto` replaced by a number of packs."""
    recomputed_layers: int
    """How many of `layers` recompute their activations in the backward pass."""
    layers: int
    memory: Memory
    free: int
    """Bytes that were free on the device before the model was loaded."""
    lengths: Sequence[int]
    """Tokens of each example of the batch that has most tokens."""


def plan_memory(
    base: Path,
    arguments: Arguments,
    targets: Sequence[str],
    packs: Sequence[Batch],
    dtype: torch.dtype,
    free: int,
    processes: int = 1,
    device: str = "",
) -> Plan:
    """Choose the largest batch, then the fewest recomputed layers, that fit into `free` bytes.

    Args:
        base: folder with the model's config.json; no weights are read.
        targets: names of the modules that get an adapter.
        packs: rows of the dataset; only their lengths are read. Those with most tokens have to fit.
        dtype: compute dtype of the frozen model.
        free: bytes on the device.
        processes: how many share the forward passes of a step. Each of them needs this memory.
        device: `cuda` or `cpu`; empty is this machine's.

    Raises:
        TrainingError: it does not fit, even if every layer recomputes; or a step has fewer packs than processes.
    """
    sizes = _batch_sizes(arguments, len(packs), processes)
    largest = heapq.nlargest(sizes[0], packs, key=lambda pack: sum(pack[EXAMPLE_LENGTHS]))

    def needed(size: int, recompute_all: bool) -> tuple[Memory, int]:
        lengths, rows = _tokens_and_rows(largest[:size], arguments.loss_on)
        return _estimated(base, arguments, tuple(targets), tuple(lengths), rows, dtype, recompute_all, device)

    always, room = arguments.gradient_checkpointing == "true", free * _USABLE
    size, memory, layers = _first_that_fits(sizes, partial(needed, recompute_all=always), room)
    recomputed = layers if always else 0
    if memory.total > room and arguments.gradient_checkpointing == "auto":
        memory, recomputed = _recompute_until_it_fits(memory, needed(size, True)[0], layers, room)
    if memory.total > free * _HOPELESS:
        raise _too_large(memory, free)
    lengths, _ = _tokens_and_rows(largest[:size], arguments.loss_on)
    return Plan(_with_batch_size(arguments, size), recomputed, layers, memory, free, lengths)


def _first_that_fits(
    sizes: Sequence[int], needed: Callable[[int], tuple[Memory, int]], room: float
) -> tuple[int, Memory, int]:
    """The first size whose memory has room, or else the last, with what `needed` says of it: memory and layers."""
    for size in sizes:
        memory, layers = needed(size)
        if memory.total <= room:
            break
    return size, memory, layers


def _with_batch_size(arguments: Arguments, size: int) -> Arguments:
    """The packs of an optimizer step stay the same: a smaller batch means more passes per step."""
    passes = arguments.gradient_accumulation_steps * max(arguments.per_device_batch_size, 1) // size
    return replace(arguments, per_device_batch_size=size, gradient_accumulation_steps=passes)


def _too_large(memory: Memory, free: int) -> TrainingError:
    return TrainingError(
        f"this training needs {memory}, and {free / 2**30:.2f} GiB are free",
        "lower data.max_length or training.per_device_batch_size, set training.gradient_checkpointing to auto, "
        "or quantization to nf4",
    )


def _batch_sizes(arguments: Arguments, packs: int, processes: int) -> list[int]:
    """The packs at once that may be tried, the largest first: with `auto`, those that divide the packs of a step.

    Each process has at least one pass of a whole step, so they may be fewer than `per_device_batch_size`.
    """
    asked, passes = arguments.per_device_batch_size, arguments.gradient_accumulation_steps
    step = passes * max(asked, 1)
    if step < processes:
        raise TrainingError(
            f"an optimizer step has {step} pack{'s' if step > 1 else ''} for {processes} processes",
            f"set training.gradient_accumulation_steps to {-(-processes // max(asked, 1))} or more, or use fewer "
            "processes",
        )
    most = min(asked or min(step, packs), step // processes)
    sizes = [size for size in range(most, 0, -1) if step % size == 0]
    return sizes[:1] if asked else sizes


def _tokens_and_rows(packs: Sequence[Batch], loss_on: str) -> tuple[list[int], int]:
    """The tokens of each example of a batch, and how many tokens of the batch have a label."""
    lengths = [length for pack in packs for length in pack[EXAMPLE_LENGTHS]]
    prompts = sum(sum(pack[PROMPT_LENGTHS]) for pack in packs)
    return lengths, sum(lengths) - (prompts if loss_on == "completion" else 0)


def _recompute_until_it_fits(none: Memory, all_: Memory, layers: int, room: float) -> tuple[Memory, int]:
    """The memory if as few layers as possible recompute their activations, and how many those are.

    Args:
        none: the memory if no layer recomputes.
        all_: the memory if all `layers` recompute.
        room: bytes to fit into. It may be impossible: then all layers recompute.
    """
    freed = (none.activations - all_.activations) / max(layers, 1)  # by each layer that recomputes
    recomputed = min(math.ceil((none.total - room) / max(freed, 1)), layers)
    return replace(none, activations=round(none.activations - recomputed * freed)), recomputed


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
    outline = skeleton(base)
    quantized = quantized_layers(outline) if arguments.quantization != "none" else frozenset()
    weights, largest_weight = _weight_bytes(outline, quantized, arguments.quantization, dtype)
    sums = _sum_bytes(outline, arguments, targets, dtype)
    counted = count_saved(base, outline, arguments, targets, lengths, dtype, recompute_all)
    leaves_out = arguments.engine_head == "labels" and can_leave_out_logits(outline)
    chunk = CHUNK_ROWS[device or ("cuda" if torch.cuda.is_available() else "cpu")]
    in_head = _head_bytes(outline, counted.plain_head, rows, rows if leaves_out else sum(lengths), dtype, chunk)
    memory = Memory(
        weights=weights,
        adapter=ADAM * counted.adapter_parameters,
        activations=counted.bytes,
        head=in_head,
        workspace=largest_weight + sums + 2 * counted.largest + max(counted.one_layer - in_head, 0),
    )
    return memory, counted.layers


_estimated = lru_cache(64)(estimate)  # cards of several sizes are planned for: the forward pass is that of all


def _sum_bytes(model: Any, arguments: Arguments, targets: Sequence[str], dtype: torch.dtype) -> int:
    """What the sums of weights and updates take for a moment: in DoRA's norms, and in PEFT's adapters of experts."""
    layers = max((layer.weight.numel() for layer in target_layers(model, targets).values()), default=0)
    experts = max((stacked.numel() for stacked in experts_of_peft(model, arguments, targets)), default=0)
    return 2 * experts * dtype.itemsize + (2 * layers * torch.float32.itemsize if arguments.lora_dora else 0)


def _head_bytes(model: Any, plain: bool, rows: int, computed: int, dtype: torch.dtype, chunk: int) -> int:
    """The logits of one chunk of labelled rows, or what the model's own head computes, with its gradient.

    Args:
        plain: whether the engine multiplies the head.
        rows: how many tokens have a label.
        computed: at how many tokens the model's own head computes logits.
        chunk: how many rows the engine multiplies at once.
    """
    vocabulary, hidden = model.get_output_embeddings().weight.shape
    whole, part = (min(rows, chunk), min(rows, chunk // FLOAT_SHARE)) if plain else (2 * computed, 2 * computed)
    logits = whole * dtype.itemsize + (0 if dtype is torch.float32 else part * torch.float32.itemsize)
    at_once: int = logits * vocabulary + 2 * rows * hidden * dtype.itemsize
    return at_once


def _weight_bytes(model: Any, quantized: Collection[str], quantization: str, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes of the frozen model, and of its largest quantized weight once it is dequantized to `dtype`."""
    linear = {id(m.weight) for name, m in model.named_modules() if name in quantized}
    held = largest = 0
    for parameter in {id(p): p for p in model.parameters()}.values():
        if id(parameter) not in linear:
            held += parameter.numel() * dtype.itemsize
            continue
        largest = max(largest, parameter.numel() * dtype.itemsize)
        held += parameter.numel() + _ROW_SCALES * parameter.shape[0] if quantization == "int8" else 0
        held += round(parameter.numel() * _NF4_BYTES) if quantization == "nf4" else 0
    return held, largest
