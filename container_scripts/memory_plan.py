"""Tells what a training would need of memory, disk and arithmetic, as one line of JSON.

Nothing is started, and no weight is read.

Flags and folders are those of train.py. GPU_BYTES lists the free bytes of the GPUs to plan for; an empty list is this
machine.
"""

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.arguments import Arguments, Folders, parse_arguments, read_folders
from engine.failure import TrainingError
from loading import look_before_download
from shared.names import GPU_BYTES, MANIFEST_FILE, PROCESSES
from shared.records import DatasetFacts, MemoryPlan, Needs, from_json

if TYPE_CHECKING:
    from engine.fitting import Plan

_CHECKPOINTS = 3  # the two newest, and one that is being written
_CHECKPOINT = 12  # bytes per trained parameter, all float32: value and two moments of AdamW
_MERGING = 3  # copies of the largest weight in float32 while it is merged: read, its update, their sum


def main() -> int:
    """Print what is needed. Returns 0; or 1 if that cannot be told, after saying why on stderr."""
    from engine.libraries import import_libraries

    arguments, folders = parse_arguments(sys.argv[1:]), read_folders(os.environ)
    import_libraries("none")  # nothing is quantized
    try:
        needs = planned(arguments, folders, json.loads(os.environ[GPU_BYTES]), int(os.environ[PROCESSES]))
    except TrainingError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(json.dumps(asdict(needs)))
    return 0


def planned(arguments: Arguments, folders: Folders, gpus: Sequence[int], processes: int) -> Needs:
    """What a training needs on GPUs of which each has so many free bytes; on this machine if there are none."""
    import torch

    from engine import fitting, memory, model, operations, process_memory
    from engine.packs import load_split, longest_example

    splits = load_split(folders.dataset, "train"), load_split(folders.dataset, "test")
    base = model.fetch_description(arguments, folders.base_model)
    facts = from_json(DatasetFacts, (folders.dataset / MANIFEST_FILE).read_bytes())
    outline, targets = look_before_download(base, arguments, facts, splits)
    lengths, longest = splits[0].lengths_only(), longest_example(*splits)
    here, dtype, kind = _computing(arguments, gpus)

    def on(free: int) -> MemoryPlan:
        try:
            plan = fitting.plan_memory(
                base, arguments, targets, lengths, dtype, free, processes, kind, neighbours=processes, longest=longest
            )
            return _told(plan, kind, dtype)
        except TrainingError as error:
            room = process_memory.process_room(free, kind)
            return MemoryPlan(0, {}, room, 0, 0, 0, f"{error.message}\n{error.hint}")

    mine = memory.free_bytes(here) // (processes if here.type == "cpu" else 1)
    plans = tuple(map(on, gpus or [mine]))
    adapter = next((plan.memory_parts["adapter"] for plan in plans if not plan.refusal), 0) // memory.ADAM
    parameters, stored, merged = _weight_bytes(outline, arguments.merge_dtype)
    work = operations.count_operations(base, arguments, targets, lengths, dtype)
    return Needs(
        plans=plans,
        process_bytes=process_memory.host_bytes(kind),
        merge_bytes=_MERGING * torch.float32.itemsize * _largest_target(outline, targets),
        base_bytes=stored,
        merged_bytes=merged,
        checkpoint_bytes=adapter * ((_CHECKPOINTS + (arguments.keep == "best")) * _CHECKPOINT + torch.float32.itemsize),
        peak=0.0 if gpus else _peak(dtype, kind, processes),
        parameters=parameters,
        **asdict(work),
    )


def _computing(arguments: Arguments, gpus: Sequence[int]) -> tuple[Any, Any, str]:
    """This machine's device; and the dtype and type of device that are computed with, here or on the GPUs."""
    from engine import model

    here = model.pick_device()
    wanted = "bfloat16" if gpus and arguments.compute_dtype == "auto" else arguments.compute_dtype
    dtype, _ = model.pick_dtype(wanted, here)  # all GPUs but the oldest multiply bf16
    return here, dtype, "cuda" if gpus else here.type


def _told(plan: "Plan", kind: str, dtype: Any) -> MemoryPlan:
    from engine import process_memory

    parts, room = process_memory.process_parts(plan, kind, dtype), process_memory.process_room(plan.free, kind)
    layers = plan.recomputed_layers, plan.layers
    return MemoryPlan(
        sum(parts.values()),
        parts,
        room,
        *layers,
        plan.arguments.per_device_batch_size,
        shared_bytes=plan.shared_bytes,
    )


def _largest_target(outline: Any, targets: Sequence[str]) -> int:
    """Values of the largest weight that an adapter changes."""
    from shared.lora_targets import target_experts, target_layers

    weights = [layer.weight.numel() for layer in target_layers(outline, targets).values()]
    return int(max(weights + [stacked.numel() for stacked in target_experts(outline, targets).values()]))


def _peak(dtype: Any, kind: str, processes: int) -> float:
    """Operations a second of all processes: each has a GPU of its own, or they share the cores of a CPU."""
    from engine.operations import product_speed

    return product_speed(dtype, kind) * (processes if kind == "cuda" else 1)


def _weight_bytes(outline: Any, merge_dtype: str) -> tuple[int, int, int]:
    """The parameters, and the bytes of the base model's files, in the type that its config names, and the merged's."""
    import torch

    dtype = outline.config.dtype or torch.float32
    count = sum(math.prod(p.shape) for p in {id(p): p for p in outline.parameters()}.values())
    merged = dtype if merge_dtype == "auto" else getattr(torch, merge_dtype)
    return count, count * dtype.itemsize, count * merged.itemsize


if __name__ == "__main__":
    sys.exit(main())
