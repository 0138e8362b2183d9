"""Reads which files belong to which split in the card of a dataset, the README.md of a clone from the hub.

configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorasum.data.chats.written import objects
from lorasum.data.files.splits import Split, of_split, splits_of, without_overlap
from lorasum.errors import DataError

_HEAD = 2**18  # characters
_FRONT = re.compile(r"\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def files_by_card(folder: Path, split: Split) -> list[Path]:
    """The files of a split, in the order of the card; none where there is no card, or it does not tell.

    It does not tell where it has several configurations and none is the default one, or where no file is there that it
    names for `split`.

    Raises:
        DataError: it names files outside of the folder, or splits and none of them is `split`, or several are.
    """
    patterns = _patterns(folder / "README.md")
    if not patterns:
        return []
    chosen = without_overlap(of_split(splits_of(patterns), split))
    if not chosen:
        instead = ", or set data.test_fraction in its place" if split == "test" else ""
        raise DataError(
            f"README.md in {folder} names no one split for data.{split}; it has {', '.join(patterns)}",
            f"name the files to read in data.{split}{instead}",
        )
    given = [pattern for name in chosen for pattern in patterns[name]]
    for pattern in given:
        if "://" in pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            what = f"README.md in {folder} names a file outside of it: {pattern}"
            raise DataError(what, f"name the files in data.{split}")
    found = [path for pattern in given for path in sorted(folder.glob(pattern)) if path.is_file()]
    return list(dict.fromkeys(found))


def _patterns(card: Path) -> dict[str, list[str]]:
    """The patterns of files by split, of the default configuration; empty if the card does not tell."""
    configs = [config for config in objects(_described(card).get("configs")) if config.get("data_files")]
    defaults = [one for one in configs if one.get("default") is True or one.get("config_name") == "default"]
    config = next((few[0] for few in (defaults, configs) if len(few) == 1), {})
    given = config.get("data_files")
    if isinstance(given, Mapping):
        given = [{"split": name, "path": paths} for name, paths in given.items()]
    patterns: dict[str, list[str]] = {}
    for part in objects(given):
        paths = part.get("path")
        several = paths if isinstance(paths, list) else [paths]
        patterns.setdefault(str(part.get("split")), []).extend(
            path for path in several if path and isinstance(path, str)
        )
    return patterns


def _described(card: Path) -> Mapping[str, Any]:
    """The data above the text of a card."""
    import yaml

    with suppress(OSError, yaml.YAMLError, RecursionError):
        with card.open(encoding="utf-8", errors="replace") as file:
            front = _FRONT.match(file.read(_HEAD))
        described = yaml.safe_load(front[1]) if front else None
        return described if isinstance(described, Mapping) else {}
    return {}
