"""Finds the files with rows in a folder: a plain folder, one that save_to_disk wrote, or a clone from the hub.

Hidden files (macOS writes `._chats.jsonl` beside chats.jsonl), lock files, descriptions of datasets and our own schema
hold none.
"""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorasum.config.draft import SCHEMA
from lorasum.data.chats.written import objects
from lorasum.data.files.opening import Say
from lorasum.data.files.splits import Split, of_split, own_or_all, split_of
from lorasum.errors import DataError
from lorasum.formatting import listing
from lorasum.system.files import links_out

_DESCRIPTIONS = (
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", SCHEMA),
    *("dataset-metadata.json", "croissant.json", "label2id.json", "package.json", "package-lock.json"),
    *("generation_config.json", "tokenizer_config.json"),
)
_MAY_DESCRIBE = ("metadata", "manifest", "schema", "labels", "stats", "checksums")  # as JSON
_HIDDEN = (".", "~$", "__MACOSX")


def holds_rows(name: str) -> bool:
    """Whether a file of a known type holds rows, judged by its name. A lock file does not."""
    return not name.startswith(_HIDDEN) and name not in _DESCRIPTIONS


def files_in(folder: Path, split: Split, is_known: Callable[[Path], bool], say: Say) -> list[Path]:
    """The files of `folder` that hold the rows of `split`, in the order of their names.

    If all files are named by splits, such as train-00000-of-00002.parquet, and not all by one, the names decide. So do
    the names of folders, if there are no files and all folders with files are named by splits.
    Links that lead out of the folder are skipped.

    Args:
        is_known: whether a file's type is known.
        say: called with what was skipped.

    Raises:
        DataError: a folder is named by the split, and files beside it are not; or the folder cannot be read.
    """
    try:
        if (folder / "dataset_dict.json").is_file():
            saved = _saved_splits(folder, split, say)
            return [file for part in saved for file in files_in(part, split, is_known, say)]
        if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
            return _saved_files(folder)
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}", "check the folder and its permissions") from error
    files = [path for path in entries if path.is_file() and holds_rows(path.name) and is_known(path)]
    files = without_links_out(files, folder, say)
    folders = {path.name: split_of(path.name) for path in entries if path.is_dir() and holds_rows(path.name)}
    full = [name for name in folders if _holds_files(folder / name, is_known)]
    files = _without_descriptions(files, full, folder, say)
    if files:
        _check_below(full, files, split, folder, say)
        return _named(files, split, folder, say)
    if (folder / "data").is_dir():  # a clone from the hub
        return files_in(folder / "data", split, is_known, say)
    chosen = of_split(folders, split) if all(folders[name] for name in full) else []
    if not any(folders.values()) and len(holding := [one for one in folders if _holds(folder / one, is_known)]) == 1:
        chosen = holding  # a clone with one configuration
        say(folder.name, f"took its only folder with data, {chosen[0]}")
    _tell(chosen, folders, split, folder, say)
    parts = without_links_out([folder / name for name in chosen], folder, say)
    return [file for part in parts for file in files_in(part, split, is_known, say)]


def _without_descriptions(files: list[Path], full: Sequence[str], folder: Path, say: Say) -> list[Path]:
    """`files` without JSON that describes the others, such as labels.json beside train.csv and test.csv.

    Args:
        full: the folders that hold files of a known type.
    """
    stray = [path for path in files if path.suffix == ".json" and not split_of(path.name)]
    rest = [path for path in files if path not in stray]
    kinds = {split_of(path.name) for path in rest}
    if None in kinds or len(kinds) < 2 or any(path.suffix == ".json" for path in rest):
        stray = [path for path in stray if path.stem in _MAY_DESCRIBE]
    others = len(files) > len(stray) or any(name == "data" or split_of(name) for name in full)
    if not stray or not others:
        return files
    say(folder.name, f"left {some(path.name for path in stray)}, which may describe the data; name it to read it")
    return [path for path in files if path not in stray]


def _holds_files(folder: Path, is_known: Callable[[Path], bool]) -> bool:
    """Whether files of a known type are in a folder itself, as far as it may be read."""
    with suppress(OSError):
        return any(path.is_file() and holds_rows(path.name) and is_known(path) for path in folder.iterdir())
    return False


