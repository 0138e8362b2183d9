"""What the layers of a model hold in a training pass, counted on tensors without values.

The model is built of fake tensors (PyTorch's FakeTensorMode), which have shape and dtype but no memory. Its own forward
and backward pass run on them, with the engine's attention and adapters in it, and every tensor is counted from its
making to its end.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from engine import linear
from engine.arguments import Arguments
from engine.attention import attend_within_examples, restore_attention
from engine.experts_layers import experts_of_peft
from engine.fake_adapters import add_fake_adapters
from engine.heads import head_is_plain
from engine.kernels import AttentionScores, Examples, NotCovered, causal_blocks
from engine.recompute import keep_parts_only
from engine.routes import accepted_inputs, can_leave_out_logits, model_body

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HeldBytes:
    """What the layers hold in a pass."""

    bytes: int
    """Between the forward and the backward pass: what autograd saves of the layers, and the body's output."""
    passing: int
    """The most that they hold beside that, for a moment of either pass. Dequantized weights are not counted."""
    layers: int
    """How many layers can recompute their activations."""
    adapter_parameters: int
    own_head: int
    """The most that the model's own head and loss hold beside `bytes`, gradients too; 0 if the engine's head does."""


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors from their making to their end, but for those of `known`.

    Attributes:
        now: bytes of those that exist.
        peak: the most that they were.
    """

    def __init__(self, known: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._end, storage._cdata)

    def _end(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def skeleton(base: Path) -> Any:
    """The model on the meta device: its layers have names and shapes, but no values."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"), quiet():
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))


@contextmanager
def fake_model(base: Path, dtype: torch.dtype) -> Iterator[Any]:
    """The frozen model of fake tensors, within PyTorch's mode for these."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.integrations import moe

    with (
        FakeTensorMode(),
        quiet(),
        _replaced(moe, "_grouped_mm", _grouped_product),
        _replaced(linear, "draw_seed", lambda: 0),  # of masks of dropout: a fake tensor has no value to draw
    ):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=dtype)
        yield model.requires_grad_(False)


def count_held(
    base: Path,
    outline: Any,
    arguments: Arguments,
    targets: Sequence[str],
    lengths: Sequence[int],
    rows: int,
    dtype: torch.dtype,
    recompute_all: bool,
    device: str,
) -> HeldBytes:
    """Count what the layers hold in a training pass on one batch.

    Changes `outline` where the model does not run without values.

    Args:
        base: folder with the model's config.json; no weights are read.
        outline: the skeleton of the model.
        targets: names of the modules that get an adapter.
        lengths: tokens of each example of the batch.
        rows: how many tokens of the batch have a label.
        dtype: compute dtype of the frozen model.
        recompute_all: whether every layer recomputes its activations.
        device: `cuda` or `cpu`.
    """
    if arguments.engine_head == "all" or not can_leave_out_logits(outline):
        rows = sum(lengths)
    try:
        with fake_model(base, dtype) as model:
            return _count(model, arguments, targets, lengths, rows, recompute_all, device)
    except Exception as error:  # its code asks for values, such as an expert's tokens, or stumbles over having none
        kind = outline.config.model_type
        _log.info("%s does not run without values, so its memory is estimated by shapes: %s", kind, error)
        summed = sum(experts.numel() for experts in experts_of_peft(outline, arguments, targets)) * dtype.itemsize
        parameters = add_fake_adapters(outline, arguments, targets)
        saved, largest = _saved_bytes_by_shape(outline, sum(lengths), dtype)
        head = 3 * torch.float32.itemsize * rows * outline.get_output_embeddings().weight.shape[0]
        return HeldBytes(saved + summed, summed + 2 * largest, recompute_layers(outline, 0), parameters, head)


def _count(
    model: Any,
    arguments: Arguments,
    targets: Sequence[str],
    lengths: Sequence[int],
    rows: int,
    recompute_all: bool,
    device: str,
) -> HeldBytes:
    plain = arguments.engine_head == "labels" and head_is_plain(model, torch.zeros(1, 4).long(), by_value=False)
    parameters = add_fake_adapters(model, arguments, targets)
    keep_parts_only(model)
    if arguments.engine_attention != "transformers":  # `flex` saves the same, and a mask
        replace_attention(model, lengths, device)
    layers = recompute_layers(model, 0)
    recompute_layers(model, layers if recompute_all else 0)
    tokens = sum(lengths)
    held, most = _held_bytes(model.train(), lambda: run_body(model, tokens))
    with_head = held if plain else _held_bytes(model, lambda: _own_loss(model, tokens, rows))[1]
    return HeldBytes(held, most - held, layers, parameters, with_head - held)


def recompute_layers(model: Any, count: int) -> int:
    """Let the first `count` layers recompute their activations in the backward pass; return how many layers exist."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    every = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if count:
        model.activation_checkpointing_enable({"use_reentrant": False})
    for number, layer in enumerate(every):
        layer.gradient_checkpointing = number < count
    return len(every)


