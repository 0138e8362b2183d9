"""Reads which files belong to which split in the card of a dataset, the README.md of a clone from the hub.

configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorasum.data.chats.written import objects
from lorasum.data.files.opening import Say
from lorasum.data.files.splits import Split, of_split, splits_of, without_overlap
from lorasum.errors import DataError
from lorasum.formatting import some

_SIDES: tuple[Split, ...] = ("train", "test")
_HEAD = 2**18  # characters
_TRUE = ("true", "yes", "on")
CARD_TELLS = "README.md there says which files belong to which split: name them in data.train and data.test"
_FRONT = re.compile(r"\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def files_by_card(
    folder: Path, split: Split, holds_rows: Callable[[str], bool], is_known: Callable[[Path], bool], say: Say
) -> list[Path]:
    """The files of a split, in the order of the card; none where there is no card, or the names of files decide.

    They do where the card has several configurations and none is the default one, where it tells no split that we know,
    and where it names addresses or no file of the folder. `say` is called with what was taken and left.

    Raises:
        DataError: it names files outside of the folder, or splits and none of them is `split`, or several are; a file
            that it gives to data.train or data.test is missing or of no known type, or may be of the other one.
    """
    patterns, data_dir = _patterns(folder / "README.md")
    if not patterns:
        return []
    sides = {side: without_overlap(of_split(splits_of(patterns), side)) for side in _SIDES}
    given = {side: [pattern for name in sides[side] for pattern in patterns[name]] for side in _SIDES}
    if outside := next((one for side in _SIDES for one in given[side] if ".." in Path(one).parts), None):
        raise _unclear(folder, split, f"names a file outside of it: {outside}")
    matches = {one: _matches(folder, one, holds_rows) for several in patterns.values() for one in several}
    if why := _not_followed(patterns, data_dir, matches):
        say(folder.name, f"its README.md {why}: the names of its files tell their splits")
        return []
    if not given[split]:
        instead = ", or set data.test_fraction in its place" if split == "test" else ""
        raise _unclear(folder, split, f"names no one split for data.{split}; it has {', '.join(patterns)}", instead)
    files = {side: [*dict.fromkeys(path for one in given[side] for path in matches[one])] for side in _SIDES}
    for side in _SIDES:
        for pattern in given[side]:
            _check_pattern(folder, pattern, matches[pattern], side, is_known)
    names = {side: {str(path.relative_to(folder)) for path in files[side]} for side in _SIDES}
    if both := names["train"] & names["test"]:
        raise _unclear(folder, split, f"gives {some(both)} to data.train and to data.test")
    rows = {str(path.relative_to(folder)) for path in _matches(folder, "**", holds_rows) if is_known(path)}
    left, taken = rows - names["train"] - names["test"], some(names[split])
    too = f", and left {some(left)}, which it names for neither side" if left else ""
    say(folder.name, f"took {taken} for data.{split}, as its README.md says{too}")
    return files[split]


def card_tells_splits(folder: Path) -> bool:
    """Whether the card of a dataset from the hub says which of its files belong to which split."""
    card = folder / "README.md"
    return card.is_file() and "data_files:" in card.read_text(encoding="utf-8", errors="replace")


def _not_followed(splits: Iterable[str], data_dir: bool, matches: Mapping[str, Collection[Path]]) -> str:
    """Why the names of files tell more than a card; empty if they do not."""
    if data_dir:
        return "has a data_dir, which is not read"
    if not any(splits_of(splits).values()):
        return f"tells the splits {some(splits)}, and which of them is to be read is not known"
    if any("://" in pattern or Path(pattern).is_absolute() for pattern in matches):
        return "names addresses, which are not read"
    return "" if any(matches.values()) else "names none of the files in it"


def _matches(folder: Path, pattern: str, holds_rows: Callable[[str], bool]) -> list[Path]:
    """The files that may hold rows and match; none if it is no pattern. `**` at the end means all files below."""
    if "://" in pattern or Path(pattern).is_absolute():
        return []
    try:
        found = sorted(folder.glob(f"{pattern}/*" if pattern.endswith("**") else pattern))
    except (ValueError, IndexError, AttributeError, NotImplementedError):  # for `./`, `a**b` and the like
        return []
    files = (path for path in found if path.name != "README.md" and path.is_file())
    return [path for path in files if all(map(holds_rows, path.relative_to(folder).parts))]


def _check_pattern(
    folder: Path, pattern: str, found: Sequence[Path], side: Split, is_known: Callable[[Path], bool]
) -> None:
    """Refuse a pattern that matches nothing, a file that cannot be read, or what names tell to be of other splits."""
    if not found:
        raise _unclear(folder, side, f"names a file that is not there: {pattern}")
    if unknown := [path.name for path in found if not is_known(path)]:
        raise _unclear(folder, side, f"names {some(unknown)} for data.{side}, whose type is not known")
    inner = [path.relative_to(folder) for path in found]
    for names in ([path.name for path in inner], [str(path.parent) for path in inner]):
        splits = splits_of(names)
        others = [name for name, kind in splits.items() if kind not in (None, side)]
        if others and len({*splits.values()}) > 1:
            raise _unclear(folder, side, f"gives {some(others)} to data.{side}, by the pattern {pattern}")


def _unclear(folder: Path, split: Split, what: str, instead: str = "") -> DataError:
    return DataError(f"README.md in {folder} {what}", f"name the files to read in data.{split}{instead}")


def _patterns(card: Path) -> tuple[dict[str, list[str]], bool]:
    """The patterns of files by split, of the default configuration, and whether it has a folder of its own. Empty if
    the card does not tell.
    """
    configs = [config for config in objects(_described(card).get("configs")) if config.get("data_files")]
    defaults = [
        one for one in configs if str(one.get("default")).lower() in _TRUE or one.get("config_name") == "default"
    ]
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
    return patterns, bool(config.get("data_dir"))


def _described(card: Path) -> Mapping[str, Any]:
    """The data above the text of a card."""
    import yaml

    with suppress(OSError, yaml.YAMLError, RecursionError, ValueError, OverflowError):
        with card.open(encoding="utf-8", errors="replace") as file:
            front = _FRONT.match(file.read(_HEAD))
        # its scalars stay text: `2024-02-30` is no error
        described = yaml.load(front[1], yaml.BaseLoader) if front else None  # noqa: S506
        return described if isinstance(described, Mapping) else {}
    return {}
