"""Whether a model will take whole packs, found out before its weights are there.

The memory plan (fitting.py) has to know: a model whose examples see each other in a pack takes one at a time, and holds
the tensors of one. So the probe (probe.py) tries a thin model out, in float32 on the CPU: the architecture's own code
and configuration with few random weights.

    linear layer (O, I)    the product of two matrices, (O, 16) and (16, I); of the head, 128 rows
    embedding              its first 128 rows
    stacked experts        give back what they get: they mix no tokens
    layers                 the first ones, up to the last whose kind no earlier layer has

Which tokens see each other depends on none of that. An architecture that does not run so is taken to take packs, which
needs more memory rather than less. Cost: less than a second.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from engine.arguments import Arguments
from engine.fake_pass import quiet, skeleton
from engine.probe import find_route
from lora_targets import is_linear, stacked_experts

_log = logging.getLogger(__name__)
_RANK, _ROWS = 16, 128


@lru_cache(16)
def takes_packs(base: Path, attention: str, longest: int) -> bool:
    """Whether the probe will find a route on which the examples of a pack share a forward pass.

    Args:
        base: folder with the model's config.json; no weights are read.
        attention: `engine_attention` of the job. FlexAttention keeps apart what `examples` keeps apart.
        longest: tokens of the longest example.
    """
    kernel = "transformers" if attention == "transformers" else "examples"
    try:
        with torch.random.fork_rng([]), quiet(), _one_thread():
            torch.manual_seed(0)
            _, route = find_route(_thin_model(base), longest, replace(Arguments(), engine_attention=kernel))
    except Exception as error:  # whatever its code stumbles over
        _log.info("%s does not run with few weights, so its memory is planned for whole packs: %s", base, error)
        return True
    return route.together


@contextmanager
def _one_thread() -> Iterator[None]:
    """So little is computed that threads wait for each other for most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _LowRank(torch.nn.Module):
    """Stands for a linear layer."""

    def __init__(self, layer: Any, most: float) -> None:
        super().__init__()
        shape: tuple[int, ...] = layer.weight.shape
        out, self.in_features = shape if isinstance(layer, torch.nn.Linear) else shape[::-1]
        self.out_features = int(min(out, most))
        self.down = torch.nn.Parameter(torch.randn(self.in_features, _RANK) / math.sqrt(self.in_features))
        self.up = torch.nn.Parameter(torch.randn(_RANK, self.out_features) / math.sqrt(_RANK))
        self.bias = None if layer.bias is None else torch.nn.Parameter(torch.zeros(self.out_features))

    @property
    def weight(self) -> torch.Tensor:
        """Mamba's forward reads it."""
        return (self.down @ self.up).T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x @ self.down @ self.up
        return out if self.bias is None else out + self.bias


class _PassOn(torch.nn.Module):
    """Stands for stacked experts."""

    def forward(self, tokens: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return tokens


def _thin_model(base: Path) -> Any:
    model = skeleton(base)
    model.config.get_text_config().tie_word_embeddings = False
    _keep_one_layer_of_each_kind(model)
    for experts in {path.rpartition(".")[0] for path in stacked_experts(model)}:
        model.set_submodule(experts, _PassOn())
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if is_linear(module):
            model.set_submodule(name, _LowRank(module, _ROWS if module is head else math.inf))
        elif isinstance(module, torch.nn.Embedding):
            module.weight, module.padding_idx = torch.nn.Parameter(module.weight[:_ROWS]), None
    made = {name: parameter.data for name, parameter in model.named_parameters() if not parameter.is_meta}
    model.to_empty(device="cpu").initialize_weights()  # what the architecture computes itself, such as frequencies
    for name, parameter in model.named_parameters():
        if name in made:
            parameter.data = made[name]
        elif parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape) / 2  # larger than a new model's, so that little is lost
    model.float().requires_grad_(False).get_input_embeddings().weight.requires_grad_(True)
    return model


def _keep_one_layer_of_each_kind(model: Any) -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    config = model.config.get_text_config()
    for path, layers in list(model.named_modules()):
        if isinstance(layers, torch.nn.ModuleList) and all(isinstance(i, GradientCheckpointingLayer) for i in layers):
            named = getattr(config, "layer_types", None) or [""] * len(layers)
            kinds = [(kind, *map(type, layer.modules())) for kind, layer in zip(named, layers, strict=False)]
            config.num_hidden_layers = max(map(kinds.index, kinds)) + 1
            model.set_submodule(path, layers[: config.num_hidden_layers])
