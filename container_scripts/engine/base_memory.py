"""How many bytes a frozen base model takes on a device, and how many of them can lie in shared main memory instead."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from engine.arguments import Arguments
from engine.experts_quantized import quantized_stacks
from engine.fake_pass import skeleton
from engine.host_weights import CAN_SHARE
from engine.model import quantized_layers

_ROW_SCALES = 8  # bytes per row of an int8 weight: bitsandbytes' absmax and our scale, float32 each
_EXPERT_ROW_SCALES = 4  # the same of an expert: our scale
_NF4_SCALES = 1 / 64 + 4 / (64 * 256)  # bytes per weight, double-quantized: QLoRA (Dettmers et al. 2023)
_CODE_BYTES = {"int8": 1.0, "nf4": 0.5}  # per weight


@dataclass(frozen=True, slots=True)
class BaseBytes:
    """What a base model takes."""

    held: int
    """All of it."""
    codes: int
    """Of it, what can be shared: the codes of linear layers and of experts. Without quantization these are whole."""
    largest_codes: int
    """Of one layer, or of one expert of one parameter: what is fetched at once."""
    largest_weight: int
    """Of the largest quantized weight, or expert, once it is dequantized; 0 without quantization."""


def shareable(outline: Any) -> dict[str, torch.Tensor]:
    """The parameters that have codes, by their path. Shape: (parts, O, I), of which each product takes one part.

    Args:
        outline: the model on the meta device.
    """
    layers = {f"{name}.weight" for name in quantized_layers(outline)}
    of_layers = {name: weight[None] for name, weight in outline.named_parameters() if name in layers}
    return of_layers | quantized_stacks(outline)


@lru_cache(16)
def base_bytes(base: Path, quantization: str, dtype: torch.dtype) -> BaseBytes:
    """Count them by the model's config.json; no weights are read."""
    outline = skeleton(base)
    coded = shareable(outline).values()
    scales = 0.0
    weights, largest = sum(w.numel() for w in coded), max((w[0].numel() for w in coded), default=0)
    if quantization == "int8":
        scales = sum(len(w) * w.shape[1] * (_ROW_SCALES if len(w) == 1 else _EXPERT_ROW_SCALES) for w in coded)
    elif quantization == "nf4":
        scales = _NF4_SCALES * weights
    each = _CODE_BYTES.get(quantization, dtype.itemsize)
    others = sum(p.numel() for p in {id(p): p for p in outline.parameters()}.values()) - weights
    return BaseBytes(
        held=round(each * weights) + round(scales) + others * dtype.itemsize,
        codes=round(each * weights),
        largest_codes=round(each * largest),
        largest_weight=largest * dtype.itemsize if quantization != "none" else 0,
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
