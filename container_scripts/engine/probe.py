"""Finds the fastest route that is right for a model, by trying it out on the model itself before the first step.

Whether the examples of a pack see each other, and whether the loss follows from the body's output by the head alone,
depends on code that differs between architectures. So no table of architectures is kept. Three short examples go
through transformers' own forward pass, one at a time and with all logits; that is the truth. Each route (routes.py)
has to give the same, fastest first:

    check        what is compared                                                            float32    bf16, fp16
    loss         mean of the packed examples, against the truth                               1e-4          2e-2
    gradient     of the adapter, against the truth                                            1e-3          0.25
    neighbours   gradient of two examples, before and after the one between them is changed   1e-5          1e-2

(Relative differences; of gradients, the length of the difference to the length.) The third check needs no truth, so
rounding hardly disturbs it: in a route that isolates examples nothing changes at all. SmolLM2-135M in float32 differs
by 1e-6 in the loss, 4e-5 in the gradient, and not at all in the third check (in bf16 by 1e-6, 2e-2 and not at all); a
state that leaks changes it by 1e-4 even in tiny random models. The right column is wide, because bf16's rounding grows
with depth and the third check does not need it; it is for int8 products of activations too. A route that fails is not
taken. The last route, one example per forward pass, is the truth itself.

The head is looked at first (heads.py).

Cost: about fifteen passes over at most 31 tokens, which is a few seconds for 7 billion parameters.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine.arguments import Arguments
from engine.attention import attend_within_examples, make_no_more_masks, restore_attention
from engine.batches import IGNORED, LABELLED, Batch, collate
from engine.failure import TrainingError
from engine.heads import choose_head
from engine.kernels import Examples, NotCovered
from engine.routes import Route, RoutedLoss, accepted_inputs, single_examples, without_dropout
from generation.rotary import frequency_limit
from gpu import raise_if_no_fault_of_the_code
from shared.names import EXAMPLE_LENGTHS, INPUT_IDS, PROMPT_LENGTHS

_LENGTHS = (11, 13, 7)  # tokens of the three examples, at most; the second is exchanged
_FASTEST_FIRST = ("flex", "examples", "transformers")
_PROMPT = 3  # of them without a label, at most


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest relative differences that count as equal."""

    loss: float
    gradient: float
    neighbours: float


FLOAT32 = Tolerance(loss=1e-4, gradient=1e-3, neighbours=1e-5)
HALF = Tolerance(loss=2e-2, gradient=0.25, neighbours=1e-2)


def find_route(
    causal: Any, longest: int, arguments: Arguments, sample: Sequence[int] | None = None, takes_packs: bool = True
) -> tuple[Examples | None, Route]:
    """The fastest route that is right, and what the replaced attention reads (None with the model's own).

    Args:
        causal: a transformers causal language model, under an adapter or not. Its attention may be replaced.
        longest: tokens of the longest example of either split.
        arguments: which parts of the engine to use.
        sample: token ids of the data, to try the model with; None for the first ids of the vocabulary.
        takes_packs: what packing_check.py says of the architecture: in float32 it sees more than bf16 shows.

    Raises:
        TrainingError: the model cannot be run, sees the tokens that it shall predict, or computes values that are not
            finite; or the kernel that was asked for does not train on this device.
    """
    device = causal.get_input_embeddings().weight.device
    if arguments.engine_attention == "flex" and device.type == "cpu":
        raise TrainingError("FlexAttention trains on a GPU only", "set training.engine.attention to examples")
    with _undisturbed(causal):
        tolerance = _tolerance(causal, arguments)
        batch, changed = _batches(causal, longest, sample)
        plain = Route("transformers", together=False, head="all")
        truth = _Result.measure(RoutedLoss(causal, None, plain), causal, batch)
        _check_model_is_usable(causal, truth, batch, tolerance)
        trial = _Trial(causal, longest, batch, changed, truth, tolerance)
        one_at_a_time = replace(plain, head=choose_head(causal, arguments, batch, tolerance.loss))
        before = causal.config._attn_implementation
        reasons: list[str] = []
        for attention in _FASTEST_FIRST[_FASTEST_FIRST.index(arguments.engine_attention) :]:
            route = replace(one_at_a_time, attention=attention, together=True, reason="; ".join(reasons))
            examples, reason = trial.try_route(route)
            if not takes_packs:
                reason = reason or "examples see each other in a thin model of this architecture"
            if not reason:
                make_no_more_masks(examples)
                return examples, route
            reasons.append(f"attention {attention}: {reason}")
            restore_attention(causal, before)
    return None, replace(one_at_a_time, reason="; ".join(reasons))


