"""Finds the files with rows in a folder: a plain folder, one that save_to_disk wrote, or a clone from the hub.

Hidden files (macOS writes `._chats.jsonl` beside chats.jsonl), lock files, descriptions of datasets and our own schema
hold none.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorasum.config.draft import SCHEMA
from lorasum.data.chats.written import objects
from lorasum.data.files.card import CARD_TELLS, card_tells_splits, files_by_card
from lorasum.data.files.opening import Say
from lorasum.data.files.splits import Split, is_alone, of_split, split_of, splits_of, without_overlap
from lorasum.errors import DataError
from lorasum.formatting import some
from lorasum.system.files import links_out

_DESCRIPTIONS = (
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", SCHEMA),
    *("dataset-metadata.json", "croissant.json", "label2id.json", "package.json", "package-lock.json"),
    *("generation_config.json", "tokenizer_config.json"),
)
_MAY_DESCRIBE = ("metadata", "manifest", "schema", "labels", "stats", "checksums")  # as JSON
_FOLD = re.compile(r"(?<![a-z])fold[-_ ]?\d+", re.IGNORECASE)
_HIDDEN = (".", "~$", "__MACOSX")


def holds_rows(name: str) -> bool:
    """Whether a file of a known type holds rows, judged by its name. A lock file does not."""
    return not name.startswith(_HIDDEN) and name not in _DESCRIPTIONS


def files_in(folder: Path, split: Split, is_known: Callable[[Path], bool], say: Say) -> list[Path]:
    """The files of `folder` that hold the rows of `split`, in the order of their names.

    Where one of the files is named by the training split, or all by splits, such as train-00000-of-00002.parquet, the
    names decide. So do the names of folders, if there are no files. Links that lead out of the folder are skipped.

    Args:
        is_known: whether a file's type is known.
        say: called with what was skipped.

    Raises:
        DataError: the names tell that no file or folder is of `split`, or that a folder is, and files beside it are
            not; or the folder cannot be read.
    """
    try:
        if (folder / "dataset_dict.json").is_file():
            saved = _saved_splits(folder, split, say)
            return [file for part in saved for file in files_in(part, split, is_known, say)]
        if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
            return _saved_files(folder)
        if of_card := files_by_card(folder, split, holds_rows, is_known, say):
            return without_links_out(of_card, folder, say)
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}", "check the folder and its permissions") from error
    files = [path for path in entries if path.is_file() and holds_rows(path.name) and is_known(path)]
    files = without_links_out(files, folder, say)
    folders = [path.name for path in entries if path.is_dir() and holds_rows(path.name)]
    full = [name for name in folders if _holds_files(folder / name, is_known)]
    names = [path.name for path in files]
    if chosen := chosen_files(names, full, split, str(folder), say):
        if len(chosen) == len(names) > 1 and card_tells_splits(folder):
            say(folder.name, f"took all files for data.{split}: {CARD_TELLS}")
        return [folder / name for name in chosen]
    if (folder / "data").is_dir():  # a clone from the hub
        return files_in(folder / "data", split, is_known, say)
    parts = _chosen_folders(folders, split, folder, is_known, say)
    return [file for part in parts for file in files_in(part, split, is_known, say)]


def _chosen_folders(
    folders: Sequence[str], split: Split, folder: Path, is_known: Callable[[Path], bool], say: Say
) -> list[Path]:
    """The folders in `folder` that are of `split`, or its only one; none where others may be of it too."""
    splits = splits_of(folders)
    named = {name: kind for name, kind in splits.items() if kind and any(map(is_known, (folder / name).rglob("*")))}
    unnamed = [name for name, kind in splits.items() if not kind and _holds_files(folder / name, is_known)]
    chosen: list[str] = []
    if "train" in named.values() or any(map(is_alone, named)) or not unnamed:
        chosen = of_split(named, split)
    holding = [name for name, kind in splits.items() if not kind and _holds(folder / name, is_known)]
    if not named and len(holding) == 1:  # a clone with one configuration
        chosen = holding
        say(folder.name, f"took its only folder with data, {chosen[0]}")
    _tell(chosen, splits, split, folder.name, say, unnamed)
    _check_folds(chosen, split, str(folder))
    return without_links_out([folder / name for name in chosen], folder, say)


def chosen_files(files: Sequence[str], full: Sequence[str], split: Split, folder: str, say: Say) -> list[str]:
    """The names of a folder's files that are of `split`; all of them where their names do not tell.

    Args:
        full: the folders in it that hold files of a known type.
        folder: its path or address.

    Raises:
        DataError: no file is of `split` by its name, or a folder is and no file.
    """
    full = [name for name in full if holds_rows(name)]
    splits = splits_of([*files, *full])
    below = [name for name in full if name == "data" or splits[name]]
    names = _without_descriptions(files, below, Path(folder).name, say)
    if names:
        _check_below(below, {name: splits[name] for name in (*names, *below)}, split, folder, say)
    return _named({name: splits[name] for name in names}, split, folder, say)


def _named(splits: Mapping[str, str | None], split: Split, folder: str, say: Say) -> list[str]:
    """The names of `split`; all where they do not tell.

    They tell where all are named by splits, one is named by the training split, or one is just a split's name.
    """
    where = Path(folder).name
    unnamed = [name for name, kind in splits.items() if kind is None]
    told = not unnamed or "train" in splits.values() or any(kind and is_alone(name) for name, kind in splits.items())
    chosen = of_split(splits, split) or (unnamed if split == "train" else [])
    if told and chosen:
        _tell(chosen, splits, split, where, say, unnamed)
        _check_folds(chosen, split, folder)
        return chosen
    if splits and told and (split == "test" or len({*splits.values()}) > 1):
        instead = ", or set data.test_fraction in its place" if split == "test" else ""
        raise DataError(
            f"{folder} has no files for data.{split}; it has {some(splits)}",
            f"name those to read in data.{split}{instead}",
        )
    if any(splits.values()):
        others = [name for name, kind in splits.items() if kind not in (None, split)]
        too = f", {some(others)} too" if others else ""
        why = f": {some(unnamed)} has no split in its name" if unnamed else ""
        say(where, f"took all files for data.{split}{too}{why}")
    return list(splits)


def _check_folds(chosen: Sequence[str], split: Split, folder: str) -> None:
    """Refuse the files of several folds of a cross-validation: the training rows of one are the test rows of others."""
    if len({fold[0].lower() for name in chosen if (fold := _FOLD.search(name))}) > 1:
        one = "name the files of one fold in data.train and data.test"
        raise DataError(f"{folder} has several folds for data.{split}: {some(chosen)}", one)


def _without_descriptions(names: Sequence[str], below: Sequence[str], where: str, say: Say) -> list[str]:
    """The names of a folder's files without those that describe the others, such as metadata.json beside chats.jsonl.

    Args:
        below: the folders there that may hold rows.
        where: the folder's name, for messages.
    """
    stray = [name for name in names if name.removesuffix(".json") in _MAY_DESCRIBE]
    if not stray or not (len(names) > len(stray) or below):
        return list(names)
    say(where, f"left {some(stray)}, which may describe the data; name it to read it")
    return [name for name in names if name not in stray]


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


def _check_below(below: Sequence[str], splits: Mapping[str, str | None], split: Split, folder: str, say: Say) -> None:
    """Tell of the folders `below`, which may hold rows, beside files.

    Args:
        splits: by the names of both.

    Raises:
        DataError: one of the folders is named by `split`, and none of the files is.
    """
    files = {name: kind for name, kind in splits.items() if name not in below}
    named = of_split({name: splits[name] for name in below}, split)
    if named and not of_split(files, split):
        what = f"has a folder {named[0]} for data.{split}, and {some(files)} beside it"
        one = f"{folder.rstrip('/')}/{named[0]}"
        raise DataError(f"{folder} {what}", f"name one of them, such as {one}, in data.{split}")
    if below:
        say(
            Path(folder).name,
            f"took its files, and left the folder {some(below)}, which holds files of a known type too",
        )


def without_links_out(files: Sequence[Path], folder: Path, say: Say) -> list[Path]:
    """`files` without the links that lead out of `folder`. `say` is called with those."""
    out = links_out(files, folder)
    for path in out:
        say(path.name, f"ignored: it is a link that leads out of {folder}; name it in the config to read it")
    return [path for path in files if path not in out]


def _tell(
    chosen: Collection[str], names: Iterable[str], split: Split, where: str, say: Say, readable: Collection[str] = ()
) -> None:
    """Say which names of a folder were taken, if any were left.

    Args:
        readable: names of no split that can be read too.
    """
    if chosen and (others := set(names).difference(chosen)):
        unnamed = others.intersection(readable)
        too = f"; name {some(unnamed)} in data.{split} to read {'it' if len(unnamed) == 1 else 'them'} too"
        say(where, f"took {some(chosen)} for data.{split}, and left {some(others)}{too if unnamed else ''}")


def _saved_splits(folder: Path, split: Split, say: Say) -> list[Path]:
    """The folders of a split in what DatasetDict.save_to_disk wrote."""
    names = _strings(_described(folder / "dataset_dict.json").get("splits"))
    splits = splits_of(names)
    named = of_split(splits, split)
    if not named:
        raise DataError(f"{folder} has no {split} split; it has {', '.join(names)}", "name the folder of one of them")
    chosen = without_overlap(named)
    if not chosen:
        raise DataError(f"{folder} has several {split} splits: {', '.join(named)}", "name the folder of one of them")
    _tell(chosen, names, split, folder.name, say, [name for name in names if not splits[name]])
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
