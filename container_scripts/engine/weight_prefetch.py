"""Brings the codes of frozen weights from main memory to a GPU for one product, and the next ones meanwhile.

    GPU computes     layer 0 q   layer 0 k   expert 3, up   expert 9, up     expert 3, down
    copied to it     layer 0 k   expert 3    expert 9, up   expert 3, down   expert 9, down
    place            2           1           2              1                2

There are two places, each as large as the codes of the largest product: a linear layer, or one expert of one parameter
(weight_storage.py). A stack of experts asks for those that a token goes to, all at once, so of these it is known what
comes next. What comes after the last, and after a linear layer, is what came next the last time that the same two
weights were asked for in the same order: so forward passes, backward passes, and recomputed layers are all foreseen
once each has been seen. A wrong guess costs a copy, and changes no value.

The copies run in a stream of their own. Both streams wait for each other's events, never for the processor: a product
for its codes, and a copy for the products that have been asked for so far, of which one may read what it overwrites.
A pass thus takes as long as the larger of the two, computing or copying. Example: 2,048 tokens through one weight of
Llama 70B (8,192 x 28,672, int8: 235 MB) are 0.96 * 10^12 operations, 14 ms at the 70 * 10^12 that an A10G does in a
second at most; the copy takes 9.4 ms at 25 GB/s (PCIe 4.0 with 16 lanes).
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch

_Part = tuple[int, int]
"""The number of a weight, and of its part."""


class Fetcher:
    """Two places on a device, for codes that lie in main memory.

    Args:
        codes: of each weight, by its number: (parts, ...), any dtype, contiguous. Pinned memory is copied beside
            computing.
        device: where the products are made.
    """

    def __init__(self, codes: Sequence[torch.Tensor], device: torch.device) -> None:
        self._codes, self._on = codes, torch.get_device_module(device)
        most = max(one[0].nbytes for one in codes)
        self._places = [torch.empty(most, dtype=torch.uint8, device=device) for _ in range(2)]
        self._holds: list[_Part | None] = [None, None]
        self._copied = [self._on.Event(), self._on.Event()]
        self._stream = self._on.Stream(device)
        self._predicted: dict[tuple[int, int], _Part] = {}
        self._previous, self._current, self._place = -1, -1, 0

    def fetch(self, number: int, parts: Sequence[int]) -> Iterator[torch.Tensor]:
        """These parts of a weight's codes on the device, one after the other: each until the next is asked for.

        Guesses the weight after this one from the last two (second-order Markov): what followed them the last time.
        """
        self._predicted[self._previous, self._current] = number, parts[0]
        self._previous, self._current = self._current, number
        after_last = self._predicted.get((self._previous, self._current))
        for part, next_part in zip_longest(parts, parts[1:]):
            following = after_last if next_part is None else (number, next_part)
            self._ensure_copied((number, part))
            if following and following not in self._holds:
                self._start_copy(following)
            yield self._in_place(self._place, self._held((number, part)))

    def _ensure_copied(self, part: _Part) -> None:
        """Have the products that follow wait for the codes of one part, whose place becomes the current one."""
        if part not in self._holds:
            self._start_copy(part)
        self._place = self._holds.index(part)
        self._on.current_stream().wait_event(self._copied[self._place])

    def _start_copy(self, part: _Part) -> None:
        """Begin to copy the codes of one part to the other place, after all products that have been asked for."""
        codes, place = self._held(part), 1 - self._place
        self._stream.wait_stream(self._on.current_stream())
        with self._on.stream(self._stream):
            self._in_place(place, codes).copy_(codes, non_blocking=True)
            self._copied[place].record()
        self._holds[place] = part

    def _held(self, part: _Part) -> torch.Tensor:
        """The codes of one part in main memory."""
        number, of_weight = part
        return self._codes[number][of_weight]

    def _in_place(self, place: int, like: torch.Tensor) -> torch.Tensor:
        return self._places[place][: like.nbytes].view(like.dtype).view(like.shape)