@dataclass(frozen=True, slots=True)
class _Result:
    """A loss and its gradient, on the probe's batch."""

    loss: float
    gradient: Sequence[torch.Tensor]
    """Of each trained parameter; empty if nothing is trained. A large adapter has no room for copies of it."""

    @classmethod
    def measure(cls, loss_of: RoutedLoss, causal: Any, batch: Batch) -> "_Result":
        trained = [parameter for parameter in causal.parameters() if parameter.requires_grad]
        total, sums = 0.0, dict[int, torch.Tensor]()
        for part in loss_of.passes(batch):  # so that one of them is held, as in training
            loss = loss_of.loss(part) / len(batch["rows"])
            total += loss.item()
            for number, gradient in enumerate(torch.autograd.grad(loss, trained, allow_unused=True) if trained else ()):
                if gradient is not None:
                    sums[number] = sums[number] + gradient if number in sums else gradient
        return cls(total, [sums[number] for number in sorted(sums)])

    @property
    def shapes(self) -> list[torch.Size]:
        """Of the gradient's parts."""
        return [part.shape for part in self.gradient]


@dataclass(frozen=True, slots=True)
class _Trial:
    """What routes are tried with, and the truth that they are compared with."""

    causal: Any
    longest: int
    """Tokens of the longest example of either split."""
    batch: Batch
    changed: Batch
    """The same with other tokens in the second example."""
    truth: _Result
    tolerance: Tolerance

    def try_route(self, route: Route) -> tuple[Examples | None, str]:
        """Replace the model's attention as `route` wants it, and compare: what is wrong, in words; empty if nothing is.

        Also returns what the replaced attention reads.
        """
        examples = None
        try:
            if route.attention != "transformers":
                examples = attend_within_examples(self.causal, self.longest, route.attention)
            loss_of = RoutedLoss(self.causal, examples, route)
            if route.attention == "flex":
                self._run_as_in_training(loss_of)
            reason = self._difference(loss_of, examples)
        except NotCovered as wanted:
            reason = str(wanted)
        except Exception as error:  # whatever the model's code stumbles over: then this route is not for it
            raise_if_no_fault_of_the_code(error, self.batch[INPUT_IDS].device)
            reason = f"{type(error).__name__}: {error}"
        limit = frequency_limit(self.causal)  # the probe's examples are too short to show it
        if not reason and limit is not None and self.longest > limit:
            reason = "its rotary embedding depends on the length of the row"
        return examples, reason

    def _run_as_in_training(self, loss_of: RoutedLoss) -> None:
        """A forward pass with dropout, which the others are without, and which FlexAttention refuses."""
        self.causal.train()
        try:
            with torch.no_grad():
                loss_of.loss(self.batch)
        finally:
            self.causal.eval()

    def _difference(self, loss_of: RoutedLoss, examples: Examples | None) -> str:
        found = _Result.measure(loss_of, self.causal, self.batch)
        if examples is not None and not examples.used:
            return "it does not take its attention from transformers' interface"
        if abs(found.loss - self.truth.loss) > self.tolerance.loss * abs(self.truth.loss):
            return f"the packed loss is {found.loss:.6g}, that of single examples {self.truth.loss:.6g}"
        if not (off := _apart(found, self.truth)) <= self.tolerance.gradient:  # not `>`, which is false of NaN
            return f"the packed gradient is {off:.2%} off that of single examples"
        del found  # a large adapter has room for three gradients, not for four
        before, after = (
            _Result.measure(loss_of, self.causal, _without_the_second(batch)) for batch in (self.batch, self.changed)
        )
        if not _apart(before, after) <= self.tolerance.neighbours:
            return "an example changes when its neighbour in the pack does"
        return ""


