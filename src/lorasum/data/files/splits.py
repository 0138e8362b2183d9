"""Recognises splits by their names: `train-00000-of-00002.parquet` and `trainset2` are of the training split."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

Split = Literal["train", "test"]

_KINDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation", "holdout", "heldout"),
    "validation": ("validation", "validate", "valid", "val", "dev"),
}
_NAMES = "|".join(name for names in _KINDS.values() for name in names)
_NAME = re.compile(rf"(?<![a-z])({_NAMES})(?:set|data)?(?![a-z])", re.IGNORECASE)  # not testCases, salesTraining


def split_of(name: str) -> str | None:
    """`train`, `test` or `validation`, by the hub's rules for file names; None if the name tells no split."""
    match = _NAME.search(name)
    return next((kind for kind, names in _KINDS.items() if match[1].lower() in names), None) if match else None


def of_split(names: Mapping[str, str | None], split: Split) -> list[str]:
    """The `names` that belong to `split`. If there is no test split, the validation split takes its place."""
    for kind in (split, "validation") if split == "test" else (split,):
        if chosen := [name for name, its in names.items() if its == kind]:
            return chosen
    return []


def own_or_all(names: Sequence[str]) -> list[str]:
    """Of names of one split those that are just its name, and else all: `train` without `train_small`, but `train_1`
    and `train_2`."""
    return [name for name in names if name == split_of(name)] or list(names)
