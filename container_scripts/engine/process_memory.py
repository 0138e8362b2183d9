"""What a whole process holds of memory, planned and measured. On a GPU only its tensors count, as in memory.py."""

import ctypes
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch

from engine.memory import ROOM, Memory

_KEPT = 0.44  # of the activations: freed blocks that the allocator of a CPU keeps (measured: docs/costs.md)
_LIBRARIES = 570 << 20  # bytes of a process with torch, transformers, PEFT and bitsandbytes, and no model
_WITH_CUDA = 4 << 30  # bytes of main memory that are set aside for such a process with CUDA's libraries: not measured


def process_parts(memory: Memory, device: str) -> dict[str, int]:
    """Bytes by part, of all that is to be held: on a CPU also what the process holds beside its tensors."""
    beside = {"process": _LIBRARIES + round(_KEPT * memory.activations)} if device == "cpu" else {}
    return asdict(memory) | beside


def process_room(free: int, device: str) -> int:
    """What there is for these bytes, where `free` is there for tensors."""
    return free * ROOM + _LIBRARIES if device == "cpu" else free


def host_bytes(device: str) -> int:
    """Main memory of a training process beside its tensors; 0 on a CPU, where it is one of `process_parts`."""
    return 0 if device == "cpu" else _WITH_CUDA


def give_back() -> None:
    """Have glibc give the memory that is free in its heap back to the system; without glibc nothing happens.

    After a model of float32 was quantized, and after routes were tried out, that is hundreds of MB.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_bytes(device: torch.device) -> int:
    """Most bytes held at once up to now: by tensors on a GPU, or else by this whole process in the main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024
