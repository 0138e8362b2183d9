"""The sources of rows: local files, files in S3, and hub datasets. Opening a source reads no row."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import Protocol

from lorasum.config.data import Columns, DataConfig
from lorasum.data.files.card import CARD_TELLS, card_tells_splits
from lorasum.data.files.digests import digests
from lorasum.data.files.folders import chosen_files, files_in, holds_rows, without_links_out
from lorasum.data.files.opening import Say
from lorasum.data.files.readers import file_type, known_types, read_rows
from lorasum.data.files.reading import Reading, Tick, unsaid
from lorasum.data.files.s3 import S3Login, S3Object, download, find_objects
from lorasum.data.files.splits import Split, of_split, splits_of
from lorasum.data.fraction import Division, Fraction
from lorasum.data.hub_source import HubSource
from lorasum.data.tally import Row
from lorasum.errors import DataError
from lorasum.formatting import some
from lorasum.models.hub import hub_commit
from lorasum.system.paths import doc

_ENVIRONMENT = S3Login()
__all__ = ["FileList", "FileSource", "Source", "Split", "files_of", "open_files", "open_sources", "whole_name"]


class Source(Protocol):
    """One split of a dataset."""

    @property
    def name(self) -> str:
        """Its name in messages: a file name, or a hub dataset and its split."""

    def identity(self) -> str:
        """A text that differs whenever the rows differ."""

    def rows(self, tick: Tick, say: Say = unsaid) -> Iterator[tuple[str, Row]]:
        """Yield every row in order with its place, such as `train.jsonl:17` (1-based).

        Args:
            say: is told what is odd about a file, such as its encoding.

        Raises:
            DataError: the source cannot be read any further.
        """


def open_sources(
    data: DataConfig, say: Say = unsaid, commit: str | None = None, login: S3Login = _ENVIRONMENT
) -> dict[Split, Source]:
    """The source of each split, training first; no row is read yet.

    Args:
        say: is told which files of a folder were ignored.
        commit: of the hub dataset; without it the hub is asked what `data.revision` is now.
        login: as whom S3 is asked.

    Raises:
        DataError: a file is missing or of an unknown type; the hub dataset does not exist or cannot be reached.
        BackendError: S3 cannot be asked.
    """
    sources: dict[Split, Source] = {}
    if data.dataset:
        commit = commit or hub_commit(data.dataset, data.revision, "dataset")
        hub = partial(
            HubSource,
            commit=commit,
            columns=data.columns,
            streaming=data.streaming,
            speakers=(*data.messages.speakers,),
        )
        sources["train"] = hub(data.dataset, data.subset, data.train_split)
        sources["test"] = hub(data.dataset, data.subset, data.test_split)
    else:
        if data.train:
            sources["train"] = open_files(data.train, "train", data, say, login)
        if data.test:
            sources["test"] = open_files(data.test, "test", data, say, login)
        _tell_of_same_files(sources, say)
    if data.test_fraction is not None:
        division = Division(sources["train"], data)
        sources["train"] = Fraction(division, chosen=False)
        sources["test"] = Fraction(division, chosen=True)
    return sources


def _tell_of_same_files(sources: Mapping[Split, Source], say: Say) -> None:
    """Say which files both splits have. One file may be a try, and a JSON document may hold both splits."""
    files = [{one.path for one in files_of(source)} for source in sources.values()]
    if len(files) < 2 or max(map(len, files)) < 2:
        return
    if both := [path.name for path in files[0] & files[1] if file_type(path) != ".json"]:
        what = (
            f"the same {len(files[0])} files as data.train" if files[0] == files[1] else f"{some(both)} of data.train"
        )
        say("data.test", f"has {what}: name others, or set data.test_fraction")


def files_of(source: Source) -> "tuple[FileSource, ...]":
    """The files that a source is; none of a hub dataset or a fraction."""
    if isinstance(source, FileList):
        return source.files
    return (source,) if isinstance(source, FileSource) else ()


def whole_name(source: Source) -> str:
    """The name of what a source is, or is a part of."""
    return source.division.whole.name if isinstance(source, Fraction) else source.name


def open_files(
    given: str | Sequence[str], split: Split, data: DataConfig, say: Say = unsaid, login: S3Login = _ENVIRONMENT
) -> "FileSource | FileList":
    """The files of a split, as `open_sources` opens them."""
    speakers = tuple(data.messages.speakers)
    parts: list[FileSource] = []
    for address in [given] if isinstance(given, str) else given:
        if address.startswith("s3://"):
            parts += [
                FileSource(one.local, data.columns, split, one, speakers)
                for one in _objects(address, split, say, login)
            ]
        else:
            parts += [FileSource(file, data.columns, split, None, speakers) for file in _paths(address, split, say)]
    return parts[0] if len(parts) == 1 else FileList(tuple(parts))


def _objects(address: str, split: Split, say: Say, login: S3Login) -> list[S3Object]:
    """The objects of an address: one itself, those of a folder, or those of a pattern."""
    objects, below = find_objects(address, lambda path: file_type(path) is not None and holds_rows(path.name), login)
    if not objects:
        raise DataError(f"data.{split}: there is nothing of a known type at {address}", f"use {known_types()}")
    for one in objects:
        _check_type(Path(one.key), split)
    if has_magic(address) or f"s3://{objects[0].bucket}/{objects[0].key}" == address:
        return objects
    chosen = chosen_files([Path(one.key).name for one in objects], below, split, address, say)
    return [one for one in objects if Path(one.key).name in chosen]


def _paths(given: str, split: Split, say: Say) -> list[Path]:
    """The files of a path: one itself, those of a folder, or those of a pattern."""
    field, path = f"data.{split}", Path(given)
    if path.is_dir():
        files = files_in(path, split, lambda file: file_type(file) is not None, say)
        if not files and any(file.is_symlink() and file.is_file() and file_type(file) for file in path.iterdir()):
            use = "name the files in the config, or copy what they lead to"
            raise DataError(f"{field}: the files of the folder {path} are links that lead out of it", use)
        if not files:
            raise DataError(
                f"{field}: the folder {path} holds no file of a known type{_instead(path)}", _use(path, split)
            )
    elif has_magic(given) and not path.exists():
        matches = sorted(glob(given, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
        files = [file for file in map(Path, matches) if file.is_file() and not file.name.startswith("~$")]
        files = without_links_out(files, _fixed_part(path), say)
        if not files:
            raise DataError(f"{field}: no file matches {given}", "check the pattern; ** goes into folders")
    elif path.is_file():
        files = [path]
    else:
        raise DataError(f"{field}: there is no file {given}", _where_else(given))
    for file in files:
        _check_type(file, split)
    return files


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part of a pattern that has a wildcard."""
    return next(parent for parent in pattern.parents if not has_magic(str(parent)))


