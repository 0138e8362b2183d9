"""Merges adapters of experts that a model stacks in one parameter, and finds their tensors in the base's files.

One parameter, with E experts and rank r, as PEFT adapts it (`target_parameters`):

    W   (E, O, I)   frozen; some models store (E, I, O) and have `is_transposed`
    A   (E r, I)    trained, float32: the A of each expert, one after another
    B   (O, r E)    trained, float32: column k E + e is column k of the B of expert e

    W[e] + s B[e] A[e]      for each expert e

Training computes it without that sum (experts_forward.py). Most files hold a tensor for each expert, or two that the
model puts together, such as gate and up projection: the update is divided as transformers divides W when it saves the
model (base_tensors.stored_parts).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from safetensors import safe_open

from engine.base_tensors import stored_parts
from engine.experts_layers import is_quantized_stack
from engine.experts_quantized import whole_stack
from engine.failure import TrainingError
from shared.base_files import StoredTensor
from shared.lora_targets import target_experts

_WRAPPED = ".base_layer"
_ROUNDING = 0.01  # relative: bf16 rounds to 0.004; another matrix of that size is 1.4 away
CODES_APART = 0.7  # relative: NF4 is 0.1 from what it was made of, int8 0.01; another matrix of that size 1.4


@dataclass(frozen=True, slots=True)
class ExpertsUpdate:
    """The update of stacked experts, as at the head of this module; float32."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    experts: int
    transposed: bool

    @property
    def is_finite(self) -> bool:
        return bool(self.a.isfinite().all()) and bool(self.b.isfinite().all())

    def delta(self) -> torch.Tensor:
        """What is added to W: its shape."""
        a = self.a.reshape(self.experts, -1, self.a.shape[-1])
        b = self.b.reshape(self.b.shape[0], -1, self.experts)
        shape = "e i o" if self.transposed else "e o i"
        return torch.einsum(f"o r e, e r i -> {shape}", b, a) * self.scale


def parameter_of(outline: Any, wrapper: str, targets: Sequence[str]) -> str | None:
    """The path of the parameter that a wrapper of PEFT adapts; None if it is not a wrapper of stacked experts.

    Parameters of one module have wrappers one inside the other: the first is the innermost.

    Args:
        outline: the model on the meta device, without adapters.
        wrapper: its path, such as `model.layers.0.mlp.experts.base_layer`.
        targets: the adapter's `target_parameters`.
    """
    module = wrapper.replace(_WRAPPED, "")
    outside = wrapper.count(_WRAPPED)  # wrappers around this one
    paths = [path for path in target_experts(outline, targets) if path.rpartition(".")[0] == module]
    return paths[-1 - outside] if outside < len(paths) else None


def is_transposed(outline: Any, path: str) -> bool:
    """Whether a model stores (E, I, O) for the experts at `path`."""
    return bool(getattr(outline.get_submodule(path.rpartition(".")[0]), "is_transposed", False))


def changes_of(
    outline: Any, stored: Mapping[str, StoredTensor], updates: Mapping[str, ExpertsUpdate]
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """What makes a merged tensor of each of the files' tensors, by its name.

    Args:
        outline: the model on the meta device, without adapters.
        stored: the tensors of the base's files.
        updates: by the path of the parameter.

    Raises:
        TrainingError: the files do not have a parameter's tensors.
    """

    @lru_cache(maxsize=2)  # the two parameters of a layer, whose tensors alternate in a file
    def parts(path: str) -> dict[str, torch.Tensor]:
        return stored_parts(outline, stored, path, updates[path].delta())

    def apply(path: str, name: str, weight: torch.Tensor) -> torch.Tensor:
        return weight.float() + parts(path)[name]

    shapes = {path: outline.get_parameter(path) for path in updates}
    return {
        name: partial(apply, path, name)
        for path, shape in shapes.items()
        for name in stored_parts(outline, stored, path, shape)
    }


def try_experts(outline: Any, stored: Mapping[str, StoredTensor], wrappers: Mapping[str, Any]) -> None:
    """See that the files have the tensors of all these parameters, and that the first one's are what was loaded.

    Args:
        outline: the model on the meta device, without adapters.
        stored: the tensors of the base's files.
        wrappers: PEFT's, by the path of the parameter.

    Raises:
        TrainingError: it is not so.
    """
    for path in wrappers:
        stored_parts(outline, stored, path, outline.get_parameter(path))
    for path, wrapper in list(wrappers.items())[:1]:
        held = wrapper.get_param()
        tolerance = CODES_APART if is_quantized_stack(held) else _ROUNDING
        for name, part in stored_parts(outline, stored, path, whole_stack(held, is_transposed(outline, path))).items():
            with safe_open(stored[name].file, framework="pt") as file:
                tensor = file.get_tensor(name).float()
            if not (part.float() - tensor).norm() <= tolerance * tensor.norm():
                raise TrainingError(
                    f"{name} in the base's files is not the part of {path} that was loaded",
                    "a merge would spoil it: leave it out of lora.targets",
                )
