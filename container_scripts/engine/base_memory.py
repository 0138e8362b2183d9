"""How many bytes a frozen base model takes on a device, and how many of them can lie in shared main memory instead."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from engine.arguments import Arguments
from engine.experts_quantized import savings
from engine.fake_pass import skeleton
from engine.model import quantized_layers
from engine.shared_base import CAN_SHARE

_ROW_SCALES = 8  # bytes per row of an int8 weight: bitsandbytes' absmax and our scale, float32 each
_NF4_SCALES = 1 / 64 + 4 / (64 * 256)  # bytes per weight, double-quantized: QLoRA (Dettmers et al. 2023)
_CODE_BYTES = {"int8": 1.0, "nf4": 0.5}  # per weight


@dataclass(frozen=True, slots=True)
class BaseBytes:
    """What a base model takes."""

    held: int
    """All of it."""
    codes: int
    """Of it, the codes of its linear layers: what can be shared. Without quantization these are whole weights."""
    largest_codes: int
    """Of one weight."""
    largest_weight: int
    """Of the largest quantized weight, or expert, once it is dequantized; 0 without quantization."""


@lru_cache(16)
def base_bytes(base: Path, quantization: str, dtype: torch.dtype) -> BaseBytes:
    """Count them by the model's config.json; no weights are read."""
    outline = skeleton(base)
    names = quantized_layers(outline)
    linear = {id(m.weight): m.weight for name, m in outline.named_modules() if name in names}
    others = {id(p): p for p in outline.parameters() if id(p) not in linear}
    sizes = [weight.numel() for weight in linear.values()] or [0]
    each = _CODE_BYTES.get(quantization, dtype.itemsize)
    scales = 0.0
    if quantization == "int8":
        scales = _ROW_SCALES * sum(weight.shape[0] for weight in linear.values())
    elif quantization == "nf4":
        scales = _NF4_SCALES * sum(sizes)
    codes = round(each * sum(sizes))
    fewer, largest_expert = savings(outline, quantization, dtype)
    return BaseBytes(
        held=codes + round(scales) + sum(p.numel() for p in others.values()) * dtype.itemsize - fewer,
        codes=codes,
        largest_codes=round(each * max(sizes)),
        largest_weight=max(max(sizes) * dtype.itemsize, largest_expert) if quantization != "none" else 0,
    )


def why_not_shared(arguments: Arguments, device: str, neighbours: int) -> str:
    """Why the codes cannot be shared, or why nothing would come of it; empty if they can.

    Args:
        device: `cuda` or `cpu`.
        neighbours: training processes of a machine.
    """
    if device == "cpu" and neighbours == 1:
        return "this is the only process on a CPU, which holds the base model once anyway"
    if device == "cpu" and not CAN_SHARE:
        return "processes share memory on Linux only"
    if device == "cuda" and arguments.lora_dora:
        return "lora.dora begins with the lengths of all rows, which takes whole weights on the GPU"
    return ""
