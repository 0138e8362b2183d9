"""A thin model: an architecture's own code and configuration with few random weights, in float32 on the CPU.

    linear layer (O, I)    the product of two matrices, (O, 16) and (16, I); of the head, 128 rows
    embedding              its first 128 rows
    stacked experts        give back what they get: they mix no tokens
    layers                 the first ones, up to the last whose kind no earlier layer has

Which tokens see each other depends on none of that. So it can be tried out before the weights are there, and exactly,
where bf16 hides what is small. It is made in less than a second.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from shared.lora_targets import is_linear, stacked_experts

_RANK, _ROWS = 16, 128


@contextmanager
def by_itself() -> Iterator[None]:
    """In this block the same random numbers are drawn each time, and those of others are left as they are.

    It computes on one thread: there is so little to do that several would wait for each other for most of the time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)


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


def thin_model(model: Any) -> Any:
    """What becomes of `model`, which is on the meta device."""
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
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()  # of what is not initialized below
    model.initialize_weights()  # what the architecture computes itself, such as frequencies
    for name, parameter in model.named_parameters():
        if name in made:
            parameter.data = made[name]
        elif parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape) / 2  # larger than a new model's, so that little is lost
    return model.float().eval().requires_grad_(False)


def _keep_one_layer_of_each_kind(model: Any) -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    config = model.config.get_text_config()
    for path, layers in list(model.named_modules()):
        if isinstance(layers, torch.nn.ModuleList) and all(isinstance(i, GradientCheckpointingLayer) for i in layers):
            named = getattr(config, "layer_types", None) or [""] * len(layers)
            kinds = [(kind, *map(type, layer.modules())) for kind, layer in zip(named, layers, strict=False)]
            config.num_hidden_layers = max(map(kinds.index, kinds)) + 1
            model.set_submodule(path, layers[: config.num_hidden_layers])
