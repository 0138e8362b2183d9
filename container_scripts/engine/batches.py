"""Packs to batches: a batch is one row of whole examples, one after another, without padding.

A pack of two examples, of 4 and 3 tokens, whose prompts have 2 and 1 (2 is the EOS token, -100 is not learnt):

                      first example        second example
    input_ids       11    12    13     2    21    22     2
    labels        -100  -100    13     2  -100    22     2      loss_on: completion
    labels        -100    12    13     2  -100    22     2      loss_on: all
    position_ids     0     1     2     3     0     1     2
    rows                   1     2           4     5            loss_on: completion

    example_lengths = [4, 3]    prompt_lengths = [2, 1]    labelled = [2, 2]

The model predicts token i + 1 at token i, so `rows` are the tokens before a label: only there is the head multiplied
(loss.py). Positions restart at 0 with every example, and attention stays inside the example (attention.py draws the
mask). The dataset stores ids and the two lists of lengths; everything else is derived here.

Several packs in a batch are one longer row, (1, T), not a padded (packs, longest). So nothing is spent on padding: a
batch of packs with 2,048 and 700 tokens costs 2,748 tokens instead of 4,096.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from shared.names import EXAMPLE_LENGTHS, INPUT_IDS, PROMPT_LENGTHS

IGNORED = -100
"""The label of a token that is not learnt, as in PyTorch's cross_entropy."""

LABELLED = "labelled"

Batch = dict[str, Any]
"""A row of the dataset, or what collate makes of several."""


def collate(packs: Sequence[Batch], loss_on: str = "completion") -> Batch:
    """Packs → one row of whole examples, as drawn at the head of this module.

    Args:
        packs: rows of the dataset: `input_ids`, `example_lengths` and `prompt_lengths`, each a list of ints.
        loss_on: `completion` (the summary and EOS are learnt) or `all` (the prompt too).

    Returns:
        input_ids, labels, position_ids: (1, tokens) int64. The first token of an example never has a label, so nothing
            is predicted across a boundary.
        rows: (labelled tokens,) int64: the tokens whose next token has a label. Made here, on the host: finding them
            on a GPU would wait for the GPU.
        example_lengths: list of ints whose sum is `tokens`. A list and not a tensor, because loops on the host run over
            it, and reading a tensor back from a GPU would wait for the GPU.
        labelled: list of ints: how many of `rows` each example has.
    """
    ids = torch.tensor([token for pack in packs for token in pack[INPUT_IDS]])
    lengths = [length for pack in packs for length in pack[EXAMPLE_LENGTHS]]
    prompts = [length for pack in packs for length in pack[PROMPT_LENGTHS]]
    unlearnt = prompts if loss_on == "completion" else [1] * len(lengths)
    labels = ids.clone()
    positions = torch.empty_like(ids)
    for start, length, ignored in zip(accumulate(lengths, initial=0), lengths, unlearnt, strict=False):
        labels[start : start + ignored] = IGNORED
        positions[start : start + length] = torch.arange(length)
    return {
        "input_ids": ids[None],
        "labels": labels[None],
        "position_ids": positions[None],
        "rows": torch.nonzero(labels[1:] != IGNORED).squeeze(1),
        EXAMPLE_LENGTHS: lengths,
        LABELLED: [length - ignored for length, ignored in zip(lengths, unlearnt, strict=True)],
    }


def on_device(batch: Batch, device: torch.device) -> Batch:
    """`batch` with its tensors on the device. On a GPU the copy does not wait for what the GPU is doing."""
    if device.type != "cuda":
        return batch
    return {
        name: value.pin_memory().to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
