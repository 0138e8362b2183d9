"""Which settings fit into the memory there is, before any weight is loaded.

If a batch does not fit, `auto` settings give way in this order: fewer packs at once (the optimizer step sees the same
packs, in more passes), then recomputing the activations of as many layers as necessary. A layer that is recomputed
saves its input (1, T, H) only, and runs its forward pass a second time in the backward pass. If it still does not fit,
the base model's codes are shared in main memory (shared_base.py): on a GPU, `weights` then counts those codes only for
which there is room, and on a CPU each process's part of them.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from contract import EXAMPLE_LENGTHS, PROMPT_LENGTHS
from engine.arguments import Arguments
from engine.base_memory import BaseBytes, base_bytes, why_not_shared
from engine.batches import Batch
from engine.failure import TrainingError
from engine.memory import Memory, estimate

_USABLE = 0.9  # share of the free memory to plan with; the rest covers the estimate's error and fragmentation
_HOPELESS = 1.1  # refuse above this share of the free memory: the estimate's error is smaller
_estimated = lru_cache(64)(estimate)  # cards of several sizes are planned for: the forward pass is that of all


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
    shared_bytes: int = 0
    """Of the base model's codes that lie in main memory, once for the machine (shared_base.py); 0 if none do."""
    resident_bytes: int = 0
    """Of codes that stay on each GPU beside shared ones."""


def plan_memory(
    base: Path,
    arguments: Arguments,
    targets: Sequence[str],
    packs: Sequence[Batch],
    dtype: torch.dtype,
    free: int,
    processes: int = 1,
    device: str = "",
    neighbours: int = 1,
) -> Plan:
    """Choose the largest batch, then the fewest recomputed layers, that fit into `free` bytes.

    With `engine_base: auto`, a base model that does not fit even so is shared, and the choice made again.

    Args:
        base: folder with the model's config.json; no weights are read.
        targets: names of the modules that get an adapter.
        packs: rows of the dataset; only their lengths are read. Those with most tokens have to fit.
        dtype: compute dtype of the frozen model.
        free: bytes on the device.
        processes: how many share the forward passes of a step. Each of them needs this memory.
        device: `cuda` or `cpu`; empty is this machine's.
        neighbours: how many of the processes are on one machine.

    Raises:
        TrainingError: it does not fit, even if every layer recomputes; or a step has fewer packs than processes; or
            the base model was to be shared, and cannot be.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    sizes = _batch_sizes(arguments, len(packs), processes)
    largest = heapq.nlargest(sizes[0], packs, key=lambda pack: sum(pack[EXAMPLE_LENGTHS]))

    def needed(size: int, recompute_all: bool) -> tuple[Memory, int]:
        lengths, rows = _tokens_and_rows(largest[:size], arguments.loss_on)
        return _estimated(base, arguments, tuple(targets), tuple(lengths), rows, dtype, recompute_all, device)

    def plan(needed: Callable[[int, bool], tuple[Memory, int]]) -> Plan:
        size, recomputed, layers, memory = _chosen(needed, sizes, arguments.gradient_checkpointing, free * _USABLE)
        lengths, _ = _tokens_and_rows(largest[:size], arguments.loss_on)
        return Plan(_with_batch_size(arguments, size), recomputed, layers, memory, free, lengths)

    reason = why_not_shared(arguments, device, neighbours)
    if arguments.engine_base == "shared" and reason:
        raise TrainingError(f"the base model cannot be shared: {reason}", "set training.engine.base: auto")
    whole = plan(needed) if arguments.engine_base != "shared" else None
    if whole and whole.memory.total <= free * _HOPELESS:
        return whole
    if whole and (reason or arguments.engine_base == "whole"):
        alone = device == "cpu" and neighbours == 1
        raise _too_large(whole.memory, free, "" if alone else reason or "training.engine.base is whole")
    of_base, apart = base_bytes(base, arguments.quantization, dtype), neighbours if device == "cpu" else 0
    shared = plan(lambda size, all_: _sharing(*needed(size, all_), of_base, apart))
    if shared.memory.total > free * _HOPELESS:
        raise _too_large(shared.memory, free)
    stays = 0
    if device == "cuda" and whole:
        stays = min(max(int(free * _USABLE) - shared.memory.total, 0), of_base.codes)
    memory = replace(shared.memory, weights=shared.memory.weights + stays)
    return replace(shared, memory=memory, shared_bytes=of_base.codes - stays, resident_bytes=stays)


def _sharing(memory: Memory, layers: int, base: BaseBytes, neighbours: int) -> tuple[Memory, int]:
    """The same with shared codes: a CPU has its part of them, a GPU two places for the largest (fetching.py).

    Args:
        neighbours: how many processes share a CPU's memory; 0 on a GPU.
    """
    weights = memory.weights - base.codes + (base.codes // neighbours if neighbours else 0)
    places = 0 if neighbours else 2 * base.largest_codes
    return replace(memory, weights=weights, workspace=memory.workspace + places), layers


def _chosen(
    needed: Callable[[int, bool], tuple[Memory, int]], sizes: Sequence[int], recompute: str, room: float
) -> tuple[int, int, int, Memory]:
    """The packs at once, how many of how many layers recompute their activations, and the memory that this needs."""
    always = recompute == "true"
    size, memory, layers = _first_that_fits(sizes, lambda size: needed(size, always), room)
    recomputed = layers if always else 0
    if memory.total > room and recompute == "auto":
        memory, recomputed = _recompute_until_it_fits(memory, needed(size, True)[0], layers, room)
    return size, recomputed, layers, memory


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


def _too_large(memory: Memory, free: int, whole_because: str = "") -> TrainingError:
    """What to do if it does not fit.

    Args:
        whole_because: why the base model is not shared; empty where it is, or where that would bring nothing.
    """
    also = f"; the base model is not shared, because {whole_because}" if whole_because else ""
    return TrainingError(
        f"this training needs {memory}, and {free / 2**30:.2f} GiB are free",
        "lower data.max_length or training.per_device_batch_size, set training.gradient_checkpointing to auto, "
        f"or quantization to nf4{also}",
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