def _apart(one: _Result, other: _Result) -> float:
    """How far two results are apart: their gradients, or their losses if nothing is trained; relative."""
    if not one.gradient or one.shapes != other.shapes:
        return abs(one.loss - other.loss) / max(abs(other.loss), 1e-30) if one.shapes == other.shapes else math.inf
    differences = (part - others for part, others in zip(one.gradient, other.gradient, strict=True))
    apart: float = (_length(differences) / _length(other.gradient).clamp_min(1e-30)).item()
    return apart


def _length(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Of the vector that all of them make together: a float32 scalar."""
    length: torch.Tensor = torch.stack([part.float().norm() for part in parts]).norm()
    return length


def _check_model_is_usable(causal: Any, truth: _Result, batch: Batch, tolerance: Tolerance) -> None:
    """Raise if the model is broken or is not a causal language model: no route would help."""
    kind = causal.config.model_type
    if truth.loss != truth.loss or not all(part.isfinite().all() for part in truth.gradient):
        raise TrainingError(
            f"the base model ({kind}) computes values that are not numbers, before any training",
            "its weights are damaged or too large for the compute dtype: set training.compute_dtype to bfloat16 or "
            "float32, or download it again",
        )
    ids = next(single_examples(batch))[INPUT_IDS]
    other = ids.clone()
    other[0, -1] = ids[0, 0] if ids[0, -1] != ids[0, 0] else ids[0, 1]
    with torch.no_grad():
        logits, others = (
            causal(**accepted_inputs(causal, input_ids=row, use_cache=False)).logits[0, :-1].float()
            for row in (ids, other)
        )
    if not torch.allclose(logits, others, rtol=tolerance.loss, atol=tolerance.loss):
        raise TrainingError(
            f"{kind} sees the tokens that it should predict: it is not a causal language model",
            "choose a model that generates text from left to right",
        )


def _batches(causal: Any, longest: int, sample: Sequence[int] | None) -> tuple[Batch, Batch]:
    """A batch of three short examples, and the same with other tokens in the second. None is longer than `longest`."""
    lengths = [max(min(length, longest), 2) for length in _LENGTHS]
    embeddings = causal.get_input_embeddings().weight
    vocabulary, tokens = embeddings.shape[0], sum(lengths)
    ids = [int(token) % vocabulary for token in sample or range(3, 3 + tokens)]
    ids = (ids * tokens)[:tokens]
    start, end = lengths[0], lengths[0] + lengths[1]
    others = [token + 1 if token + 1 < vocabulary else token - 1 for token in ids[start:end]]
    packs = [
        {INPUT_IDS: row, EXAMPLE_LENGTHS: lengths, PROMPT_LENGTHS: [min(_PROMPT, n - 1) for n in lengths]}
        for row in (ids, ids[:start] + others + ids[end:])
    ]
    first, second = (
        {
            name: value.to(embeddings.device) if isinstance(value, torch.Tensor) else value
            for name, value in collate([pack]).items()
        }
        for pack in packs
    )
    return first, second


def _without_the_second(batch: Batch) -> Batch:
    """The same batch, without labels in the second example."""
    start, second, _ = batch[EXAMPLE_LENGTHS]
    end = start + second
    rows, labels, (first, _, last) = batch["rows"], batch["labels"].clone(), batch[LABELLED]
    labels[:, start:end] = IGNORED
    return batch | {"rows": torch.cat([rows[:first], rows[-last:]]), "labels": labels, LABELLED: [first, 0, last]}


def _tolerance(causal: Any, arguments: Arguments) -> Tolerance:
    exact = causal.get_input_embeddings().weight.dtype is torch.float32 and arguments.engine_linear == "dequantized"
    return FLOAT32 if exact else HALF


@contextmanager
def _undisturbed(causal: Any) -> Iterator[None]:
    """Without dropout, and leaving random numbers and the model's mode as they were."""
    device = causal.get_input_embeddings().weight.device
    own = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with without_dropout(causal), own, torch.enable_grad():
        yield
