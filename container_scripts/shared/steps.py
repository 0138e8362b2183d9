"""How many optimizer steps a training has, and whether each has enough packs for its processes."""

from .failure import Failure


def count_steps(packs: int, per_step: int, epochs: float, max_steps: int) -> int:
    """The optimizer steps of a training, each with `per_step` packs; `max_steps` of 0 leaves it to `epochs`."""
    return max_steps or max(round(epochs * -(-packs // per_step)), 1)


def too_few_packs(at_once: int, passes: int, processes: int) -> Failure | None:
    """What is wrong if an optimizer step has fewer packs than processes that share it; None if it has enough."""
    packs = at_once * passes
    if packs >= processes:
        return None
    return Failure(
        f"an optimizer step has {packs} pack{'s' if packs > 1 else ''} for {processes} processes",
        f"set training.gradient_accumulation_steps to {-(-processes // at_once)} or more, which changes what is "
        "learnt; or train with fewer processes: each GPU has one",
    )
