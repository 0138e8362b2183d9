"""What a forward pass of the model saves for its backward pass, counted on tensors without values.

The model is built of fake tensors (PyTorch's FakeTensorMode), which have shape and dtype but no memory. Its own forward
pass runs on them, with the engine's attention and adapters in it, and hooks see every tensor that autograd saves.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrize

from engine.arguments import Arguments
from engine.attention import NotCovered, attend_within_examples, restore_attention
from engine.experts_layers import experts_of_peft
from engine.fake_adapters import add_fake_adapters
from engine.heads import head_is_plain
from engine.remade import keep_parts_only
from engine.routes import accepted_inputs, model_body

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a forward pass saves for the backward pass."""

    bytes: int
    """Of all tensors that autograd saves of the layers, and of the body's output."""
    largest: int
    """Of the largest of these tensors."""
    one_layer: int
    """What a layer that is recomputed saves for a moment, and its gradients; 0 if none is."""
    layers: int
    """How many layers can recompute their activations."""
    adapter_parameters: int
    plain_head: bool
    """See heads.head_is_plain."""


def skeleton(base: Path) -> Any:
    """The model on the meta device: its layers have names and shapes, but no values."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"), _quiet():
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))


@contextmanager
def fake_model(base: Path, dtype: torch.dtype) -> Iterator[Any]:
    """The frozen model of fake tensors, within PyTorch's mode for these."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with FakeTensorMode(), _quiet(), _experts_of_any_dtype():
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=dtype)
        yield model.requires_grad_(False)


def count_saved(
    base: Path,
    outline: Any,
    arguments: Arguments,
    targets: Sequence[str],
    lengths: Sequence[int],
    dtype: torch.dtype,
    recompute_all: bool,
) -> Saved:
    """Count what a training pass on one batch saves. Changes `outline` where the model does not run without values.

    Args:
        base: folder with the model's config.json; no weights are read.
        outline: the skeleton of the model.
        targets: names of the modules that get an adapter.
        lengths: tokens of each example of the batch.
        dtype: compute dtype of the frozen model.
        recompute_all: whether every layer recomputes its activations.
    """
    try:
        with fake_model(base, dtype) as model:
            return _count(model, arguments, targets, lengths, recompute_all)
    except Exception as error:  # its code asks for values, such as an expert's tokens, or stumbles over having none
        kind = outline.config.model_type
        _log.info("%s does not run without values, so its memory is estimated by shapes: %s", kind, error)
        summed = sum(experts.numel() for experts in experts_of_peft(outline, arguments, targets)) * dtype.itemsize
        parameters = add_fake_adapters(outline, arguments, targets)
        saved, largest = _saved_bytes_by_shape(outline, sum(lengths), dtype)
        saved += summed
        return Saved(saved, largest, 0, recompute_layers(outline, 0), parameters, plain_head=False)


def _count(
    model: Any, arguments: Arguments, targets: Sequence[str], lengths: Sequence[int], recompute_all: bool
) -> Saved:
    plain = arguments.engine_head == "labels" and head_is_plain(model, torch.zeros(1, 4).long(), by_value=False)
    parameters = add_fake_adapters(model, arguments, targets)
    keep_parts_only(model)
    if arguments.engine_attention != "transformers":  # `flex` saves what `examples` saves
        replace_attention(model, lengths)
    layers = recompute_layers(model, 0)
    saved, largest = _saved_bytes(model.train(), sum(lengths))
    found = Saved(saved, largest, 0, layers, parameters, plain)
    if recompute_all:
        recompute_layers(model, layers)
        least, largest = _saved_bytes(model, sum(lengths))
        found = replace(found, bytes=least, largest=largest, one_layer=2 * saved // max(layers, 1))
    return found


def recompute_layers(model: Any, count: int) -> int:
    """Let the first `count` layers recompute their activations in the backward pass; return how many layers exist."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    every = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if count:
        model.activation_checkpointing_enable({"use_reentrant": False})
    for number, layer in enumerate(every):
        layer.gradient_checkpointing = number < count
    return len(every)


def replace_attention(model: Any, lengths: Sequence[int]) -> None:
    """Give `model` the engine's attention, unless it asks for more than that does; the probe decides the same."""
    before = model.config._attn_implementation
    examples = attend_within_examples(model, max(lengths))
    ids, body = torch.zeros(1, 4, dtype=torch.long), model_body(model)
    examples.set([4], torch.arange(4)[None])
    try:
        with torch.no_grad():
            body(**accepted_inputs(body, input_ids=ids, use_cache=False))
    except NotCovered:
        restore_attention(model, before)
    examples.set(lengths, torch.arange(sum(lengths))[None])


def _saved_bytes(model: Any, tokens: int) -> tuple[int, int]:
    """Bytes that autograd saves in a forward pass of the body, plus its output; and the bytes of the largest tensor."""
    frozen = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved: dict[int, Any] = {}
    largest = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        storage = tensor.untyped_storage()
        if storage._cdata not in frozen:
            saved[storage._cdata] = storage  # held, so that its address is not used again
            largest = max(largest, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run_body(model, tokens)
    return sum(storage.nbytes() for storage in saved.values()) + out.nbytes, largest


def run_body(model: Any, tokens: int) -> torch.Tensor:
    """The body's output, (1, tokens, hidden), of one row of fake tokens."""
    body = model_body(model)
    ids, positions = torch.zeros(1, tokens, dtype=torch.long), torch.arange(tokens)[None]
    inputs = accepted_inputs(body, input_ids=ids, position_ids=positions, use_cache=False)
    with parametrize.cached():
        out: torch.Tensor = body(**inputs).last_hidden_state
    return out


def _saved_bytes_by_shape(model: Any, tokens: int, dtype: torch.dtype) -> tuple[int, int]:
    """As _saved_bytes, for a forward pass that asks for values: inputs and outputs of every matrix, for all tokens.

    Too much rather than too little: of a mixture of experts it counts all experts.
    """
    widths = [
        sum(p.shape[-2:]) for p in model.parameters() if p.ndim > 1 and p is not model.get_input_embeddings().weight
    ]
    return tokens * sum(widths) * dtype.itemsize, tokens * max(widths) * dtype.itemsize


@contextmanager
def _experts_of_any_dtype() -> Iterator[None]:
    """PyTorch's grouped product of experts takes float32, and its stand-in for tensors without values bf16 only.

    Meanwhile transformers' own grouped product runs, which saves the same tensors.
    """
    from transformers.integrations import moe

    before = moe._can_use_grouped_mm
    moe._can_use_grouped_mm = lambda *_: False
    try:
        yield
    finally:
        moe._can_use_grouped_mm = before


@contextmanager
def _quiet() -> Iterator[None]:
    import transformers

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