def _holds(folder: Path, is_known: Callable[[Path], bool]) -> bool:
    """Whether files of a known type are in a folder, in its `data`, or in a folder of it that is named by a split."""
    with suppress(OSError):
        inner = [path for path in folder.iterdir() if path.name == "data" or split_of(path.name)]
        return any(_holds_files(one, is_known) for one in (folder, *inner))
    return False


def _check_below(full: Sequence[str], files: Sequence[Path], split: Split, folder: Path, say: Say) -> None:
    """Tell of folders that may hold rows beside `files`.

    Args:
        full: the folders that hold files of a known type.

    Raises:
        DataError: one of them is named by `split`, and none of the files is.
    """
    below = [name for name in full if name == "data" or split_of(name)]
    named = of_split({name: split_of(name) for name in below}, split)
    if named and not of_split({path.name: split_of(path.name) for path in files}, split):
        what = f"has a folder {named[0]} for data.{split}, and {some(path.name for path in files)} beside it"
        raise DataError(f"{folder} {what}", f"name one of them, such as {folder / named[0]}, in data.{split}")
    if below:
        say(folder.name, f"took its files, and left the folder {some(below)}, which holds files of a known type too")


def without_links_out(files: Sequence[Path], folder: Path, say: Say) -> list[Path]:
    """`files` without the links that lead out of `folder`. `say` is called with those."""
    out = links_out(files, folder)
    for path in out:
        say(path.name, f"ignored: it is a link that leads out of {folder}; name it in the config to read it")
    return [path for path in files if path not in out]


def _tell(chosen: Collection[str], names: Iterable[str], split: Split, folder: Path, say: Say) -> None:
    """Say which names of a folder were taken, if any were left."""
    if chosen and (others := set(names).difference(chosen)):
        say(folder.name, f"took {some(chosen)} for data.{split}, and left {some(others)}")


def _saved_splits(folder: Path, split: Split, say: Say) -> list[Path]:
    """The folders of a split in what DatasetDict.save_to_disk wrote."""
    names = _strings(_described(folder / "dataset_dict.json").get("splits"))
    chosen = own_or_all(of_split({name: split_of(name) for name in names}, split))
    if not chosen:
        raise DataError(f"{folder} has no {split} split; it has {', '.join(names)}", "name the folder of one of them")
    _tell(chosen, names, split, folder, say)
    return [folder / name for name in chosen]


def _saved_files(folder: Path) -> list[Path]:
    """The files of what Dataset.save_to_disk wrote."""
    state = _described(folder / "state.json")
    names = [one.get("filename") for one in objects(state.get("_data_files"))]
    files = [folder / Path(name).name for name in _strings(names)]
    if state.get("_indices_data_files"):  # datasets 1: these say which rows of the files it has, in which order
        again = "load it with `datasets`, and save what its flatten_indices() returns"
        raise DataError(f"the saved dataset {folder} is a choice of the rows of its files", again)
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        what = f"lacks {missing[0]}" if missing else "names no files in its state.json"
        raise DataError(f"the saved dataset {folder} {what}", "save it again, or copy it whole")
    return files


def _described(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON in UTF-8", "save the dataset again") from error
    return described if isinstance(described, dict) else {}


def _strings(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _named(files: Sequence[Path], split: Split, folder: Path, say: Say) -> list[Path]:
    """The files named by `split` if the names tell splits apart, and else all files."""
    by_split = {path.name: split_of(path.name) for path in files}
    kinds = set(by_split.values())
    if None in kinds and len(kinds) > 1:
        others = [name for name, kind in by_split.items() if kind not in (None, split)]
        too = f", {some(others)} too" if others else ""
        unnamed = some(name for name, kind in by_split.items() if kind is None)
        say(folder.name, f"took all files for data.{split}{too}: {unnamed} has no split in its name")
    if None in kinds or len(kinds) < 2 or not (chosen := of_split(by_split, split)):
        if len(files) > 1 and card_tells_splits(folder):
            say(folder.name, f"took all files for data.{split}: {CARD_TELLS}")
        return list(files)
    _tell(chosen, by_split, split, folder, say)
    return [path for path in files if path.name in chosen]


CARD_TELLS = "README.md there says which files belong to which split: name them in data.train and data.test"


def card_tells_splits(folder: Path) -> bool:
    """Whether the card of a dataset from the hub says which of its files belong to which split."""
    card = folder / "README.md"
    return card.is_file() and "data_files:" in card.read_text(encoding="utf-8", errors="replace")


def some(names: Iterable[str]) -> str:
    """A few names, for messages."""
    return listing(sorted(names), 3)
