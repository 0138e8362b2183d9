"""Experts that a model stacks in one parameter, held as int8 or NF4 codes. They are quantized as they are loaded.

transformers and bitsandbytes quantize linear layers only, and most of a mixture's weights are stacked experts. Their
quantizer is asked for each parameter that is loaded, one after another; here it takes these parameters too. So no more
than one layer's experts are there unquantized.

    int8    one scale for each row of each expert, as in linear layers; the parameter holds the codes
    nf4     each expert is packed by itself, with double-quantized scales (QLoRA, Dettmers et al. 2023); the parameter
            has its shape and no memory

The parameter gets an attribute `dequantize_expert`: expert e and a dtype → W_e, (out_features, in_features). Only the
engine's own forward (experts_forward.py) multiplies with it, so experts are quantized where that can take the place of
transformers' forward.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from engine.experts_layers import stacks_of, uses_the_interface
from engine.layers import dequantize_int8

_ROW_SCALE = 4  # bytes per row of an int8 weight
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # per weight, with double-quantized scales


def is_quantized_stack(weight: torch.Tensor) -> bool:
    """Whether a parameter of stacked experts holds codes."""
    return hasattr(weight, "dequantize_expert")


def whole_stack(weight: Any, transposed: bool) -> torch.Tensor:
    """A parameter of stacked experts on the CPU: as it is, or dequantized to bf16.

    Args:
        transposed: whether it is (E, I, O).
    """
    if not is_quantized_stack(weight):
        whole: torch.Tensor = weight.detach().cpu()
        return whole
    rows = torch.stack([weight.dequantize_expert(e, torch.bfloat16).cpu() for e in range(len(weight))])
    return rows.transpose(1, 2) if transposed else rows


def savings(skeleton: Any, method: str, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes that a model takes less because its stacked experts are quantized, and those of its largest expert.

    Args:
        skeleton: the model as it is before it is quantized, on any device.
        method: int8 | nf4 | none.
        dtype: what they would be held in, and are dequantized to.
    """
    saved = largest = 0
    for path, experts in skeleton.named_modules():
        if method == "none" or not uses_the_interface(experts) or not _is_converted(path, _kept(skeleton)):
            continue
        for name, stack in stacks_of(experts, {}).items():
            weights: int = getattr(experts, name).numel()
            scales = _ROW_SCALE * experts.num_experts * stack.out_features
            codes = weights + scales if method == "int8" else round(weights * _NF4_BYTES)
            saved += weights * dtype.itemsize - codes
            largest = max(largest, weights // experts.num_experts * dtype.itemsize)
    return saved, largest


def _kept(skeleton: Any) -> list[str]:
    """Patterns of names that transformers does not quantize."""
    from transformers.quantizers.base import get_keys_to_not_convert

    return [*get_keys_to_not_convert(skeleton), *(skeleton._keep_in_fp32_modules or [])]


def _is_converted(path: str, kept: Collection[str]) -> bool:
    from transformers.quantizers.quantizers_utils import should_convert_module

    return bool(should_convert_module(path, list(kept)))


def quantized(weight: torch.Tensor, transposed: bool, method: str) -> torch.nn.Parameter:
    """Stacked experts as codes: a parameter of the shape of `weight`, with `dequantize_expert`.

    Args:
        weight: (E, O, I) of any float dtype; (E, I, O) if `transposed`.
        method: int8 | nf4.
    """
    rows = weight.transpose(1, 2) if transposed else weight
    if method == "int8":
        codes, dequantize = _int8(rows)
        held = codes.transpose(1, 2) if transposed else codes
    else:
        dequantize = _nf4(rows)
        held = torch.zeros((), dtype=torch.uint8, device=weight.device).expand(weight.shape)
    parameter: Any = torch.nn.Parameter(held, requires_grad=False)
    parameter.dequantize_expert = dequantize
    return parameter  # type: ignore[no-any-return]


def _int8(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    from bitsandbytes.functional import int8_vectorwise_quant

    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(weight.shape[:2], dtype=torch.float32, device=weight.device)
    exact = torch.half if weight.is_cuda else torch.float  # the GPU's kernel takes no other; a CPU is slow with it
    for e, expert in enumerate(weight):
        codes[e], absmax, _ = int8_vectorwise_quant(expert.to(exact).contiguous())
        scales[e] = absmax / 127
    return codes, partial(_int8_expert, codes, scales)


def _int8_expert(codes: torch.Tensor, scales: torch.Tensor, e: int, dtype: torch.dtype) -> torch.Tensor:
    return dequantize_int8(codes[e], scales[e], dtype)


def _nf4(weight: torch.Tensor) -> Any:
    from bitsandbytes.functional import quantize_4bit

    packed = [quantize_4bit(expert.contiguous(), quant_type="nf4", compress_statistics=True) for expert in weight]
    return partial(_nf4_expert, packed)


def _nf4_expert(packed: list[Any], e: int, dtype: torch.dtype) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(*packed[e]).to(dtype)
    return weight


@contextmanager
def experts_quantized_too(method: str) -> Iterator[None]:
    """In this block transformers' quantizer by bitsandbytes takes stacked experts as well.

    Args:
        method: int8 | nf4 | none.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    name = {"int8": "bitsandbytes_8bit", "nf4": "bitsandbytes_4bit"}.get(method)
    if name is None:
        yield
        return
    before = AUTO_QUANTIZER_MAPPING[name]
    AUTO_QUANTIZER_MAPPING[name] = _with_experts(before, method)
    try:
        yield
    finally:
        AUTO_QUANTIZER_MAPPING[name] = before


def _with_experts(quantizer: Any, method: str) -> Any:
    """A quantizer of transformers that also takes stacked experts."""

    class WithExperts(quantizer):  # type: ignore[misc]
        def param_needs_quantization(self, model: Any, param_name: str, **more: Any) -> bool:
            return self._is_experts(model, param_name) or super().param_needs_quantization(model, param_name, **more)

        def get_quantize_ops(self) -> Any:
            operation = super().get_quantize_ops()
            of_layers = operation.convert

            def convert(input_dict: dict[str, Any], model: Any = None, **more: Any) -> dict[str, Any]:
                done = {}
                for name, value in input_dict.items():
                    if self._is_experts(model, name):
                        weight = value[0] if isinstance(value, list) else value
                        experts = model.get_submodule(name.rpartition(".")[0])
                        done[name] = quantized(weight, experts.is_transposed, method)
                    else:
                        done |= of_layers({name: value}, model=model, **more)
                return done

            operation.convert = convert
            return operation

        def _is_experts(self, model: Any, name: str) -> bool:
            path, _, own = name.rpartition(".")
            experts = model.get_submodule(path)
            weight = getattr(experts, own, None)
            is_stack = uses_the_interface(experts) and getattr(weight, "ndim", 0) == 3
            return is_stack and _is_converted(path, self.modules_to_not_convert)

    return WithExperts
