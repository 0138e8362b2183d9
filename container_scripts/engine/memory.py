"""What a training will need, in bytes, before anything is loaded, and how to make do with what there is.

What the backward pass keeps is counted, not guessed: the model is made of fake tensors (PyTorch's FakeTensorMode),
which have shapes and types but no memory, and its own forward pass runs on them as it will in training.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from engine.arguments import Arguments
from engine.attention import attend_within_examples
from engine.batches import Batch
from engine.failure import TrainingError
from engine.linear import adapted_linear
from engine.loss import CHUNK_ROWS, is_plain_head

_USABLE = 0.9  # of what is free: the rest is for the estimate's error and what the allocator loses
_HOPELESS = 1.1  # times what is free: more than the estimate's error
_ROW_SCALES = 8  # bytes per row of an int8 weight: bitsandbytes' absmax, and ours
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # per weight, with double-quantised scales: QLoRA (Dettmers et al. 2023)
_ADAM = 16  # bytes per trained parameter in float32: itself, its gradient, two moments


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by part, at the moment when most is held: the end of the forward pass, inside the loss."""

    weights: int
    """The frozen model, quantised as it will be."""
    adapter: int
    """LoRA's parameters, gradients and AdamW's two moments, float32."""
    activations: int
    """What the backward pass keeps of the layers."""
    head: int
    """Logits of one chunk of rows with a label, their gradient, and the rows."""
    workspace: int
    """The largest weight widened to the compute type, and what one layer holds for a moment."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{field.name} {getattr(self, field.name) / 2**30:.2f}" for field in fields(self))
        return f"{self.total / 2**30:.2f} GiB ({parts})"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a training fits into the memory there is."""

    arguments: Arguments
    """With the numbers of packs that `auto` came to."""
    recomputed: int
    """Layers whose activations are recomputed in the backward pass, of `layers`."""
    layers: int
    memory: Memory
    free: int
    """Bytes there are on the device."""


def plan(
    base: Path,
    arguments: Arguments,
    targets: Sequence[str],
    packs: Sequence[Batch],
    dtype: torch.dtype,
    free: int,
) -> Plan:
    """The largest batch and the fewest recomputed layers that fit; an optimizer step sees the same packs all the same.

    Args:
        packs: rows of the dataset, of which only the lengths are read; those with most tokens are what has to fit.
        free: bytes there are on the device.

    Raises:
        TrainingError: it does not fit, whatever is recomputed.
    """
    together = arguments.gradient_accumulation_steps
    sizes = [arguments.per_device_batch_size]
    if not arguments.per_device_batch_size:  # auto
        sizes = [size for size in range(min(together, len(packs)), 0, -1) if together % size == 0]
    largest = heapq.nlargest(sizes[0], packs, key=lambda pack: sum(pack["example_lengths"]))

    def need(size: int, recompute_all: bool) -> tuple[Memory, int]:
        lengths = [length for pack in largest[:size] for length in pack["example_lengths"]]
        prompts = sum(sum(pack["prompt_lengths"]) for pack in largest[:size])
        rows = sum(lengths) - (prompts if arguments.loss_on == "completion" else 0)
        return estimate(base, arguments, targets, lengths, rows, dtype, recompute_all)

    room = free * _USABLE
    for size in sizes:
        whole, layers = need(size, arguments.gradient_checkpointing == "true")
        recomputed = layers if arguments.gradient_checkpointing == "true" else 0
        if whole.total <= room:
            break
    if whole.total > room and arguments.gradient_checkpointing == "auto":
        least, layers = need(size, True)
        saved = (whole.activations - least.activations) / max(layers, 1)
        recomputed = min(math.ceil((whole.total - room) / max(saved, 1)), layers)
        whole = replace(whole, activations=round(whole.activations - recomputed * saved))
    if whole.total > free * _HOPELESS:
        raise TrainingError(
            f"this training needs {whole}, and {free / 2**30:.2f} GiB are free",
            "lower data.chunk_length or training.per_device_batch_size, set training.gradient_checkpointing to auto, "
            "or quantization to nf4",
        )
    if not arguments.per_device_batch_size:
        arguments = replace(arguments, per_device_batch_size=size, gradient_accumulation_steps=together // size)
    return Plan(arguments, recomputed, layers, whole, free)


def recompute(model: Any, layers: int) -> int:
    """Have the first `layers` layers recompute their activations in the backward pass; returns how many there are."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    every = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if layers:
        model.activation_checkpointing_enable({"use_reentrant": False})
    for number, layer in enumerate(every):
        layer.gradient_checkpointing = number < layers
    return len(every)


def free_bytes(device: torch.device) -> int:
    """What the device has left for tensors: of the GPU, or half of what this machine has available.

    A process on a CPU was measured to hold up to twice its tensors: its allocator keeps what is freed in between.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024 // 2


def skeleton(base: Path) -> Any:
    """The model without data, to ask for the names and sizes of its layers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"), _quiet():
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))


def estimate(
    base: Path,
    arguments: Arguments,
    targets: Sequence[str],
    lengths: Sequence[int],
    rows: int,
    dtype: torch.dtype,
    recompute_all: bool = False,
) -> tuple[Memory, int]:
    """The memory of training on one batch, and how many layers could recompute their activations.

    Args:
        base: folder with the model's config.json; no weights are read.
        targets: names of the modules that get an adapter.
        lengths: tokens of each example of the batch.
        rows: tokens of it that have a label.
        dtype: compute type of the frozen model.
        recompute_all: every layer recomputes its activations.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base)
    with FakeTensorMode(), _quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.requires_grad_(False)
        head = model.get_output_embeddings()
        weights, largest = _frozen(model, head, arguments.quantization, dtype)
        adapters = _adapt(model, arguments, targets)
        if (examples := attend_within_examples(model, max(lengths))) is not None:
            examples.set(lengths, torch.arange(sum(lengths))[None])
        layers = recompute(model, 0)
        kept, biggest = _kept(model.train(), sum(lengths))
        one_layer = 0
        if recompute_all:
            one_layer = 2 * kept // max(layers, 1)  # with its gradients, while its part of the backward pass runs
            recompute(model, layers)
            kept, biggest = _kept(model, sum(lengths))
    plain = arguments.engine_head == "labels" and is_plain_head(model)
    vocabulary, hidden = head.weight.shape
    # Logits of a chunk of labelled rows; or, of a model that computes its own loss, of all tokens.
    chunk = min(rows, CHUNK_ROWS["cuda" if torch.cuda.is_available() else "cpu"]) if plain else 2 * sum(lengths)
    logits = 4 if dtype is torch.float32 else 6  # bytes each: in float32, and where that is another in `dtype` too
    in_head = chunk * vocabulary * logits + 2 * rows * hidden * dtype.itemsize
    memory = Memory(
        weights=weights,
        adapter=_ADAM * adapters,
        activations=kept,
        head=in_head,
        workspace=largest + 2 * biggest + max(one_layer - in_head, 0),
    )
    return memory, layers


