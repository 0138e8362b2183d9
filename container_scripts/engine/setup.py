"""What goes into a training, and what comes of it."""

from dataclasses import dataclass
from typing import Any

import torch

from engine.distributed import ALONE, Group
from engine.fitting import Plan
from engine.packed_loss import PackedLoss
from engine.packs import Packs
from engine.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Setup:
    """What is trained, on what, and how."""

    model: Any
    """The PEFT model, on its device."""
    packed_loss: PackedLoss
    """The loss of its batches."""
    train: Packs
    """Packs to learn from (rows of the dataset)."""
    test: Packs
    """Packs to evaluate on."""
    plan: Plan
    """The arguments, and what their training needs of the device's memory."""
    dtype: torch.dtype
    """The compute dtype, in which the model is already. fp16 needs its loss scaled."""
    scorer: Scorer | None = None
    """Scores the model's own summaries in each evaluation; None where the test loss is all that is asked for."""
    group: Group = ALONE
    """The processes that train together. Each calls train_adapter, and only the first one writes files."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training came to, besides the adapter in the model."""

    train_loss: float | None
    """Mean of the losses of all steps, those before a resume included; None if there was no step."""
    eval_loss: float
    """Mean over the test split's labelled tokens, with the weights that are kept."""
    score: float | None
    """The scorer's, with the weights that are kept."""
    kept_step: int
    """The step whose weights are in the model."""
    kept_because: str
    """Why it is this step."""
    tokens: int
    """Tokens trained on since this start."""
    seconds: float
    """Of training and test loss since this start."""
    generation_seconds: float
    """Of generating and scoring summaries since this start."""
    evaluation_seconds: float = 0.0
    """Of computing the test loss since this start, in `evaluations` evaluations."""
    evaluations: int = 0
