"""Which packs an optimizer step learns from, and at which learning rate."""

import pytest
import torch

from engine.arguments import Arguments
from engine.schedule import plan_steps


@pytest.mark.parametrize(("packs", "size", "accumulation"), [(7, 1, 1), (7, 2, 2), (5, 3, 1), (2, 4, 2), (12, 2, 3)])
def test_every_epoch_sees_every_pack_once(packs: int, size: int, accumulation: int) -> None:
    arguments = Arguments(epochs=3, per_device_batch_size=size, gradient_accumulation_steps=accumulation)
    schedule = plan_steps(arguments, packs)
    per_epoch = schedule.steps_per_epoch
    assert schedule.steps == 3 * per_epoch
    orders = []
    for epoch in range(3):
        batches = [batch for step in range(per_epoch) for batch in schedule.batches(epoch * per_epoch + step)]
        assert all(0 < len(batch) <= size for batch in batches)
        orders.append([pack for batch in batches for pack in batch])
        assert sorted(orders[-1]) == list(range(packs))
    assert packs < 5 or orders[0] != orders[1]


def test_the_batch_size_does_not_change_the_packs_of_a_step() -> None:
    """`auto` may choose any batch size: the training is the same."""
    steps = []
    for size, accumulation in ((1, 4), (2, 2), (4, 1)):
        schedule = plan_steps(Arguments(per_device_batch_size=size, gradient_accumulation_steps=accumulation), 10)
        steps.append([[pack for batch in schedule.batches(n) for pack in batch] for n in range(schedule.steps)])
    assert steps[0] == steps[1] == steps[2]


@pytest.mark.parametrize(("epochs", "max_steps", "steps"), [(1.5, -1, 6), (0.01, -1, 1), (3, 5, 5)])
def test_steps_are_counted_from_packs_and_epochs(epochs: float, max_steps: int, steps: int) -> None:
    assert plan_steps(Arguments(epochs=epochs, max_steps=max_steps, gradient_accumulation_steps=2), 8).steps == steps


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup_ratio", [0, 0.25, 1])
def test_the_learning_rate_is_that_of_transformers(shape: str, warmup_ratio: float) -> None:
    from transformers import get_scheduler

    schedule = plan_steps(Arguments(scheduler=shape, warmup_ratio=warmup_ratio, max_steps=20, learning_rate=0.5), 3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    name = "constant_with_warmup" if shape == "constant" else shape
    theirs = get_scheduler(name, optimizer, num_warmup_steps=schedule.warmup, num_training_steps=20)
    for step in range(20):
        assert schedule.learning_rate(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12, abs=1e-15)
        optimizer.step()
        theirs.step()
