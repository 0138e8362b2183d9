"""What an optimizer step does: which packs it learns from, and at which learning rate.

All of it follows from the step's number and the seed. So a resumed training needs no state of a sampler or a scheduler:
step 12 has the same packs in the same order, and drops the same values, whether or not the process was started again
before it, and however many processes share it. Example: 7 packs, 2 packs per forward pass, 2 forward passes per
optimizer step:

    epoch 0 in the order 4 0 6 1 3 5 2:    step 0: [4 0] [6 1]    step 1: [3 5] [2]
    epoch 1 in the order 1 5 2 0 4 6 3:    step 2: [1 5] [2 0]    step 3: [4 6] [3]

Steps are numbered from 0 here: step n is what is done after n steps are completed.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from engine.arguments import Arguments
from shared.steps import count_steps


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of one training."""

    packs: int
    """Packs of the train split."""
    batch_size: int
    """Packs per forward pass."""
    accumulation: int
    """Forward passes per optimizer step."""
    steps: int
    """Optimizer steps of the whole training."""
    warmup: int
    """Optimizer steps with a rising learning rate."""
    shape: str
    """linear | cosine | constant: the learning rate after warm-up."""
    peak: float
    """Highest learning rate."""
    seed: int
    """Of the order of the packs."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every pack is seen once; the last one may have fewer packs."""
        return -(-self.packs // (self.batch_size * self.accumulation))

    def batches(self, step: int) -> list[list[int]]:
        """The packs of `step` by their number in the split, one list for each forward pass."""
        epoch, within = divmod(step, self.steps_per_epoch)
        per_step = self.batch_size * self.accumulation
        chosen = _order(self.packs, self.seed + epoch)[within * per_step : (within + 1) * per_step]
        return [chosen[start : start + self.batch_size] for start in range(0, len(chosen), self.batch_size)]

    def draw_for(self, step: int, number: int) -> None:
        """Begin the random numbers of a forward pass: its dropout follows from step, number of the pass and seed."""
        digest = hashlib.sha256(f"{self.seed} {step} {number}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8]))

    def learning_rate(self, step: int) -> float:
        """The learning rate of `step`, as transformers' get_scheduler has it."""
        if step < self.warmup:
            return self.peak * step / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        factor = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}[self.shape]
        return self.peak * max(factor, 0.0)


def plan_steps(arguments: Arguments, packs: int) -> Schedule:
    """The schedule of a training on `packs` packs; `per_device_batch_size` must be a number, not `auto`."""
    per_step = arguments.per_device_batch_size * arguments.gradient_accumulation_steps
    steps = count_steps(packs, per_step, arguments.epochs, max(arguments.max_steps, 0))
    return Schedule(
        packs=packs,
        batch_size=arguments.per_device_batch_size,
        accumulation=arguments.gradient_accumulation_steps,
        steps=steps,
        warmup=round(steps * arguments.warmup_ratio),
        shape=arguments.scheduler,
        peak=arguments.learning_rate,
        seed=arguments.seed,
    )


@lru_cache(maxsize=2)
def _order(packs: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(packs, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
