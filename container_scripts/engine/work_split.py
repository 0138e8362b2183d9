"""Which process computes which forward passes of an optimizer step: as many tokens in each as can be.

Example: six passes of one pack each, for two processes.

    pass       0     1     2     3     4     5
    tokens  2048  1980  2040  1010  2000   900
    first      x     x           x                5,038
    second                 x           x     x    4,940

A step takes as long as its largest share. The longest pass goes first, to the process with the fewest tokens up to then
(longest processing time first, Graham 1969).
"""

from collections.abc import Sequence

import torch

from engine.batches import Batch, collate, on_device
from engine.distributed import Group
from engine.packs import Packs, pack_sizes
from engine.schedule import Schedule


class StepBatches:
    """The batches of every optimizer step, of which each process makes its own.

    Args:
        split: the packs to learn from.
        schedule: says which packs a step has.
        loss_on: as in batches.collate.
        device: where the batches are made.
        group: the processes that share a step.
    """

    def __init__(self, split: Packs, schedule: Schedule, loss_on: str, device: torch.device, group: Group) -> None:
        self._split, self._schedule, self._loss_on = split, schedule, loss_on
        self._device, self._group = device, group
        self._tokens, self._labels = pack_sizes(split, loss_on)

    def own(self, step: int) -> dict[int, Batch]:
        """This process's batches of a step, by the number of the forward pass."""
        passes = self._schedule.batches(step)
        tokens = [sum(self._tokens[pack] for pack in packs) for packs in passes]
        mine = shares(tokens, self._group.size)[self._group.rank]
        return {number: batch_of(self._split, passes[number], self._loss_on, self._device) for number in mine}

    def tokens(self, step: int) -> int:
        """The tokens of a step, in all processes."""
        return sum(self._tokens[pack] for packs in self._schedule.batches(step) for pack in packs)

    def labels(self, step: int) -> int:
        """How many of them have a label."""
        return sum(self._labels[pack] for packs in self._schedule.batches(step) for pack in packs)


def batch_of(split: Packs, packs: Sequence[int], loss_on: str, device: torch.device) -> Batch:
    """Some packs of a split as one batch on the device."""
    return on_device(collate([split[number] for number in packs], loss_on), device)


def shares(tokens: Sequence[int], size: int) -> list[list[int]]:
    """For each of `size` processes the numbers of its passes, in order.

    Args:
        tokens: of each forward pass of a step.
    """
    loads, chosen = [0] * size, [list[int]() for _ in range(size)]
    for number in sorted(range(len(tokens)), key=lambda number: -tokens[number]):
        least = loads.index(min(loads))
        chosen[least].append(number)
        loads[least] += tokens[number]
    return [sorted(numbers) for numbers in chosen]