def replace_attention(model: Any, lengths: Sequence[int], device: str = "cpu") -> None:
    """Give `model` the engine's attention, unless it asks for more than that does; the probe decides the same."""
    before = model.config._attn_implementation
    examples = attend_within_examples(model, max(lengths))
    if device == "cuda":
        examples.attend = _attend_without_dropout
    ids, body = torch.zeros(1, 4, dtype=torch.long), model_body(model)
    examples.set([4], torch.arange(4)[None])
    try:
        with torch.no_grad():
            body(**accepted_inputs(body, input_ids=ids, use_cache=False))
    except NotCovered:
        restore_attention(model, before)
    examples.set(lengths, torch.arange(sum(lengths))[None])


def _attend_without_dropout(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, examples: Examples, scores: AttentionScores
) -> torch.Tensor:
    """A GPU's kernels drop attention weights as they make them; a CPU's make and keep whole matrices of them."""
    return causal_blocks(query, key, value, examples, replace(scores, dropout=0.0))


def _held_bytes(model: Any, forward: Callable[[], torch.Tensor]) -> tuple[int, int]:
    """Bytes that are held after `forward`, and the most that are held in it or in the backward pass."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)  # as the engine does: it is there before the pass
    with _LiveTensors([*model.parameters(), *model.buffers(), *(parameter.grad for parameter in trained)]) as live:
        out = forward()
        held = live.now
        out.backward(torch.ones_like(out))
    return held, live.peak


def run_body(model: Any, tokens: int) -> torch.Tensor:
    """The body's output, (1, tokens, hidden), of one row of fake tokens."""
    body = model_body(model)
    ids, positions = torch.zeros(1, tokens, dtype=torch.long), torch.arange(tokens)[None]
    inputs = accepted_inputs(body, input_ids=ids, position_ids=positions, use_cache=False)
    with parametrize.cached():
        out: torch.Tensor = body(**inputs).last_hidden_state
    return out


def _own_loss(model: Any, tokens: int, rows: int) -> torch.Tensor:
    """The loss at `rows` of the tokens, by the model's own head; at all, if it cannot leave out others."""
    ids, kept = torch.zeros(1, tokens, dtype=torch.long), torch.arange(rows)
    inputs = accepted_inputs(model, input_ids=ids, position_ids=torch.arange(tokens)[None], logits_to_keep=kept)
    with parametrize.cached():
        logits = model(**inputs, use_cache=False).logits[0]
    return functional.cross_entropy(logits.float(), torch.zeros(len(logits), dtype=torch.long), reduction="sum")


def _saved_bytes_by_shape(model: Any, tokens: int, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes that are held, and of the largest tensor, for a forward pass that asks for values: inputs and outputs of
    every matrix, for all tokens.

    Too much rather than too little: of a mixture of experts it counts all experts.
    """
    widths = [
        sum(p.shape[-2:]) for p in model.parameters() if p.ndim > 1 and p is not model.get_input_embeddings().weight
    ]
    return tokens * sum(widths) * dtype.itemsize, tokens * max(widths) * dtype.itemsize


class _FrozenExperts(torch.autograd.Function):
    """A grouped product of frozen experts, which saves no input: as PyTorch's own, whose stand-in for tensors without
    values takes bf16 only. transformers' own saves it, and makes the gradient of the weights too.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, offs)
        out: torch.Tensor = torch.ops.transformers.grouped_mm_fallback(rows, weight, offs)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, offs = ctx.saved_tensors
        return torch.ops.transformers.grouped_mm_fallback(upstream[0], weight.transpose(1, 2), offs), None, None


def _grouped_product(rows: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
    apart = weight.requires_grad or rows.dtype is torch.float16  # GPUs of fp16 lack PyTorch's own
    multiply: Any = torch.ops.transformers.grouped_mm_fallback if apart else _FrozenExperts.apply
    out: torch.Tensor = multiply(rows.to(weight.dtype), weight, offs)
    return out


@contextmanager
def _replaced(module: Any, name: str, instead: Callable[..., Any]) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, instead)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def quiet() -> Iterator[None]:
    import transformers

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