def _frozen(model: Any, head: Any, quantization: str, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes of the frozen model, and of its largest quantised weight in the compute type."""
    linear = {id(m.weight): m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head}
    held = largest = 0
    for parameter in {id(p): p for p in model.parameters()}.values():
        if id(parameter) not in linear or quantization == "none":
            held += parameter.numel() * dtype.itemsize
            continue
        largest = max(largest, parameter.numel() * dtype.itemsize)
        held += parameter.numel() + _ROW_SCALES * parameter.shape[0] if quantization == "int8" else 0
        held += round(parameter.numel() * _NF4_BYTES) if quantization == "nf4" else 0
    return held, largest


class _Lora(torch.nn.Module):
    """A layer with an adapter, keeping for its backward pass what the real one keeps; PEFT needs real tensors."""

    def __init__(self, layer: torch.nn.Linear, r: int, dropout: float, fused: bool) -> None:
        super().__init__()
        self.layer = layer
        self.a = torch.nn.Parameter(torch.empty(r, layer.in_features, dtype=torch.float32))
        self.b = torch.nn.Parameter(torch.empty(layer.out_features, r, dtype=torch.float32))
        self.dropout, self.fused = dropout, fused

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.fused:  # drawn without keeping anything: as without dropout
            return adapted_linear(x, self.a, self.b, lambda dtype: self.layer.weight.to(dtype), self.layer)
        low = functional.linear(functional.dropout(x.to(self.a.dtype), self.dropout), self.a)
        out: torch.Tensor = self.layer(x) + functional.linear(low, self.b) * 4.0
        return out.to(x.dtype)


def _adapt(model: Any, arguments: Arguments, targets: Sequence[str]) -> int:
    """Put adapters on the target layers; returns how many parameters they have."""
    chosen = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(name == t or name.endswith(f".{t}") for t in targets)
    ]
    for name, module in chosen:
        parent, _, own = name.rpartition(".")
        layer = _Lora(module, arguments.lora_r, arguments.lora_dropout, arguments.engine_adapter == "fused")
        setattr(model.get_submodule(parent), own, layer)
    return sum(arguments.lora_r * (module.in_features + module.out_features) for _, module in chosen)


def _kept(model: Any, tokens: int) -> tuple[int, int]:
    """Bytes that a forward pass of the body keeps for its backward pass, and the largest of its tensors."""
    frozen = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Any] = {}
    largest = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        storage = tensor.untyped_storage()
        if storage._cdata not in frozen:
            kept[storage._cdata] = storage  # held, so that its address is not another's
            largest = max(largest, storage.nbytes())
        return tensor

    body = getattr(model, model.base_model_prefix)
    ids, positions = torch.zeros(1, tokens, dtype=torch.long), torch.arange(tokens)[None]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = body(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    return sum(storage.nbytes() for storage in kept.values()) + out.nbytes, largest


@contextmanager
def _quiet() -> Iterator[None]:
    import transformers

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
