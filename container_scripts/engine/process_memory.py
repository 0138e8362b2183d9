"""What a whole process holds of memory, planned and measured. On a GPU only its tensors count, as in memory.py."""

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from engine.fitting import Plan

ROOM = 3  # a process on a CPU may hold up to three times its tensors
_KEPT = 1.15  # of the activations: freed blocks that the allocator of a CPU keeps (benchmarks/results/memory-cpu.md)
_KEPT_OF_DROPOUT = 0.35  # more of them: each layer makes its mask and the dropped input, and frees both
_PRODUCT = 600 << 10  # bytes that oneDNN takes for a compiled product, whatever its size (measured)
_LIBRARIES = 390 << 20  # bytes of a process with torch, transformers and PEFT, and no model
_TRAINING_HOST_BYTES = 4 << 30  # set aside in main memory for a training process with CUDA's libraries: not measured


def process_parts(plan: "Plan", device: str, dtype: torch.dtype) -> dict[str, int]:
    """Bytes by part, of all that is to be held: on a CPU also what the process holds beside its tensors."""
    parts = asdict(plan.memory)
    if device == "cpu":
        kept = _KEPT + (_KEPT_OF_DROPOUT if plan.arguments.lora_dropout else 0)
        products = products_kept(plan.lengths) * _PRODUCT if dtype is torch.bfloat16 else 0
        parts["process"] = _LIBRARIES + round(kept * plan.memory.activations) + products
    return parts


def process_room(free: int, device: str) -> int:
    """What there is for these bytes, where `free` is there for tensors."""
    return free * ROOM + _LIBRARIES if device == "cpu" else free


def host_bytes(device: str) -> int:
    """Main memory of a training process beside its tensors; 0 on a CPU, where it is one of `process_parts`."""
    return 0 if device == "cpu" else _TRAINING_HOST_BYTES


def products_kept(lengths: Sequence[int]) -> int:
    """How many compiled products oneDNN, which multiplies bf16 on a CPU, shall keep for passes over such a batch.

    It compiles one for each shape, takes 0.6 MiB for each whatever its size, and by itself keeps 1,024: packs have many
    lengths. A pass of a Llama has 26 shapes in its layers and 8 in the attention of each example. Twice the former is
    room for other architectures: with fewer than a pass needs, every layer would compile again.

    Args:
        lengths: tokens of each example of the largest batch.
    """
    return 64 + 8 * len(lengths)


def keep_few_products(lengths: Sequence[int]) -> None:
    """Have oneDNN and PyTorch, which keeps what oneDNN has compiled too, keep `products_kept` of them.

    What the environment says goes before. Without effect after the first product.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(products_kept(lengths)))


def give_back() -> None:
    """Have glibc give the memory that is free in its heap back to the system; without glibc nothing happens.

    After a model of float32 was quantized, and after routes were tried out, that is hundreds of MB.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_bytes(device: torch.device, others: int) -> int:
    """Most bytes held at once up to now: by PyTorch on a GPU, or else by this whole process in the main memory.

    On a GPU these are more than its tensors: what the allocator keeps between them counts, for it is what runs out.

    Args:
        others: of what processes share in main memory, the part of the other ones.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024 - others
