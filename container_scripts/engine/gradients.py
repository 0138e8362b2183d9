"""The gradients of a step and what else processes tell each other about it, in one buffer of float32.

    buffer    [ gradient of A_1 | of B_1 | of A_2 | ... | loss of pass 0 | of pass 1 | ... | asked to stop ]

Each parameter's `.grad` is a view of it, into which autograd adds. So all of it is added up over the processes by one
all-reduce, without a copy, and a step reads it back once. With one process it is the same, without the all-reduce.
"""

from collections.abc import Sequence

import torch


class Gradients:
    """The buffer of one training.

    Args:
        parameters: what is trained, float32, on one device. They get their gradients here.
        passes: most forward passes of a step.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], passes: int) -> None:
        sizes = [parameter.numel() for parameter in parameters]
        self.buffer = torch.zeros(sum(sizes) + passes + 1, device=parameters[0].device)
        *views, self.told = self.buffer.split([*sizes, passes + 1])
        for parameter, view in zip(parameters, views, strict=True):
            parameter.grad = view.view_as(parameter)

    def clear(self) -> None:
        """Begin a step."""
        self.buffer.zero_()

    def tell(self, number: int, loss: torch.Tensor) -> None:
        """The loss of batch `number`, or a part of it: a scalar."""
        self.told[number] += loss.detach()

    def tell_of_stop(self) -> None:
        """This process was asked to stop."""
        self.told[-1] = 1
