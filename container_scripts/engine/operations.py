"""How many floating-point operations a training needs for each token, and how many a device does in a second.

    seconds = tokens * operations a token / (operations a second of large matrix products * the share that is reached)

A product of (m, k) and (k, n) takes 2 m k n operations. They are counted on tensors without values (fake_pass.py): one
forward and one backward pass of the body, with the engine's attention and adapters in it. A layer that is recomputed
runs its forward pass a second time. A linear layer of O x I thus costs 2 O I forward, and 2 O I back to its input: it
is frozen, so its weights have no gradient. The head is added: a row of logits costs 2 V H, and its gradient 2 V H.

Example, BLOOMZ-7B1 with adapters on query_key_value: 24.4e9 a token, and 4.1e9 a label.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.arguments import Arguments
from engine.batches import Batch
from engine.fake_adapters import add_fake_adapters
from engine.fake_pass import fake_model, replace_attention, run_body
from engine.packing_check import likely_route
from engine.routes import can_leave_out_logits
from shared.names import EXAMPLE_LENGTHS, PROMPT_LENGTHS

_log = logging.getLogger(__name__)
_PRODUCT = {"cuda": 8192, "cpu": 2048}  # rows and columns of a large matrix product
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Operations:
    """Operations of a training for each of its tokens, as a mean over the dataset."""

    step_operations: float = 0.0
    """Forward and back through body and head, where no layer is recomputed; 0 if they cannot be counted."""
    forward_operations: float = 0.0
    """Forward through the body: as many more if all of its layers are recomputed."""


def count_operations(
    base: Path, arguments: Arguments, targets: Sequence[str], packs: Sequence[Batch], dtype: torch.dtype
) -> Operations:
    """The operations of a training; zeros if they cannot be counted, because the model's code asks for values.

    Args:
        base: folder with the model's config.json; no weights are read.
        targets: names of the modules that get an adapter.
        packs: rows of the dataset; only their lengths are read.
    """
    lengths = _typical_pass(base, arguments, [pack[EXAMPLE_LENGTHS] for pack in packs])
    tokens = sum(sum(pack[EXAMPLE_LENGTHS]) for pack in packs)
    prompts = sum(sum(pack[PROMPT_LENGTHS]) for pack in packs) if arguments.loss_on == "completion" else 0
    try:
        with fake_model(base, dtype) as model:
            rows = tokens - prompts if arguments.engine_head == "labels" and can_leave_out_logits(model) else tokens
            both, forward = _body(model, arguments, targets, lengths)
            vocabulary, hidden = model.get_output_embeddings().weight.shape
    except Exception as error:  # such as of an expert's tokens, or because tensors have none
        _log.info("the operations of %s cannot be counted: %s", base, error)
        return Operations()
    head = 4.0 * float(vocabulary * hidden) * rows / tokens
    return Operations(both / sum(lengths) + head, forward / sum(lengths))


def _typical_pass(base: Path, arguments: Arguments, packs: Sequence[Sequence[int]]) -> Sequence[int]:
    """Tokens of each example of a pass to count: the pack of median length. Where each example has a pass of its own,
    that of the length in which a token stands on average, because attention costs a token in proportion to it.
    """
    if likely_route(base, arguments.engine_attention, max(map(max, packs))).together:
        return sorted(packs, key=sum)[len(packs) // 2]
    return [round(sum(n * n for pack in packs for n in pack) / sum(map(sum, packs)))]


def _body(model: Any, arguments: Arguments, targets: Sequence[str], lengths: Sequence[int]) -> tuple[int, int]:
    """Operations of a forward and a backward pass of the body, and of the forward pass alone; changes `model`."""
    add_fake_adapters(model, arguments, targets)
    if arguments.engine_attention != "transformers":
        replace_attention(model, lengths)
    with FlopCounterMode(display=False, custom_mapping=_counted_here()) as counter:
        out = run_body(model.train(), sum(lengths))
        forward = counter.get_total_flops()
        out.sum().backward()
    return counter.get_total_flops(), forward


def _counted_here() -> dict[Any, Any]:
    """Operations of what PyTorch's own list lacks: sums in place, attention on a CPU, transformers' stacked experts."""
    aten, experts = torch.ops.aten, torch.ops.transformers

    def product(_: Any, a: Sequence[int], b: Sequence[int], *__: Any, **___: Any) -> int:
        return 2 * a[0] * a[1] * b[1]

    def attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
        batch, heads, rows, width = query  # torch 2.9's own count refuses keys of fewer heads, which queries share
        return 2 * batch * heads * rows * key[2] * (width + value[3])

    def attention_backward(_: Any, query: Any, key: Any, value: Any, *__: Any, **___: Any) -> int:
        return 5 * attention(query, key, value) // 2  # five products instead of two

    def grouped(tokens: Sequence[int], weights: Sequence[int], *_: Any, **__: Any) -> int:
        return 2 * tokens[0] * weights[1] * weights[2]  # (tokens, in) and (experts, in, out): a token meets one expert

    return {
        aten.addmm_: product,
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
        experts.grouped_mm_fallback: grouped,
        experts.grouped_mm_fallback_backward: grouped,
    }


def product_speed(dtype: torch.dtype, device: str) -> float:
    """Operations a second of the fastest of some large square matrix products on a device, `cuda` or `cpu`."""
    size = _PRODUCT[device]
    one, other = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        product = one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
        del product
    return 2.0 * size**3 / best