def _instead(folder: Path) -> str:
    """What a folder without rows holds, for the message."""
    entries = [f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir() if holds_rows(path.name)]
    return f"; it holds {some(entries)}" if entries else ""


def _use(folder: Path, split: Split) -> str:
    if card_tells_splits(folder):
        return CARD_TELLS
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and holds_rows(path.name))
    splits = splits_of(folders)
    likely = [*of_split(splits, split), *(name for name in folders if splits[name] is None)]
    if likely:
        return f"name one of its folders, such as {folder / likely[0]}"
    if folders:
        return f"name what to read in data.{split}"
    chats = any(path.suffix.lower() in (".txt", ".zip") for path in folder.iterdir())
    return f"{doc('chats')} shows how exported chats become rows" if chats else f"use {known_types()}"


def _where_else(given: str) -> str:
    """What to do about a file that is not there."""
    if "://" in given:
        return "download it, and name the file; of addresses, s3:// is read"
    hub = "; a dataset of the hub is named by data.dataset" if re.fullmatch(r"[\w-]+/[\w-]+", given) else ""
    return f"check the path and that the file is there{hub}"


def _check_type(path: Path, split: Split) -> None:
    if file_type(path) is None:
        instead = {
            **dict.fromkeys((".xlsx", ".xls"), "in Excel, save it as 'CSV UTF-8'; or "),
            ".zip": f"{doc('chats')} shows how exported chats become rows; ",
            ".jl": "if it has a JSON object in each line, call it .jsonl; ",
            ".pq": "call it .parquet; ",
            ".ipc": "call it .arrow; ",
            ".tab": "call it .tsv; ",
            ".txt": f"{doc('chats')} shows how exported chats become rows; call a table .csv, lines of JSON .jsonl; ",
        }.get(path.suffix.lower(), "")
        raise DataError(f"data.{split}: the type of {path.name} is not known", f"{instead}use {known_types()}")


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file. Its suffix tells the type. With `remote` it is an object in S3, which is downloaded when it is read."""

    path: Path
    columns: Columns
    split: Split = "train"
    remote: S3Object | None = None
    speakers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def identity(self) -> str:
        """Its type and digest, or its version in S3."""
        return _identities([self])[0]

    def rows(self, tick: Tick, say: Say = unsaid) -> Iterator[tuple[str, Row]]:
        """Yield every row with its place."""
        path = download(self.remote) if self.remote else self.path
        return read_rows(Reading(path, self.columns, self.split, tick, say, speakers=self.speakers))


@dataclass(frozen=True, slots=True)
class FileList:
    """Several files, one after another."""

    files: tuple[FileSource, ...]

    @property
    def name(self) -> str:
        """The first file's name, and how many more there are."""
        return f"{self.files[0].name} and {len(self.files) - 1} more"

    def identity(self) -> str:
        """The identities of its files."""
        return "\n".join(_identities(self.files))

    def rows(self, tick: Tick, say: Say = unsaid) -> Iterator[tuple[str, Row]]:
        """Yield every row with its place."""
        for number, file in enumerate(self.files):
            yield from file.rows(partial(self._tick, tick, number), say)

    def _tick(self, tick: Tick, number: int, share: float) -> None:
        tick((number + share) / len(self.files))


def _identities(files: Sequence[FileSource]) -> list[str]:
    here = iter(digests([file.path for file in files if not file.remote]))
    return [
        f"s3 {remote.bucket}/{remote.key} {remote.etag} {remote.size}"
        if (remote := file.remote)
        else f"{file_type(file.path)} {next(here)}"
        for file in files
    ]
