"""Experts that a model stacks in one parameter, held as int8 or NF4 codes. They are quantized as they are loaded.

transformers and bitsandbytes quantize linear layers only, and most of a mixture's weights are stacked experts. Their
quantizer is asked for each parameter that is loaded, one after another; here it takes these parameters too. So no more
than one layer's experts are there unquantized.

    int8    codes (E, O, I) and one scale for each row of each expert, as in linear layers
    nf4     codes (E, O I / 2, 1): each expert is packed by itself, with double-quantized scales (QLoRA, Dettmers et al.
            2023)

The parameter keeps its shape, from which PEFT makes the adapter, and no memory. It gets two attributes: `expert_codes`,
and `dequantize_expert`: codes of an expert, its number e and a dtype → W_e, (out_features, in_features). Only the
engine's own forward (experts_forward.py) multiplies with it, so experts are quantized where that can take the place of
transformers' forward.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from engine.experts_layers import expert_weights, is_quantized_stack, uses_the_interface
from engine.layers import dequantize_int8


def whole_stack(weight: Any, transposed: bool) -> torch.Tensor:
    """A parameter of stacked experts on the CPU: as it is, or dequantized to bf16.

    Args:
        transposed: whether it is (E, I, O).
    """
    if not is_quantized_stack(weight):
        whole: torch.Tensor = weight.detach().cpu()
        return whole
    rows = torch.stack([one.cpu() for one in expert_weights(weight, transposed, range(len(weight)), torch.bfloat16)])
    return rows.transpose(1, 2) if transposed else rows


def quantized_stacks(skeleton: Any) -> dict[str, torch.Tensor]:
    """The stacked experts, by their path, that are quantized when the model is loaded: (E, O, I) each.

    Args:
        skeleton: the model as it is before it is quantized, on any device.
    """
    kept = _kept(skeleton)
    return {
        f"{path}.{name}": weight.transpose(1, 2) if experts.is_transposed else weight
        for path, experts in skeleton.named_modules()
        if uses_the_interface(experts) and _is_converted(path, kept)
        for name, weight in experts.named_parameters(recurse=False)
        if weight.ndim == 3
    }


def _kept(skeleton: Any) -> list[str]:
    """Patterns of names that transformers does not quantize."""
    from transformers.quantizers.base import get_keys_to_not_convert

    return [*get_keys_to_not_convert(skeleton), *(skeleton._keep_in_fp32_modules or [])]


def _is_converted(path: str, kept: Collection[str]) -> bool:
    from transformers.quantizers.quantizers_utils import should_convert_module

    return bool(should_convert_module(path, list(kept)))


def quantized(weight: torch.Tensor, transposed: bool, method: str) -> torch.nn.Parameter:
    """Stacked experts as codes: a parameter of the shape of `weight`, with the attributes of this module's head.

    Args:
        weight: (E, O, I) of any float dtype; (E, I, O) if `transposed`.
        method: int8 | nf4.
    """
    codes, dequantize = (_int8 if method == "int8" else _nf4)(weight.transpose(1, 2) if transposed else weight)
    shape_only = torch.zeros((), dtype=torch.uint8, device=weight.device).expand(weight.shape)
    parameter: Any = torch.nn.Parameter(shape_only, requires_grad=False)
    parameter.expert_codes, parameter.dequantize_expert = codes, dequantize
    return parameter  # type: ignore[no-any-return]


def _int8(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    from bitsandbytes.functional import int8_vectorwise_quant

    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(weight.shape[:2], dtype=torch.float32, device=weight.device)
    exact = torch.half if weight.is_cuda else torch.float  # the GPU's kernel takes no other; a CPU is slow with it
    for e, expert in enumerate(weight):
        codes[e], absmax, _ = int8_vectorwise_quant(expert.to(exact).contiguous())
        scales[e] = absmax / 127
    return codes, partial(_int8_expert, scales)


def _int8_expert(scales: torch.Tensor, codes: torch.Tensor, e: int, dtype: torch.dtype) -> torch.Tensor:
    return dequantize_int8(codes, scales[e], dtype)


def _nf4(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    from bitsandbytes.functional import quantize_4bit

    size = -(-weight[0].numel() // 2)
    codes = torch.empty((len(weight), size, 1), dtype=torch.uint8, device=weight.device)
    states = []
    for e, expert in enumerate(weight):
        codes[e], state = quantize_4bit(expert.contiguous(), quant_type="nf4", compress_statistics=True)
        states.append(state)
    return codes, partial(_nf4_expert, states)


def _nf4_expert(states: Sequence[Any], codes: torch.Tensor, e: int, dtype: torch.dtype) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(codes, states[e]).to(dtype)
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
