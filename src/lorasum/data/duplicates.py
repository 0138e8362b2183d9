"""Finds exact and near duplicates, with a few bytes of memory per example."""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from lorasum.data.tokenize_pack import Tokens

_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # one per doubling: windows of 8 tokens
_KEEP_ONE_IN = 4  # windows
_NEAR = 0.5  # share of a dialogue's windows that are in one test dialogue
_LEAST_WINDOWS = 4
MOST_TEST_EXAMPLES = 100_000  # test examples to compare with, at about 200 bytes of memory each


def key(*texts: str) -> int:
    """A 64-bit hash of texts, for this process only. Different texts have the same hash once in 10^19 pairs."""
    return hash(texts) & (2**64 - 1)


class Seen:
    """A set of 64-bit keys that takes 8 bytes each: sorted arrays, merged when two have the same size."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray[Any, Any]] = []

    def add(self, keys: Sequence[int]) -> list[bool]:
        """Add keys. For each, return whether it was added before, in this call or an earlier one."""
        import numpy as np

        new = np.array(keys, np.uint64)
        known = self.contains(new)
        _, first = np.unique(new, return_index=True)
        again = np.ones(len(new), bool)
        again[first] = False
        run = np.sort(new[~known & ~again])
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)
        return list((known | again).tolist())

    def contains(self, keys: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """For each key (uint64) whether it is in the set; bool."""
        import numpy as np

        known = np.zeros(len(keys), bool)
        for run in self._runs:
            if len(run):
                known |= run[np.minimum(np.searchsorted(run, keys), len(run) - 1)] == keys
        return known


class NearDuplicates:
    """Finds dialogues that share most of their words with one of the test split.

    It compares windows of 8 tokens. A quarter of them is chosen by their hash, as in winnowing (Schleimer et al., 2003,
    "Winnowing: local algorithms for document fingerprinting"), but without its guarantee of one in every stretch.
    Windows that several test dialogues share, such as the words of the prompt, are left out.
    """

    def __init__(self) -> None:
        self._windows: list[np.ndarray[Any, Any]] = []
        self._examples = 0
        self._index: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None = None
        """The windows that one test example has, sorted, and which one that is; uint64 each."""

    def index(self, batch: "Sequence[Tokens]") -> None:
        """Add a batch of test examples to the index."""
        import numpy as np

        batch = batch[: max(MOST_TEST_EXAMPLES - self._examples, 0)]
        if batch:
            hashes, rows = _windows(batch)
            pairs = np.stack([hashes, rows.astype(np.uint64) + np.uint64(self._examples)])
            self._windows.append(np.unique(pairs, axis=1))  # a repeated window counts once
        self._examples += len(batch)

    def find(self, batch: "Sequence[Tokens]") -> list[int]:
        """For each example, the test example that it is a near or exact duplicate of, from 0; -1 if it is none."""
        import numpy as np

        values, owners = self._indexed()
        hashes, rows = _windows(batch)
        if not len(values):
            return [-1] * len(batch)
        at = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
        hit = values[at] == hashes
        windows = np.bincount(rows, minlength=len(batch))
        hits = np.bincount(rows[hit], minlength=len(batch))
        near = (hits >= _LEAST_WINDOWS) & (hits >= _NEAR * windows)
        return [_most_common(owners[at[hit & (rows == row)]]) if found else -1 for row, found in enumerate(near)]

    def _indexed(self) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
        import numpy as np

        if self._index is None:
            every = np.concatenate(self._windows, axis=1) if self._windows else np.zeros((2, 0), np.uint64)
            values, first, counts = np.unique(every[0], return_index=True, return_counts=True)
            self._index, self._windows = (values[counts == 1], every[1][first[counts == 1]]), []
        return self._index


def _most_common(values: "np.ndarray[Any, Any]") -> int:
    import numpy as np

    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _windows(batch: "Sequence[Tokens]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Hashes (uint64) of the chosen windows, and for each the index of its example in `batch`."""
    import numpy as np

    prompts = array("i")
    for tokens in batch:
        prompts.extend(tokens.ids[: tokens.prompt_length])
    ends = np.cumsum([tokens.prompt_length for tokens in batch])
    # A window of 8 is two of 4, which are two of 2 each: three multiplications rather than eight.
    hashes = np.frombuffer(prompts, np.int32).astype(np.uint64)
    width = 1
    for odd in _ODD:
        if len(hashes) <= width:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        hashes = hashes[:-width] * np.uint64(odd) + hashes[width:]
        hashes ^= hashes >> np.uint64(29)
        width *= 2
    chosen = np.flatnonzero((hashes & np.uint64(_KEEP_ONE_IN - 1)) == 0)
    rows = np.searchsorted(ends, chosen, side="right")
    whole = chosen + width <= ends[rows]
    return hashes[chosen[whole]], rows[whole]
