"""Tells what a training would need of memory, as one line of JSON. Nothing is started, and no weight is read.

Flags and folders are those of train.py. CARDS lists the free bytes of GPUs, the one that is meant first: the plan is
that of the first into which the training fits. An empty list is this machine.
"""

import json
import os
import sys
from dataclasses import asdict

from contract import CARDS, EXAMPLE_LENGTHS, MANIFEST_FILE, PROCESSES, PROMPT_LENGTHS, MemoryPlan, read_manifest
from engine.arguments import Arguments, Folders, parse_arguments, read_folders
from engine.failure import TrainingError
from loading import look_before_download


def main() -> int:
    """Print the plan. Returns 0."""
    arguments, folders = parse_arguments(sys.argv[1:]), read_folders(os.environ)
    print(json.dumps(asdict(planned(arguments, folders, json.loads(os.environ[CARDS]), int(os.environ[PROCESSES])))))
    return 0


def planned(arguments: Arguments, folders: Folders, cards: list[int], processes: int) -> MemoryPlan:
    """The plan of a training on one of `cards`, or on this machine if there are none."""
    import torch

    from engine import memory, model, process_memory
    from engine.batches import load_split

    splits = load_split(folders.dataset, "train"), load_split(folders.dataset, "test")
    base = model.fetch_description(arguments, folders.base_model)
    facts = read_manifest((folders.dataset / MANIFEST_FILE).read_bytes())
    _, targets = look_before_download(base, arguments, facts, splits)
    lengths = splits[0].select_columns([EXAMPLE_LENGTHS, PROMPT_LENGTHS])
    here = model.pick_device()
    if cards:  # all cards but the oldest multiply bf16
        dtype = getattr(torch, "bfloat16" if arguments.compute_dtype == "auto" else arguments.compute_dtype)
    else:
        dtype, _ = model.pick_dtype(arguments.compute_dtype, here)
    kind = "cuda" if cards else here.type
    refusal = ""
    for card, free in enumerate(cards or [memory.free_bytes(here)]):
        try:
            plan = memory.plan_memory(base, arguments, targets, lengths, dtype, free, processes, kind)
        except TrainingError as error:
            refusal = refusal or f"{error.message}\n{error.hint}"
            continue
        parts, room = process_memory.process_parts(plan.memory, kind), process_memory.process_room(free, kind)
        layers, packs = (plan.recomputed_layers, plan.layers), plan.arguments.per_device_batch_size
        return MemoryPlan(card, sum(parts.values()), parts, room, *layers, packs, refusal)
    return MemoryPlan(-1, 0, {}, 0, 0, 0, 0, refusal)


if __name__ == "__main__":
    sys.exit(main())
