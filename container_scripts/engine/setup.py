"""What goes into a training."""

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
