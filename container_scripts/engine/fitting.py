"""Which settings fit into the memory there is, before any weight is loaded.

If a batch does not fit, `auto` settings give way in this order: fewer packs at once (the optimizer step sees the same
packs, in more passes), then recomputing the activations of as many layers as necessary. A layer that is recomputed
saves its input (1, T, H) only, and runs its forward pass a second time in the backward pass. If it still does not fit,
the base model's codes are shared in main memory (host_weights.py): on a GPU, `weights` then counts those codes only for
which there is room, and on a CPU each process's part of them. A GPU copies them in every pass, so there layers
recompute before fewer packs are taken at once.

A model that keeps its own attention (routes.py) has a mask and scores of all tokens of a pass by all tokens, so packs
cost more together than apart: `auto` takes one.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

import torch

from engine.arguments import Arguments
from engine.base_memory import BaseBytes, base_bytes, why_not_shared
from engine.batches import Batch
from engine.failure import TrainingError
from engine.memory import Memory, estimate, recompute_layers, skeleton
from engine.packing_check import likely_route
from engine.routes import Route
from shared.names import EXAMPLE_LENGTHS, PROMPT_LENGTHS
from shared.steps import too_few_packs

_USABLE = 0.9  # share of the free memory to plan with; the rest covers the estimate's error and fragmentation
_REFUSE_ABOVE = 1.1  # of the free memory: the estimate's error is smaller
_estimated = lru_cache(64)(estimate)  # GPUs of several sizes are planned for: the forward pass is that of all


@lru_cache(16)
def _layers(base: Path) -> int:
    """How many layers can recompute their activations."""
    return recompute_layers(skeleton(base), 0)


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
    """Tokens of each example of the pass that has most tokens."""
    shared_bytes: int = 0
    """Of the base model's codes that lie in main memory, once for the machine (host_weights.py); 0 if none do."""
    resident_bytes: int = 0
    """Of codes that stay on each GPU beside shared ones."""
    takes_packs: bool = True
    """Whether all examples of a pack share a forward pass; otherwise there is room for one (packing_check.py)."""


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
    longest: int = 0,
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
        longest: tokens of the longest example of either split, which decides the route; by default that of `packs`.

    Raises:
        TrainingError: it does not fit, even if every layer recomputes; or a step has fewer packs than processes; or
            the base model was to be shared, and cannot be.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    sizes = _batch_sizes(arguments, len(packs), processes)
    route = likely_route(base, arguments.engine_attention, longest or max(max(p[EXAMPLE_LENGTHS]) for p in packs))
    most = partial(heapq.nlargest, sizes[0] if route.together else 1)
    largest = most((lengths for lengths, _ in _passes(packs, route.together)), key=sum)
    labels = most(_labels(*lengths, arguments.loss_on) for lengths in _passes(packs, route.together))
    return _whole_or_shared(
        _Planner(base, arguments, tuple(targets), route, sizes, largest, labels, dtype, free, device, neighbours)
    )


