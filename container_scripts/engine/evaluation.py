"""An evaluation of a training's weights as they are: the test loss, and the score of summaries that the model writes.

Several processes share its work, and all of them get the same figures. It draws no random numbers.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from engine.setup import Setup
from engine.work_split import batch_of
from shared.events import ProgressEvent

_SIGN_OF_LIFE = 5.0  # seconds between two events of a pass over the test split


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of one."""

    loss: float
    """Mean over the test split's labelled tokens."""
    score: float | None
    """The scorer's, 0 to 100; None without one."""
    generation_seconds: float
    """Of generating and scoring summaries."""
    loss_seconds: float
    """Of computing the test loss."""


def evaluate(
    setup: Setup, at_once: int, is_stopped: Callable[[], bool], tell: Callable[[ProgressEvent], None]
) -> Evaluation | None:
    """Evaluate; None if `is_stopped` says so, in any process, before the end.

    Args:
        at_once: packs per forward pass.
        tell: gets signs of life, if a pass over the test split is long.

    Raises:
        TrainingError: a prompt does not fit in memory, or the model's logits are not finite.
        PeerLostError: another process has ended.
    """
    test, group, scorer, loss_on = setup.test, setup.group, setup.scorer, setup.plan.arguments.loss_on
    device = setup.packed_loss.causal.device
    parts = [range(start, min(start + at_once, len(test))) for start in range(0, len(test), at_once)]
    own, started = _with_signs_of_life(parts[group.rank :: group.size], tell), time.monotonic()
    batches = (batch_of(test, part, loss_on, device) for part in own)
    loss, labelled = setup.packed_loss.total_over(batches, is_stopped)
    sums = torch.cat([loss.double()[None], torch.tensor([labelled, is_stopped()], dtype=torch.float64, device=device)])
    group.add_up(sums)
    total, count, stopped = group.read(sums)
    if stopped:
        return None
    score, began = None, time.monotonic()
    if scorer is not None and (score := scorer.score(is_stopped)) is None:
        return None
    return Evaluation(total / max(count, 1), score, time.monotonic() - began if scorer else 0.0, began - started)


def _with_signs_of_life(parts: Sequence[range], tell: Callable[[ProgressEvent], None]) -> Iterator[range]:
    """The parts of the test split, one after the other; every few seconds `tell` hears how many are done."""
    told_at = time.monotonic()
    for done, part in enumerate(parts):
        if time.monotonic() - told_at >= _SIGN_OF_LIFE:
            told_at = time.monotonic()
            tell(ProgressEvent("test loss", done, len(parts)))
        yield part
