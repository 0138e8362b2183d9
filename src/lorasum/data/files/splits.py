"""Recognises splits by their names: `train-00000-of-00002.parquet`, and QATrain beside QATest."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

Split = Literal["train", "test"]

_KINDS = {
    "train": "train(?:ing)?",
    "test": "test(?:ing)?|eval(?:uation)?|h[eo]ld[-_ ]?out",
    "validation": "valid(?:ation|ate)?|val|dev",
}
_WORD = f"(?:{'|'.join(f'(?P<{kind}>{words})' for kind, words in _KINDS.items())})"
_NAME = re.compile(rf"(?<![a-z]){_WORD}(?:set|data)?(?![a-z])", re.IGNORECASE)  # not testCases, salesTraining
_SHARD = r"(?:[-_. ]?\d+)*(?:-of-\d+(?:-[0-9a-f]+)?)?"
_ALONE = re.compile(rf"(?:tests|{_WORD}(?:set|data)?){_SHARD}", re.IGNORECASE)
_TESTS = re.compile(rf"tests{_SHARD}", re.IGNORECASE)
_OWN = re.compile(rf"{_WORD}(?:set|data)?", re.IGNORECASE)
_PART = re.compile(rf"(?P<whole>.*{_WORD}(?:set|data)?)[-_. ]?(?:part[-_. ]?)?\d+(?:-of-\d+)?", re.IGNORECASE)
_IN_PAIRS = re.compile(rf"{_WORD}(?!er|ed|s(?![a-z]))")  # not testers, who are no split of trainers
_SUFFIXES = re.compile(r"(?:\.[a-z]+)?(?:\.(?:gz|zst|bz2|xz))?\Z", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """`train`, `test` or `validation`, by the hub's rules for file names; None if the name tells no split."""
    match = _NAME.search(name)
    return match.lastgroup if match else None


def splits_of(names: Iterable[str]) -> dict[str, str | None]:
    """The split of each name beside the others: QATest and QATrain are of one too, and `tests` beside a name of the
    training split. `train_test` is of none beside `train`.
    """
    splits = {name: split_of(name) for name in names}
    pairs = _pairs(splits)
    splits |= pairs
    train = [name for name, kind in splits.items() if kind == "train"]
    mixed = [name for name in train if name not in pairs and len({one.lastgroup for one in _NAME.finditer(name)}) > 1]
    if len(train) > len(mixed):
        splits |= dict.fromkeys(mixed)
    if train:
        splits |= {name: "test" for name in splits if _TESTS.fullmatch(_bare(name))}
    return splits


def _pairs(names: Collection[str]) -> dict[str, str | None]:
    """The splits of names that become equal where one has `train` in the place of the other's `test` or `dev`."""
    by_bare: dict[str, list[str]] = {}
    for name in names:
        by_bare.setdefault(_bare(name).lower(), []).append(name)
    pairs: dict[str, str | None] = {}
    for bare, tests in by_bare.items():
        for match in _IN_PAIRS.finditer(bare):
            for train in ("train", "training") if match.lastgroup != "train" else ():
                if trains := by_bare.get(f"{bare[: match.start()]}{train}{bare[match.end() :]}"):
                    pairs |= dict.fromkeys(trains, "train") | dict.fromkeys(tests, match.lastgroup)
    return pairs


def is_alone(name: str) -> bool:
    """Whether a name is just a split's, with a number or a date at most: `test-2024.jsonl`, not `dev-chats.jsonl`."""
    return bool(_ALONE.fullmatch(_bare(name)))


def _bare(name: str) -> str:
    return _SUFFIXES.sub("", name, count=1)


def of_split(names: Mapping[str, str | None], split: Split) -> list[str]:
    """The `names` that belong to `split`. If there is no test split, the validation split takes its place."""
    for kind in (split, "validation") if split == "test" else (split,):
        if chosen := [name for name, its in names.items() if its == kind]:
            return chosen
    return []


def without_overlap(names: Sequence[str]) -> list[str]:
    """Of names of one split the one that is just its name, such as `train` beside `train_small`; else all, if only the
    number of a part tells them apart, such as `train_1` and `train_2`. Empty where several may hold the same rows.
    """
    own = [name for name in names if name == split_of(name)] or [name for name in names if _OWN.fullmatch(name)]
    if len(own) == 1 or len(names) == 1:
        return own or list(names)
    wholes = {part["whole"] if (part := _PART.fullmatch(name)) else None for name in names}
    return list(names) if len(wholes) == 1 and None not in wholes else []