def _passes(packs: Sequence[Batch], together: bool) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Tokens of the examples that share a forward pass, and of their prompts."""
    for pack in packs:
        lengths = pack[EXAMPLE_LENGTHS], pack[PROMPT_LENGTHS]
        yield from [lengths] if together else (((one,), (prompt,)) for one, prompt in zip(*lengths, strict=True))


@dataclass(frozen=True, slots=True)
class _Planner:
    """What a plan is made of: plan_memory's arguments, the route, the packs at once that may be tried, the example
    lengths of the packs with most tokens, and the most labels of a pack: a step draws packs, so any of them may come
    together. Where a model takes one example in each pass, it is the one with most tokens, and the most labels of one.
    """

    base: Path
    arguments: Arguments
    targets: tuple[str, ...]
    route: Route
    sizes: Sequence[int]
    largest: Sequence[Sequence[int]]
    labels: Sequence[int]
    dtype: torch.dtype
    free: int
    device: str
    neighbours: int

    @property
    def of_base(self) -> BaseBytes:
        return base_bytes(self.base, self.arguments.quantization, self.dtype)

    @property
    def layers(self) -> int:
        return _layers(self.base)

    def plan(self, shared: bool) -> Plan:
        """The best plan with a whole or a shared base model, whether it fits or not.

        The most packs at once that fit go first, then the fewest recomputed layers. Packs are taken to fit if they do
        without recomputing; or with all of it, where each pass copies a shared base to a GPU.
        """
        asked, room = self.arguments.gradient_checkpointing, self.free * _USABLE
        copies_base = shared and self.device == "cuda"
        recompute_all = asked == "true" or (asked == "auto" and copies_base)
        has_square = self.route.together and self.route.attention == "transformers"
        sizes = self.sizes[-1:] if has_square and not copies_base else self.sizes
        size = next((n for n in sizes if self._needed(n, recompute_all, shared).total <= room), sizes[-1])
        memory, recomputed = self._needed(size, asked == "true", shared), self.layers if asked == "true" else 0
        if asked == "auto" and memory.total > room:
            least = self._needed(size, True, shared)
            memory, recomputed = _recompute_until_it_fits(memory, least, self.layers, room)
        arguments = _with_batch_size(self.arguments, size)
        lengths, together = self._lengths(size), self.route.together
        return Plan(arguments, recomputed, self.layers, memory, self.free, lengths, takes_packs=together)

    def _lengths(self, size: int) -> tuple[int, ...]:
        """Tokens of each example of the batch that has most tokens."""
        return tuple(chain.from_iterable(self.largest[:size]))

    def _needed(self, size: int, recompute_all: bool, shared: bool) -> Memory:
        """With a shared base a CPU has its part of the codes, and a GPU two places of them (weight_prefetch.py)."""
        lengths, rows = self._lengths(size), sum(self.labels[:size])
        counted = replace(self.arguments, engine_attention=self.route.attention)
        memory, _ = _estimated(self.base, counted, self.targets, lengths, rows, self.dtype, recompute_all, self.device)
        if not shared:
            return memory
        part, places = self.of_base.codes // self.neighbours, 0
        if self.device == "cuda":
            part, places = 0, 2 * self.of_base.largest_codes
        weights = memory.weights - self.of_base.codes + part
        return replace(memory, weights=weights, workspace=memory.workspace + places)


def _whole_or_shared(planner: _Planner) -> Plan:
    """The plan with a whole base model if that fits, or is asked for; else with a shared one, of which a GPU keeps what
    it has room for. plan_memory has the errors.
    """
    asked, free, device = planner.arguments.engine_base, planner.free, planner.device
    reason = why_not_shared(planner.arguments, device, planner.neighbours)
    if asked == "shared" and reason:
        raise TrainingError(f"the base model cannot be shared: {reason}", "set training.engine.base: auto")
    if asked != "shared":
        whole = planner.plan(shared=False)
        if whole.memory.total <= free * _REFUSE_ABOVE:
            return whole
        if reason or asked == "whole":
            alone = device == "cpu" and planner.neighbours == 1
            raise _too_large(whole.memory, free, "" if alone else reason or "training.engine.base is whole")
    shared, codes = planner.plan(shared=True), planner.of_base.codes
    if shared.memory.total > free * _REFUSE_ABOVE:
        raise _too_large(shared.memory, free, never_shared=planner.of_base.held - codes)
    room = max(int(free * _USABLE) - shared.memory.total, 0)
    stays = min(room, codes) if device == "cuda" and asked == "auto" else 0
    memory = replace(shared.memory, weights=shared.memory.weights + stays)
    return replace(shared, memory=memory, shared_bytes=codes - stays, resident_bytes=stays)


def _with_batch_size(arguments: Arguments, size: int) -> Arguments:
    """The packs of an optimizer step stay the same: a smaller batch means more passes per step."""
    passes = arguments.gradient_accumulation_steps * max(arguments.per_device_batch_size, 1) // size
    return replace(arguments, per_device_batch_size=size, gradient_accumulation_steps=passes)


def _too_large(memory: Memory, free: int, whole_because: str = "", never_shared: int = 0) -> TrainingError:
    """What to do if it does not fit.

    Args:
        whole_because: why the base model is not shared; empty where it is, or where that would bring nothing.
        never_shared: bytes of a shared base model that each process holds itself.
    """
    also = f"; the base model is not shared, because {whole_because}" if whole_because else ""
    if never_shared > free:
        also = f"; but {never_shared / 2**30:.2f} GiB of the base model cannot be shared: that takes more memory"
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
    if failure := too_few_packs(max(asked, 1), passes, processes):
        raise TrainingError(failure.message, failure.hint)
    step = passes * max(asked, 1)
    most = min(asked or min(step, packs), step // processes)
    sizes = [size for size in range(most, 0, -1) if step % size == 0]
    return sizes[:1] if asked else sizes


def _labels(lengths: Sequence[int], prompts: Sequence[int], loss_on: str) -> int:
    """How many tokens of some examples have a label."""
    return sum(lengths) - (sum(prompts) if loss_on == "completion" else 0)


def _recompute_until_it_fits(none: Memory, all_: Memory, layers: int, room: float) -> tuple[Memory, int]:
    """The memory if as few layers as possible recompute their activations, and how many those are.

    Args:
        none: the memory if no layer recomputes.
        all_: the memory if all `layers` recompute.
        room: bytes to fit into. It may be impossible: then all layers recompute.
    """
    freed = (none.activations - all_.activations) / max(layers, 1)  # by each layer that recomputes
    recomputed = min(math.ceil((none.total - room) / max(freed, 1)), layers)
    memory = replace(none, activations=round(none.activations - recomputed * freed))
    at_least = max(all_.total - memory.total, 0)  # loading takes as much however many layers recompute
    return replace(memory, workspace=memory.workspace + at_least), recomputed
