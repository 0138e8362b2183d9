"""The loss of a batch of whole examples, by the fastest route that is right for the model."""

from collections.abc import Sequence
from typing import Any

from engine.arguments import Arguments
from engine.probe import find_route
from engine.routes import RoutedLoss


class PackedLoss(RoutedLoss):
    """Next-token loss of a batch of whole examples. Making one tries the model out (probe.py), which takes seconds.

    Args:
        model: the PEFT model, or a causal language model. Its attention may be replaced.
        longest: tokens of the longest example of either split.
        arguments: which parts of the engine to use.
        sample: token ids of the data, to try the model with; None for the first ids of the vocabulary.
        takes_packs: what packing_check.py says of the architecture.

    Raises:
        TrainingError: see probe.find_route.
    """

    def __init__(
        self,
        model: Any,
        longest: int,
        arguments: Arguments | None = None,
        sample: Sequence[int] | None = None,
        takes_packs: bool = True,
    ) -> None:
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        examples, route = find_route(causal, longest, arguments or Arguments(), sample, takes_packs)
        super().__init__(causal, examples, route)
