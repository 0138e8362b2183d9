"""Merge the adapter into the base weights, one tensor at a time: W + (alpha / r) * B A.

W (O, I), A (r, I) and B (O, r) are multiplied and added in float32 and cast to the output dtype once. With DoRA each
row of the sum is then scaled to its trained length, m (O,): by m / ||W + (alpha / r) * B A||. W is the unquantized base
weight. The base is never loaded as a model: its safetensors files are copied, tensor by tensor (shards.py). Which
tensor of the files belongs to which layer of the model is transformers' rule (base_tensors.py).
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from engine.base_tensors import Weight, locate, stored_tensors
from engine.experts import CODES_APART, ExpertsUpdate, changes_of, is_transposed, parameter_of, try_experts
from engine.failure import TrainingError
from engine.fake_pass import skeleton
from engine.layers import weight_of
from engine.shards import rewrite
from shared.base_files import INDEX, weight_files

_ADAPTER_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Update:
    """The low-rank update of one weight: scale * B A, and with DoRA new lengths of its rows; all float32."""

    a: torch.Tensor
    """(r, in_features)"""
    b: torch.Tensor
    """(out_features, r)"""
    scale: float
    magnitude: torch.Tensor | None = None
    """(out_features,) of DoRA"""
    transposed: bool = False
    """Whether the base stores (in_features, out_features), as GPT-2's Conv1D does."""

    def apply(self, weight: torch.Tensor) -> torch.Tensor:
        """`weight`, of any float dtype, with the update added: the same shape, float32."""
        weight = weight.float().T if self.transposed else weight.float()
        merged = (self.b @ self.a).mul_(self.scale).add_(weight)
        if self.magnitude is not None:
            merged.mul_((self.magnitude / torch.linalg.norm(merged, dim=1))[:, None])
        return merged.T if self.transposed else merged

    @property
    def is_finite(self) -> bool:
        tensors = (self.a, self.b) if self.magnitude is None else (self.a, self.b, self.magnitude)
        return all(bool(tensor.isfinite().all()) for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written: the number of safetensors files, and the bytes of their tensors."""

    shards: int
    total_bytes: int


def read_updates(adapter: Path, outline: Any) -> tuple[dict[str, Update], dict[str, ExpertsUpdate]]:
    """The updates of a PEFT adapter folder: by the path of their layer in the model, or of the stacked experts.

    Args:
        outline: the base model on the meta device.

    Raises:
        TrainingError: the adapter has something that this merge cannot do (biases, rank or alpha patterns).
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    unknown = [k for k in ("rank_pattern", "alpha_pattern") if config.get(k)]
    if unknown or config.get("bias", "none") != "none":
        raise TrainingError(f"cannot merge an adapter with {', '.join(unknown) or 'biases'}", "merge it with PEFT")
    r = config["r"]
    scale = config["lora_alpha"] / (math.sqrt(r) if config.get("use_rslora") else r)
    layers: dict[str, Update] = {}
    experts: dict[str, ExpertsUpdate] = {}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  not a dict
            module, found, _ = key.removeprefix(_ADAPTER_PREFIX).partition(".lora_A.")
            if not found:
                continue
            a, b = (file.get_tensor(name).float() for name in (key, key.replace(".lora_A.", ".lora_B.")))
            if path := parameter_of(outline, module, config.get("target_parameters") or ()):
                count = outline.get_parameter(path).shape[0]
                experts[path] = ExpertsUpdate(a, b, scale, count, is_transposed(outline, path))
                continue
            lengths = f"{_ADAPTER_PREFIX}{module}.lora_magnitude_vector"
            magnitude = file.get_tensor(lengths).float() if config.get("use_dora") else None
            layers[module] = Update(a, b, scale, magnitude)
    return layers, experts


def merge(base: Path, adapter: Path, output: Path, dtype: torch.dtype | None = None) -> Merged:
    """Write the merged model's safetensors files, and their index, into `output`. The files are named as in `base`.

    Args:
        base: folder with the base model's config.json, and its *.safetensors in any float dtype, not quantized.
        adapter: PEFT adapter folder.
        output: an existing folder. A file gets its final name only when it is complete.
        dtype: dtype of the merged floating-point tensors; None keeps that of each base tensor.

    Raises:
        TrainingError: an update has no weight in the base, an update is not finite (the merged model would be broken),
            or all updates are zero (the merged model would be the base).
        MergeRefusedError: a value is too large for `dtype`.
        OSError: the disk is full.
    """
    outline = skeleton(base)
    layers, experts = read_updates(adapter, outline)
    updates: list[Update | ExpertsUpdate] = [*layers.values(), *experts.values()]
    if not all(update.is_finite for update in updates):
        raise TrainingError("the adapter holds values that are not finite", "train with a lower learning rate")
    if not any(update.b.any() for update in updates):
        raise TrainingError("the adapter changes nothing: all its updates are zero", "train for more steps")
    stored = stored_tensors(base)
    weights = locate(outline, stored, list(layers))
    changes = {weights[m].name: replace(u, transposed=weights[m].transposed).apply for m, u in layers.items()}
    changes |= changes_of(outline, stored, experts)
    files = weight_files(base)
    total = sum(rewrite(file, output / file.name, changes, dtype) for file in files)
    if (base / INDEX).is_file():
        weight_map = {name: tensor.file.name for name, tensor in sorted(stored.items())}
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
        (output / INDEX).write_text(text, encoding="utf-8")
    return Merged(len(files), total)


def try_merge(base: Path, model: Any) -> None:
    """See that every layer with an adapter can be merged later, before anything is spent on training it.

    Each has to have one tensor of the right shape in the base's files. The first one's is read and compared with the
    weight that was loaded: a transposed or another model's weight would be as far from it as it is large.

    Args:
        base: the folder that `model` was loaded from.
        model: a PEFT model.

    Raises:
        TrainingError: a layer cannot be merged.
    """
    outline, stored = skeleton(base), stored_tensors(base)
    layers, experts = _adapted(model)
    try_experts(outline, stored, experts)
    weights = locate(outline, stored, list(layers))
    for name, layer in layers.items():
        expected = (layer.out_features, layer.in_features)
        shape = weights[name].stored.shape
        if shape != (expected[::-1] if weights[name].transposed else expected):
            raise TrainingError(
                f"{weights[name].name} is {shape} in the base's files, and {expected} in the model",
                "leave this layer out of lora.targets",
            )
    for name, layer in list(layers.items())[:1]:
        _compare(weights[name], name, layer)


def _adapted(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layers with an adapter of a PEFT model, and its wrappers of stacked experts, by the path of each."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper

    found: dict[str, Any] = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    wrappers = {name: layer for name, layer in found.items() if isinstance(layer, ParamWrapper)}
    experts = {
        f"{name.replace('.base_layer', '')}.{wrapper.parameter_name}": wrapper for name, wrapper in wrappers.items()
    }
    return {name: layer for name, layer in found.items() if name not in wrappers}, experts


def _compare(weight: Weight, name: str, layer: Any) -> None:
    """See that the weight in the base's files is the one that was loaded for the layer `name`."""
    with safe_open(weight.stored.file, framework="pt") as file:
        tensor = file.get_tensor(weight.name).float()
    tensor = tensor.T if weight.transposed else tensor
    loaded = weight_of(layer.get_base_layer(), torch.float32).cpu()
    if not (loaded - tensor).norm() <= CODES_APART * tensor.norm():
        raise TrainingError(
            f"{weight.name} in the base's files is not the weight that was loaded for {name}",
            "a merge would spoil it: leave this layer out of lora.targets",
        )
