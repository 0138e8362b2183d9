"""Where rows come from: files here or in S3, and hub datasets. No row is read before it is asked for."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Literal, Protocol

from lorasum.config.schema import Columns, DataConfig
from lorasum.data.readers import Tick, file_type, known_types, needed_columns, read_rows
from lorasum.data.s3 import S3Object, download, find_objects
from lorasum.data.validate import Row
from lorasum.errors import DataError
from lorasum.hub import hub_commit, hub_error
from lorasum.quiet import quiet_datasets
from lorasum.remembered import recall, remember

Split = Literal["train", "test"]

_TICK_ROWS = 1024
_DIGESTS_KEPT = 1000
_SETTLED = 2.0  # seconds: a file younger than that may change again without another time stamp


class Source(Protocol):
    """One split of a dataset."""

    @property
    def name(self) -> str:
        """What messages call it: a file name, or a hub dataset and its split."""

    def identity(self) -> str:
        """A text that differs whenever the rows do."""

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        """Yield every row in order with its place, such as `train.jsonl:17` (1-based).

        Raises:
            DataError: the source cannot be read any further.
        """


def open_sources(data: DataConfig) -> dict[Split, Source]:
    """The source of each split, training first; no row is read yet.

    Raises:
        DataError: a file is missing or of an unknown type; the hub dataset does not exist or cannot be reached.
        BackendError: S3 cannot be asked.
    """
    found: dict[Split, Source] = {}
    if data.dataset:
        commit = hub_commit(data.dataset, data.revision, "dataset")
        found["train"] = HubSource(data.dataset, data.subset, data.train_split, commit, data.columns, data.streaming)
        found["test"] = HubSource(data.dataset, data.subset, data.test_split, commit, data.columns, data.streaming)
    else:
        if data.train:
            found["train"] = _files(data.train, "data.train", data.columns)
        if data.test:
            found["test"] = _files(data.test, "data.test", data.columns)
    if data.test_fraction is not None:
        whole = found["train"]
        found["train"] = Fraction(whole, data.test_fraction, data.test_seed, False, data.columns)
        found["test"] = Fraction(whole, data.test_fraction, data.test_seed, True, data.columns)
    return found


def _files(given: str | Sequence[str], field: str, columns: Columns) -> "FileSource | FileList":
    parts = [part for one in ([given] if isinstance(given, str) else given) for part in _found(one, field, columns)]
    return parts[0] if len(parts) == 1 else FileList(tuple(parts))


def _found(given: str, field: str, columns: Columns) -> "list[FileSource]":
    """The files that one address means: itself, those of a folder, or those of a pattern."""
    if given.startswith("s3://"):
        objects = find_objects(given, lambda path: file_type(path) is not None)
        if not objects:
            raise DataError(f"{field}: there is nothing of a known type at {given}", f"use {known_types()}")
        for there in objects:
            _check_type(Path(there.key), field)
        return [FileSource(there.local, columns, there) for there in objects]
    path = Path(given)
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and file_type(file)]
        if not files:
            raise DataError(f"{field}: the folder {path} holds no file of a known type", f"use {known_types()}")
    elif has_magic(given) and not path.exists():
        matches = sorted(glob(given, recursive=True))  # noqa: PTH207  an absolute pattern is what it takes
        files = [file for file in map(Path, matches) if file.is_file()]
        if not files:
            raise DataError(f"{field}: no file matches {given}", "check the pattern; ** goes into folders")
    elif path.is_file():
        files = [path]
    else:
        raise DataError(f"{field}: there is no file {path}", "check the path and that the file is there")
    for file in files:
        _check_type(file, field)
    return [FileSource(file, columns) for file in files]


def _check_type(path: Path, field: str) -> None:
    if file_type(path) is None:
        raise DataError(f"{field}: the type of {path.name} is not known", f"use {known_types()}")


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file; its suffix tells the type. With `there`, one that is downloaded when it is read."""

    path: Path
    columns: Columns
    there: S3Object | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def identity(self) -> str:
        if self.there:
            return f"s3 {self.there.bucket}/{self.there.key} {self.there.etag} {self.there.size}"
        return f"{file_type(self.path)} {_digest(self.path)}"

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        path = download(self.there) if self.there else self.path
        return read_rows(path, self.columns, tick)


