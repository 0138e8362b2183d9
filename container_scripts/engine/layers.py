"""The layers of a model that linear.py computes, and how each kind of them holds and multiplies its weight.

    layer           its weight is held as                        forward, `linear: dequantized`
    Linear8bitLt    int8 codes and one scale per row             x (codes * scales)^T, dequantized for one product
    Linear4bit      NF4 codes, whose scales are codes too        the same
    Linear          a whole weight                               x W^T
    Conv1D          a whole weight, (in, out): GPT-2's           x W

A weight may lie in main memory, shared by the processes of a machine: then it is fetched for each product
(weight_storage.py).

Why not bitsandbytes' own int8 product: it quantizes the activations too. On CUDA it searches for outliers, which waits
for the device in every layer. On a CPU its evaluation path is many times slower than its training path, and its
training path saves x for the gradient of W. Its 4-bit layers repack their weights at their first evaluation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from engine.linear import Dequantize, Multiply, adapted_linear, dora_linear, frozen_linear
from engine.recompute import Make, remade
from engine.weight_storage import is_elsewhere, parts_of
from shared.lora_targets import is_linear

Held = Callable[[], torch.Tensor]
"""→ what a layer holds its weight as, where it is multiplied: int8 or NF4 codes, or the weight."""
_OUTLIER = 6.0  # LLM.int8()'s threshold: activation columns with a larger value are multiplied in the compute dtype


def dequantize_int8(codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """An int8 weight in `dtype`, (out_features, in_features): codes · scales, one scale per row.

    Args:
        codes: (out_features, in_features) int8.
        scales: (out_features,) float32: the largest absolute weight of each row, divided by 127.
        dtype: any float dtype; each weight is rounded to it once.
    """
    if codes.is_cuda:  # one pass over the weight
        return torch.mul(codes, scales[:, None], out=torch.empty(codes.shape, dtype=dtype, device=codes.device))
    # A CPU multiplies two types many times slower than one: by way of float32, bf16 takes a third of the time (0.35 ms
    # instead of 0.97 for 1,536 x 576 on a core, with equal bits).
    return codes.float().mul_(scales[:, None]).to(dtype)


def replace_linear_forwards(model: torch.nn.Module, linear: str = "dequantized", adapter: str = "fused") -> int:
    """Replace the forward of every layer that is quantized, fetched or adapted; return how many there are.

    Args:
        model: a frozen model under PEFT, changed in place.
        linear: how int8 layers multiply in the forward pass. `dequantized`: by the weight in the compute dtype. `int8`:
            the activations are quantized row by row, and codes are multiplied by codes. `llm.int8`: the same, but
            activation columns with outliers are multiplied in the compute dtype (Dettmers et al. 2022). The backward
            pass always uses the dequantized weight.
        adapter: `fused`: layer and adapter are one step, as above. `peft`: PEFT's own forward calls the layer.
    """
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper

    modules: list[Any] = list(model.modules())  # a LoraLayer comes before the base layer that it holds
    fused, count = set(), 0  # base layers that their adapter's forward already covers
    for module in modules:
        if isinstance(module, ParamWrapper):  # stacked experts: experts_layers.py has them
            continue
        if isinstance(module, LoraLayer) and adapter == "fused":
            layer: Any = module.get_base_layer()
            bias = None if module.lora_magnitude_vector else layer.bias  # DoRA adds it after the magnitude
            multiply, dequantize = _multiply_and_dequantize(layer, linear, bias)
            module.forward = partial(_adapted_forward, module, multiply, dequantize)
            fused.add(layer)
        elif _holds_codes(module) and module not in fused:
            module.forward = partial(_frozen_forward, *_multiply_and_dequantize(module, linear, module.bias))
        else:
            continue
        count += 1
    return count


def _holds_codes(module: torch.nn.Module) -> bool:
    """Whether a layer's own forward cannot multiply by its weight, or not as fast."""
    return is_linear(module) and (is_quantized(module) or is_elsewhere(module.weight))


def _adapted_forward(
    self: Any, multiply: Multiply, dequantize: Dequantize, *parts: torch.Tensor, make: Make | None = None
) -> torch.Tensor:
    (name,) = self.active_adapters
    dropout = self.lora_dropout[name]
    p = dropout.p if self.training and isinstance(dropout, torch.nn.Dropout) else 0.0
    a, b, scale = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
    if self.lora_magnitude_vector:
        magnitude, bias = self.lora_magnitude_vector[name].weight, self.get_base_layer().bias
        x = remade(make, *parts) if make else parts[0]
        return dora_linear(x, a, b, magnitude, dequantize, multiply, bias, scale, p)
    return adapted_linear(parts if make else parts[0], a, b, dequantize, multiply, scale, p, make)


