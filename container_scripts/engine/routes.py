"""The loss of a batch by the route that is right for the model: one pass for all examples, or one for each.

    route                 attention      examples of a batch      head
    fastest               the engine's   in one forward pass      engine's, where there is a label
    soft caps, sinks      transformers'  in one forward pass      engine's or the model's
    state across tokens   transformers'  one forward pass each    engine's or the model's

The last route is right for every model, because it is what transformers itself computes. Which of the others gives the
same is tried out before the first step, on this very model (probe.py).
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.nn import functional

from engine.attention import own_attention
from engine.batches import IGNORED, LABELLED, Batch
from engine.kernels import Examples
from engine.loss import head_loss
from shared.names import EXAMPLE_LENGTHS, INPUT_IDS


@dataclass(frozen=True, slots=True)
class Route:
    """How the loss of a batch is computed."""

    attention: str
    """examples | flex (attention.py) | transformers (the model's own)."""
    together: bool
    """Whether the examples of a batch share a forward pass; otherwise each has its own."""
    head: str
    """labels (loss.py) | rows (the model's own head, where there is a label) | all (the model's own, everywhere)."""
    reason: str = ""
    """Why this is not the fastest route; empty if it is."""


def accepted_inputs(module: Any, **inputs: Any) -> dict[str, Any]:
    """Those of `inputs` that the forward of `module` has a parameter for: RWKV, for example, has no position_ids."""
    parameters = inspect.signature(module.forward).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in inputs.items() if anything or name in parameters}


def model_body(causal: Any) -> Any:
    """The part of a causal language model that comes before its head."""
    return getattr(causal, causal.base_model_prefix, None) or causal.model  # Llama4ForCausalLM has another's prefix


def can_leave_out_logits(causal: Any) -> bool:
    """Whether the model's forward can be told at which tokens to compute logits."""
    return "logits_to_keep" in inspect.signature(causal.forward).parameters


class RoutedLoss:
    """Next-token loss of a batch of whole examples by a given route.

    Args:
        causal: a transformers causal language model.
        examples: what the replaced attention reads; None if the model has its own attention.
        route: see Route.
    """

    def __init__(self, causal: Any, examples: Examples | None, route: Route) -> None:
        self.causal, self._examples, self.route = causal, examples, route
        self._body, self._head = model_body(causal), causal.get_output_embeddings()

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """The summed loss (float32 scalar) and the number of labelled tokens of one batch (see batches.collate)."""
        zero = torch.zeros((), device=batch[INPUT_IDS].device)
        return sum(map(self.loss, self.passes(batch)), zero), len(batch["rows"])

    def passes(self, batch: Batch) -> Iterable[Batch]:
        """What each forward pass takes of a batch. With a backward pass after each, one of them holds activations."""
        return [batch] if self.route.together else single_examples(batch)

    def total_over(self, batches: Iterable[Batch], is_stopped: Callable[[], bool]) -> tuple[torch.Tensor, int]:
        """The summed loss (float32 scalar) and the number of labelled tokens of all batches, without dropout.

        `is_stopped` is asked before each pass, and before its batch is made; the sums are then those of earlier passes.
        """
        total, count = torch.zeros((), device=self.causal.device), 0
        with without_dropout(self.causal), torch.no_grad():
            parts = chain.from_iterable(map(self.passes, batches))
            while not is_stopped() and (part := next(parts, None)) is not None:
                total += self.loss(part)
                count += len(part["rows"])
        return total, count

    @contextmanager
    def generating(self) -> Iterator[None]:
        """In this block the model can generate text: without dropout, gradients and recomputed layers, by its own
        attention, which keeps keys and values. Afterwards it is as before.

        Not in torch's inference mode: what a layer keeps of it could not be used in a training step.
        """
        with without_dropout(self.causal), own_attention(self.causal, self._examples), torch.no_grad():
            yield

    def loss(self, batch: Batch) -> torch.Tensor:
        """The summed loss (float32 scalar) of one of `passes`."""
        ids, rows = batch[INPUT_IDS], batch["rows"]
        if self._examples is not None:
            self._examples.set(batch[EXAMPLE_LENGTHS], batch["position_ids"])
        inputs = {INPUT_IDS: ids, "use_cache": False}
        if self.route.together:
            inputs["position_ids"] = batch["position_ids"]
        if self.route.head == "labels":
            hidden = self._body(**accepted_inputs(self._body, **inputs)).last_hidden_state
            return head_loss(hidden, self._head, batch["labels"], rows)
        if self.route.head == "rows":
            inputs["logits_to_keep"] = rows
            targets = batch["labels"][0].index_select(0, rows + 1)
            logits = self.causal(**accepted_inputs(self.causal, **inputs)).logits[0]
        else:
            targets = batch["labels"][0, 1:]
            logits = self.causal(**accepted_inputs(self.causal, **inputs)).logits[0, :-1]
        return functional.cross_entropy(logits.float(), targets, reduction="sum", ignore_index=IGNORED)


@contextmanager
def without_dropout(causal: Any) -> Iterator[None]:
    """In this block the model is in the mode of evaluation, and afterwards in its own again."""
    training = causal.training
    causal.eval()
    try:
        yield
    finally:
        causal.train(training)


def single_examples(batch: Batch) -> Iterator[Batch]:
    """A batch for each example of `batch` that has a label. It does not wait for a GPU."""
    start = 0
    for length, rows in zip(batch[EXAMPLE_LENGTHS], batch["rows"].split(batch[LABELLED]), strict=True):
        if len(rows):
            part = {name: batch[name][:, start : start + length] for name in (INPUT_IDS, "labels", "position_ids")}
            yield {**part, "rows": rows - start, EXAMPLE_LENGTHS: [length], LABELLED: [len(rows)]}
        start += length
