"""Packs to batches. A batch is one row: its packs one after another, without padding."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.failure import TrainingError

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100  # label of a token that is not learnt

Batch = dict[str, Any]


def load_split(dataset: Path, split: str) -> "Dataset":
    """The packs of one split, memory-mapped from disk.

    Raises:
        TrainingError: the folder is not there or holds no packs.
    """
    from datasets import load_from_disk

    if not (dataset / split).is_dir():
        raise TrainingError(f"no {split} split in {dataset}", "prepare the dataset again")
    packs = load_from_disk(str(dataset / split))
    if not len(packs):
        raise TrainingError(f"the {split} split of {dataset} is empty", "prepare the dataset again")
    return packs


def longest_example(*splits: "Dataset") -> int:
    """Tokens of the longest example of the splits; reads their lengths only."""
    import pyarrow.compute as pc

    longest: int = max(pc.max(pc.list_flatten(split.data.column("example_lengths"))).as_py() for split in splits)
    return longest


def collate(packs: Sequence[Batch], loss_on: str = "completion") -> Batch:
    """Packs → one row of whole examples. Labels and positions are derived here rather than stored.

    Args:
        packs: rows of the dataset (`input_ids`, `example_lengths`, `prompt_lengths`; ints).
        loss_on: `completion` learns the summary and EOS, `all` the prompt too.

    Returns:
        input_ids, labels, position_ids: int64, (1, tokens). The first token of an example is never learnt, so that
            nothing is predicted across a boundary; positions restart at 0 with every example.
        rows: int64, (labelled tokens,): where the next token has a label, so that no device is asked for it.
        example_lengths: list of ints, summing to tokens. A list, not a tensor: it drives host-side loops, and reading
            it back from a device would wait for the device.
    """
    ids = torch.tensor([token for pack in packs for token in pack["input_ids"]])
    lengths = [length for pack in packs for length in pack["example_lengths"]]
    prompts = [length for pack in packs for length in pack["prompt_lengths"]]
    labels = ids.clone()
    positions = torch.empty_like(ids)
    for start, length, prompt in zip(accumulate(lengths, initial=0), lengths, prompts, strict=False):
        labels[start : start + (prompt if loss_on == "completion" else 1)] = IGNORED
        positions[start : start + length] = torch.arange(length)
    return {
        "input_ids": ids[None],
        "labels": labels[None],
        "position_ids": positions[None],
        "rows": torch.nonzero(labels[1:] != IGNORED).squeeze(1),
        "example_lengths": lengths,
    }
