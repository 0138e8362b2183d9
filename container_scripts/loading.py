"""Loads the base model for a training: fetched, looked at, planned into memory, quantised, with its adapter."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.arguments import Arguments, Folders
from engine.failure import TrainingError
from gpu import first_line, is_out_of_memory
from shared.base_config import check_data_fits, look_at_description, read_config
from shared.names import INPUT_IDS
from shared.records import DatasetFacts

if TYPE_CHECKING:
    import torch

    from engine.distributed import Group
    from engine.fitting import Plan
    from engine.packed_loss import PackedLoss
    from engine.packs import Packs

_MAIN_MEMORY = 0.9  # share of what is free that the base model may take


@dataclass(slots=True)
class Loaded:
    """The model, ready to be trained, and what was decided while loading it.

    Attributes:
        base: folder of the base model's unquantised weights.
        model: the PEFT model on `device`.
        packed_loss: its PackedLoss.
        plan: the arguments with every `auto` decided, and the memory they need.
        reason: why `dtype`, the compute type, was chosen.
    """

    base: Path
    model: Any
    packed_loss: Any
    plan: "Plan"
    targets: list[str]
    device: "torch.device"
    dtype: "torch.dtype"
    reason: str


def load(
    arguments: Arguments,
    folders: Folders,
    dataset: DatasetFacts,
    splits: "tuple[Packs, Packs]",
    resume_from: Path | None,
    group: "Group",
) -> Loaded:
    """Plan the base model's memory, fetch its weights, load it, add the adapter, and try both out.

    Raises:
        TrainingError: the model cannot be downloaded, loaded, trained or merged; it does not fit the data; it lacks a
            target of the adapter; or the training does not fit in memory.
        PeerLostError: another process of the group has ended.
    """
    import transformers

    from engine import model as models
    from engine.base_tensors import check_tensors, look_at_base
    from engine.process_memory import keep_few_products
    from engine.train_state import with_batch_of

    transformers.utils.logging.disable_progress_bar()
    described = models.fetch_description(arguments, folders.base_model)
    outline, targets = look_before_download(described, arguments, dataset, splits)
    device = models.pick_device()
    dtype, reason = models.pick_dtype(arguments.compute_dtype, device)
    before = group.from_first(lambda: with_batch_of(resume_from, arguments))
    plan = plan_as_before(described, arguments, before, targets, splits, dtype, fewest_free(device, group), group)
    check_main_memory(plan, device)
    base = models.fetch_base(arguments, folders.base_model)
    check_tensors(outline, look_at_base(base))
    keep_few_products(plan.lengths)
    transformers.set_seed(arguments.seed)
    model = adapted(base, plan, targets, dtype, device, outline, group)
    return Loaded(base, model, tried_out(model, plan, splits), plan, targets, device, dtype, reason)


def look_before_download(
    folder: Path, arguments: Arguments, dataset: DatasetFacts, splits: "tuple[Packs, Packs]"
) -> tuple[Any, list[str]]:
    """Check what config.json tells: that the base model can be trained, fits the data, and has the adapter's targets.

    Args:
        folder: has the base model's small files, and may have its weights.

    Returns:
        The model on the meta device, and the names of what gets an adapter.

    Raises:
        TrainingError: one of these is not true.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from engine.memory import skeleton
    from engine.packs import largest_id, longest_example
    from shared.lora_targets import TargetError, targets_of

    look_at_description(folder, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    check_data_fits(read_config(folder), longest_example(*splits), largest_id(*splits), dataset.eos_token_id)
    outline = skeleton(folder)
    try:
        return outline, targets_of(outline, arguments.lora_targets, arguments.lora_dropout, arguments.lora_dora)
    except TargetError as refused:
        raise TrainingError(refused.message, refused.hint) from refused


def adapted(
    base: Path,
    plan: "Plan",
    targets: list[str],
    dtype: "torch.dtype",
    device: "torch.device",
    outline: Any,
    group: "Group",
) -> Any:
    """The base model with a new adapter, which is known to be mergeable into it.

    Args:
        outline: the base model on the meta device.

    Raises:
        TrainingError: it cannot be loaded or merged.
        PeerLostError: another process, with which the base model is shared, has ended.
    """
    from engine.base_memory import shareable
    from engine.host_weights import SharedBase
    from engine.memory import recompute_layers
    from engine.merge import try_merge
    from engine.model import add_adapter, load_base
    from engine.process_memory import give_back

    shared = None
    if plan.shared_bytes:
        shared = SharedBase(shareable(outline), device, group, plan.resident_bytes)
    model = load_base(base, plan.arguments, dtype, device, shared)
    recompute_layers(model, plan.recomputed_layers)
    model = add_adapter(model, plan.arguments, targets)
    try_merge(base, model)
    give_back()  # what quantizing has freed
    return model


def fewest_free(device: "torch.device", group: "Group") -> int:
    """Free bytes of the process that has the fewest. Each has a GPU, or those of one machine share its memory."""
    from engine.memory import free_bytes

    return min(group.from_all(free_bytes(device) // (1 if device.type == "cuda" else group.local_size)))


def tried_out(model: Any, plan: "Plan", splits: "tuple[Packs, Packs]") -> "PackedLoss":
    """The loss of the model's batches, by the fastest route that is right.

    Raises:
        TrainingError: the model cannot be run. With weights in main memory a few architectures cannot: those that
            multiply by a layer's weight themselves, instead of calling the layer, which would fetch it.
    """
    from engine.packed_loss import PackedLoss
    from engine.packs import longest_example

    try:
        longest, sample = longest_example(*splits), splits[0][0][INPUT_IDS]
        return PackedLoss(model, longest, plan.arguments, sample, plan.takes_packs)
    except RuntimeError as error:
        if not plan.shared_bytes or is_out_of_memory(error):
            raise
        raise TrainingError(
            f"this architecture does not run with its weights in main memory: {first_line(error)}",
            "train it on a GPU that holds it, or set quantization to nf4",
        ) from error


def check_main_memory(plan: "Plan", device: "torch.device") -> None:
    """See that the main memory has room for what the GPUs of this machine share there.

    Raises:
        TrainingError: it has not.
    """
    import torch

    from gpu import free_memory

    free = free_memory(torch.device("cpu"))
    if device.type == "cuda" and plan.shared_bytes > free * _MAIN_MEMORY:
        raise TrainingError(
            f"the base model does not fit on the GPU: {plan.shared_bytes / 2**30:.1f} GiB of its weights would lie in "
            f"main memory, where {free / 2**30:.1f} GiB are free",
            "set quantization to nf4, or train where there is more memory",
        )


def plan_as_before(
    base: Path,
    arguments: Arguments,
    before: Arguments,
    targets: list[str],
    splits: "tuple[Packs, Packs]",
    dtype: "torch.dtype",
    free: int,
    group: "Group",
) -> "Plan":
    """The memory plan. A resumed job keeps the batch size that `auto` chose before, so that its results stay exact.

    Args:
        before: the arguments with that batch size; `arguments` if the job begins, or `auto` was not asked for.

    Raises:
        TrainingError: the training does not fit into `free` bytes.
    """
    from engine.fitting import plan_memory
    from engine.packs import longest_example

    packs, longest = splits[0].lengths_only(), longest_example(*splits)

    def plan(arguments: Arguments) -> "Plan":
        return plan_memory(
            base, arguments, targets, packs, dtype, free, group.size, neighbours=group.local_size, longest=longest
        )

    try:
        return plan(before)
    except TrainingError:
        if before == arguments:
            raise
        logging.warning("there is less memory than before the resume: choosing another batch, equal but for rounding")
        return plan(arguments)
