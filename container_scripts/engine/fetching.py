"""Brings the codes of a frozen weight from main memory to a GPU for one product, and the next ones meanwhile.

    GPU computes     layer 0 q   layer 0 k   layer 0 v   layer 0 o
    copied to it     layer 0 k   layer 0 v   layer 0 o   layer 0 gate
    place            2           1           2           1

There are two places, each as large as the largest codes. What comes next is what came next the last time that the same
two weights were asked for in the same order: so forward passes, backward passes, and recomputed layers are all
foreseen once each has been seen. A wrong guess costs a copy, and changes no value.

The copies run in a stream of their own. Both streams wait for each other's events, never for the processor: a product
for its codes, and a copy for the products that have been asked for so far, of which one may read what it overwrites.
A pass thus takes as long as the larger of the two, computing or copying. Example: 2,048 tokens through one weight of
Llama 70B (8,192 x 28,672, int8: 235 MB) are 0.96 * 10^12 operations, 14 ms at the 70 * 10^12 that an A10G does in a
second at most; the copy takes 9.4 ms at 25 GB/s (PCIe 4.0 with 16 lanes).
"""

from collections.abc import Sequence

import torch


class Fetcher:
    """Two places on a device, for codes that lie in main memory.

    Args:
        codes: of each weight, by its number: any shape and dtype, contiguous. Pinned memory is copied beside computing.
        device: where the products are made.
    """

    def __init__(self, codes: Sequence[torch.Tensor], device: torch.device) -> None:
        self._codes, self._on = codes, torch.get_device_module(device)
        most = max(one.nbytes for one in codes)
        self._places = [torch.empty(most, dtype=torch.uint8, device=device) for _ in range(2)]
        self._holds: list[int | None] = [None, None]
        self._copied = [self._on.Event(), self._on.Event()]
        self._stream = self._on.Stream(device)
        self._next: dict[tuple[int, int], int] = {}
        self._before, self._last, self._place = -1, -1, 0

    def fetch(self, number: int) -> torch.Tensor:
        """The codes of a weight on the device. They are there until another weight's are fetched."""
        self._next[self._before, self._last] = number
        self._before, self._last = self._last, number
        if number not in self._holds:
            self._copy(number, 1 - self._place)
        self._place = self._holds.index(number)
        self._on.current_stream().wait_event(self._copied[self._place])
        likely = self._next.get((self._before, number), number)
        if likely not in self._holds:
            self._copy(likely, 1 - self._place)
        codes = self._codes[number]
        return self._places[self._place][: codes.nbytes].view(codes.dtype).view(codes.shape)

    def _copy(self, number: int, place: int) -> None:
        """Begin to copy a weight's codes, after all products that have been asked for."""
        codes = self._codes[number]
        self._stream.wait_stream(self._on.current_stream())
        with self._on.stream(self._stream):
            self._places[place][: codes.nbytes].view(codes.dtype).view(codes.shape).copy_(codes, non_blocking=True)
            self._copied[place].record()
        self._holds[place] = number