@dataclass(frozen=True, slots=True)
class FileList:
    """Several files, one after another."""

    files: tuple[FileSource, ...]

    @property
    def name(self) -> str:
        return f"{self.files[0].name} and {len(self.files) - 1} more"

    def identity(self) -> str:
        return "\n".join(file.identity() for file in self.files)

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        for number, file in enumerate(self.files):
            yield from file.rows(partial(self._tick, tick, number))

    def _tick(self, tick: Tick, number: int, share: float) -> None:
        tick((number + share) / len(self.files))


@dataclass(frozen=True, slots=True)
class Fraction:
    """A part of another source, or the rest of it. A dialogue's own hash decides: equal ones never part."""

    whole: Source
    fraction: float
    seed: int
    chosen: bool
    columns: Columns

    @property
    def name(self) -> str:
        return f"{self.whole.name}, {'test' if self.chosen else 'training'} part"

    def identity(self) -> str:
        return f"{self.whole.identity()} {self.fraction} {self.seed} {self.chosen}"

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        limit = round(self.fraction * 2**64)
        for where, row in self.whole.rows(tick):
            # What cannot be read belongs to the training part: it is told of once.
            value = row.get(self.columns.dialogue) if isinstance(row, dict) else None
            text = value.strip() if isinstance(value, str) else json.dumps(value, default=str)
            digest = hashlib.blake2b(f"{self.seed} {text}".encode("utf-8", "replace"), digest_size=8).digest()
            if (value is not None and int.from_bytes(digest, "little") < limit) == self.chosen:
                yield where, row


def _digest(path: Path) -> str:
    """SHA-256 of a file's bytes. That of a file that has not been touched since is remembered."""
    try:
        stat = path.stat()
        key, state = str(path), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = recall("digests")
        if key in known and known[key][:3] == state:
            return str(known[key][3])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from error
    if time.time() - stat.st_mtime > _SETTLED:
        kept = list({**known, key: [*state, digest]}.items())[-_DIGESTS_KEPT:]
        remember("digests", dict(kept))
    return digest


@dataclass(frozen=True, slots=True)
class HubSource:
    """A split of a hub dataset at one commit."""

    dataset: str
    subset: str | None
    split: str
    commit: str
    columns: Columns
    streaming: bool = False

    @property
    def name(self) -> str:
        return f"{self.dataset}[{self.split}]"

    def identity(self) -> str:
        return f"hub {self.dataset} {self.subset} {self.split} {self.commit}"

    def rows(self, tick: Tick) -> Iterator[tuple[str, Row]]:
        if self.streaming:
            yield from self._stream()
            return
        with quiet_datasets(), _hub_errors(self.dataset):
            table = _prepared(self.dataset, self.subset, self.commit).as_dataset(split=self.split)
        table = table.select_columns(needed_columns(table.column_names, self.columns))
        for number, row in enumerate(table, 1):
            if number % _TICK_ROWS == 0:
                tick(number / len(table))
            yield f"{self.name} row {number}", row

    def _stream(self) -> Iterator[tuple[str, Row]]:
        """The rows as they come over the network; how many there are is not known before."""
        import datasets

        with quiet_datasets(), _hub_errors(self.dataset):
            stream = datasets.load_dataset(
                self.dataset, self.subset, split=self.split, revision=self.commit, streaming=True
            )
            for number, row in enumerate(stream, 1):
                yield f"{self.name} row {number}", row


@lru_cache(maxsize=1)  # both splits are of one download
def _prepared(dataset: str, subset: str | None, commit: str) -> Any:
    """The builder of a hub dataset that is downloaded and in Arrow files."""
    import datasets

    builder = datasets.load_dataset_builder(dataset, subset, revision=commit)
    if builder.hash != commit:  # without a hub the library takes any revision it has in its cache
        raise DataError(
            f"hub dataset {dataset!r} is not downloaded at {commit[:12]}, and the hub cannot be reached",
            "check the network, or pin data.revision to the commit that was downloaded",
        )
    builder.download_and_prepare()
    return builder


@contextmanager
def _hub_errors(dataset: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the library raises whatever its parsers and HTTP client do
        raise hub_error(error, dataset, "dataset") from error
