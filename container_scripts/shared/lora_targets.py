"""What of a model gets an adapter: linear layers, and experts that the model stacks in one tensor.

Most mixtures of experts hold, for example, the down projections of all experts of a layer as one parameter,
(experts, out_features, in_features), not a layer. PEFT adapts such a parameter as a whole (`target_parameters`).

The client reads it too, where it has torch: a name that is wrong is refused before anything is paid for.
"""

from collections.abc import Collection
from typing import Any, TypeGuard

import torch

_MAMBA = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")
_REFUSED_OF_MAMBA = "out_proj"  # PEFT does, for such models: Mamba's kernels read its weight past the adapter


class TargetError(Exception):
    """Targets that the model does not have, or that PEFT cannot adapt: one line of what is wrong, one hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def targets_of(model: Any, requested: tuple[str, ...], dropout: float, dora: bool) -> list[str]:
    """resolve_targets of a job's settings, which have to go with them.

    Args:
        model: the base model, on any device.
        requested: lora.targets.
        dropout: lora.dropout.
        dora: lora.dora.

    Raises:
        TargetError: a name matches nothing, or PEFT cannot adapt stacked experts with these settings.
    """
    targets = resolve_targets(model, requested)
    if (dropout or dora) and (experts := target_experts(model, targets)):
        wrong = "lora.dora: false" if dora else "lora.dropout: 0"
        raise TargetError(
            f"{next(iter(experts))} holds all experts of a layer, which PEFT adapts without dropout and DoRA only",
            f"set {wrong}, or leave the experts out of lora.targets",
        )
    return targets


def is_linear(module: torch.nn.Module) -> TypeGuard[torch.nn.Linear]:
    """Whether a module is a linear layer: PyTorch's, a subclass of it, or GPT-2's Conv1D (a transposed weight)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def stacked_experts(model: Any) -> dict[str, torch.Tensor]:
    """The parameters that hold a matrix for each expert, by their path. (A convolution's are not matrices.)"""
    return {
        f"{path}.{name}": parameter
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3 and min(parameter.shape) > 1 and not isinstance(module, torch.nn.modules.conv._ConvNd)
    }


def target_layers(model: Any, targets: Collection[str]) -> dict[str, torch.nn.Linear]:
    """The linear layers that `targets` name, by their path."""
    return {
        name: module
        for name, module in model.named_modules()
        if is_linear(module) and any(_is_called(name, target) for target in targets)
    }


def target_experts(model: Any, targets: Collection[str]) -> dict[str, torch.Tensor]:
    """The stacked experts that `targets` name, by their path."""
    return {
        path: parameter
        for path, parameter in stacked_experts(model).items()
        if any(_is_called(path, target) for target in targets)
    }


def resolve_targets(model: Any, requested: tuple[str, ...]) -> list[str]:
    """The names of the layers, and of stacked experts, that get an adapter.

    `all-linear` means every linear layer that PEFT adapts but the head, and no stacked experts. `auto` means the
    attention projections: PEFT has a table of them by architecture. For an architecture that is not in the table, they
    are the linear layers whose path contains `attn` or `attention`.

    Raises:
        TargetError: a requested name matches nothing. The hint lists the names that exist.
    """
    linear = _adaptable(model)
    candidates = _names(model, linear)
    if requested == ("all-linear",):
        targets = candidates
    elif requested == ("auto",):
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

        targets = KNOWN.get(model.config.get_text_config().model_type) or sorted(
            {name.rpartition(".")[2] for name in linear if "attn" in name or "attention" in name}
        )
    else:
        targets = list(requested)
    experts = stacked_experts(model)
    known = [*linear, *experts]
    if (
        missing := [target for target in targets if not any(_is_called(name, target) for name in known)]
    ) or not targets:
        stacked = {".".join(name.split(".")[-2:]) for name in experts}
        raise TargetError(
            f"no linear layer of {model.config.model_type} is called {', '.join(missing) or 'attention'}",
            f"lora.targets can be: {', '.join([*candidates, *sorted(stacked)])}",
        )
    return list(targets)


def _adaptable(model: Any) -> list[str]:
    """The paths of the linear layers that can get an adapter: not the head, nor what PEFT refuses."""
    head = model.get_output_embeddings()
    refused = _REFUSED_OF_MAMBA if model.config.model_type in _MAMBA else ""
    return [
        name
        for name, module in model.named_modules()
        if is_linear(module) and module is not head and name.rpartition(".")[2] != refused and _is_plain(module)
    ]


def _is_plain(layer: torch.nn.Linear) -> bool:
    """Whether a layer's output is a linear layer's. transformers makes a router of one, which chooses experts."""
    if not type(layer).__module__.startswith("transformers.models."):
        return True
    weight = layer.weight
    try:
        out = layer(torch.zeros(1, weight.shape[1], dtype=weight.dtype, device=weight.device))
    except Exception:  # whatever the model's code stumbles over
        return False
    return isinstance(out, torch.Tensor) and out.shape == (1, weight.shape[0])


def _names(model: Any, linear: Collection[str]) -> list[str]:
    """The shortest names by which these layers, and no other modules, are called: `ffn.0` where `0` is a block too."""
    others = {end for name, _ in model.named_modules() if name not in linear for end in _ends(name)}
    return sorted({next((end for end in _ends(name) if end not in others), name) for name in linear})


def _ends(path: str) -> list[str]:
    """`a.b.0` → `b.0`, `a.b.0`: no number alone says anything."""
    parts = path.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts))) if not parts[start].isdigit()]


def _is_called(path: str, target: str) -> bool:
    """PEFT's rule: a target is a path, or the end of one."""
    return path == target or path.endswith(f".{target}")