def _frozen_forward(multiply: Multiply, dequantize: Dequantize, x: torch.Tensor) -> torch.Tensor:
    return frozen_linear(x, dequantize, multiply)


def _multiply_and_dequantize(layer: Any, linear: str, bias: torch.Tensor | None) -> tuple[Multiply, Dequantize]:
    """The two functions of one layer: bitsandbytes' int8 or 4-bit, PyTorch's Linear, or GPT-2's transposed Conv1D.

    Args:
        linear: see replace_linear_forwards.
        bias: what the product adds: the layer's bias, or nothing.
    """
    from transformers.pytorch_utils import Conv1D

    held: Held = partial(_held, layer.weight)
    if _quantized_class(layer) == "Linear8bitLt":
        absmax = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
        dequantize: Dequantize = partial(_int8_weight, held, absmax.float() / 127)
        if linear != "dequantized":
            threshold = _OUTLIER if linear == "llm.int8" else 0.0
            return partial(_int8_product, held, absmax, bias, threshold), dequantize
    elif is_quantized(layer):
        dequantize = partial(_nf4_weight, held, layer)
    else:
        dequantize = partial(_plain_weight, held, isinstance(layer, Conv1D))
    return partial(_product, dequantize, bias), dequantize


def weight_of(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    """The weight of a linear layer, quantized or not, in `dtype`: (out_features, in_features)."""
    _, dequantize = _multiply_and_dequantize(layer, "dequantized", None)
    return dequantize(dtype)


def is_quantized(module: torch.nn.Module) -> bool:
    """Whether a layer holds its weight as int8 or 4-bit codes."""
    return _quantized_class(module) in ("Linear8bitLt", "Linear4bit")


def _quantized_class(module: torch.nn.Module) -> str:
    """The name of a layer's class if it is bitsandbytes', which is not imported for a model that is not quantized."""
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith("bitsandbytes.") else ""


def _held(weight: torch.Tensor) -> torch.Tensor:
    return next(parts_of(weight, (0,)))


def _int8_weight(held: Held, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return dequantize_int8(held(), scales, dtype)


def _nf4_weight(held: Held, layer: Any, dtype: torch.dtype) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(held(), layer.weight.quant_state).to(dtype)
    return weight


def _plain_weight(held: Held, transposed: bool, dtype: torch.dtype) -> torch.Tensor:
    weight = held().to(dtype)
    return weight.T if transposed else weight


def _product(
    dequantize: Dequantize, bias: torch.Tensor | None, x: torch.Tensor, start: torch.Tensor | None
) -> torch.Tensor:
    if start is None:
        return functional.linear(x, dequantize(x.dtype), bias)
    start.addmm_(x, dequantize(x.dtype).T)
    return start if bias is None else start.add_(bias)


def _int8_product(
    held: Held,
    absmax: torch.Tensor,
    bias: torch.Tensor | None,
    threshold: float,
    x: torch.Tensor,
    start: torch.Tensor | None,
) -> torch.Tensor:
    """x W^T + bias by bitsandbytes' int8 kernels. Each row of x is quantized.

    With a positive `threshold`, columns of x that hold a larger value are multiplied in the dtype of x instead.
    """
    operations, codes = torch.ops.bitsandbytes, held()
    if threshold:
        # The GPU's kernel reads memory in order, whatever the strides say.
        quantized, scales, outliers = operations.int8_vectorwise_quant(x.half().contiguous(), threshold)
        out: torch.Tensor = operations.int8_mixed_scaled_mm(x, quantized, codes, scales, absmax, outliers, bias)[0]
    else:
        out = _scaled_int8_product(x, codes, absmax)
        out = out if bias is None else out.add_(bias)
        out = out.to(x.dtype) if start is None else out  # rounded once, after the sum
    return out if start is None else start.add_(out)


def _scaled_int8_product(x: torch.Tensor, codes: torch.Tensor, absmax: torch.Tensor) -> torch.Tensor:
    """x W^T in float32. On a GPU bitsandbytes scales in fp16, where what is beyond 65,504 is infinite."""
    scales = x.abs().amax(dim=-1, keepdim=True).float().clamp_min(1e-30) / 127
    quantized = (x / scales).round_().to(torch.int8).contiguous()
    product: torch.Tensor = torch.ops.bitsandbytes.int8_linear_matmul(quantized, codes).float()
    return product.mul_(scales).mul_(absmax / 127)
