"""A hub dataset as a source of rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lorasum.config.data import Columns
from lorasum.data.files.class_labels import labelled, with_names
from lorasum.data.files.opening import Say
from lorasum.data.files.reading import TICK_ROWS, Tick, needed_columns, unsaid
from lorasum.data.tally import Row
from lorasum.errors import DataError
from lorasum.models.hub import asking_hub, hub_error
from lorasum.models.quiet import quiet_datasets


@dataclass(frozen=True, slots=True)
class HubSource:
    """A split of a hub dataset at one commit."""

    dataset: str
    subset: str | None
    split: str
    commit: str
    columns: Columns
    streaming: bool = False
    speakers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Dataset and split."""
        return f"{self.dataset}[{self.split}]"

    def identity(self) -> str:
        """Dataset, subset, split and commit."""
        return f"hub {self.dataset} {self.subset} {self.split} {self.commit}"

    def rows(self, tick: Tick, say: Say = unsaid) -> Iterator[tuple[str, Row]]:
        """Yield every row with its place."""
        if self.streaming:
            yield from self._stream()
            return
        with quiet_datasets(), _hub_errors(self.dataset), asking_hub():
            table = _prepared(self.dataset, self.subset, self.commit).as_dataset(split=self.split)
        table = table.select_columns(needed_columns(self.name, table.column_names, self.columns))
        features = labelled(table.features.to_dict())
        for number, row in enumerate(table, 1):
            if number % TICK_ROWS == 0:
                tick(number / len(table))
            yield f"{self.name} row {number}", with_names(row, features, self.speakers)

    def _stream(self) -> Iterator[tuple[str, Row]]:
        """The rows as the network delivers them. Their number is not known before."""
        import datasets

        with quiet_datasets(), _hub_errors(self.dataset), asking_hub():
            stream = datasets.load_dataset(
                self.dataset, self.subset, split=self.split, revision=self.commit, streaming=True
            )
            features = labelled(stream.features.to_dict()) if stream.features else None
            for number, row in enumerate(stream, 1):
                yield f"{self.name} row {number}", with_names(row, features, self.speakers)


@lru_cache(maxsize=1)  # both splits come from one download
def _prepared(dataset: str, subset: str | None, commit: str) -> Any:
    """The builder of a hub dataset that is downloaded and in Arrow files."""
    import datasets

    builder = datasets.load_dataset_builder(dataset, subset, revision=commit)
    if builder.hash != commit:  # offline, the library takes any revision in its cache
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
    except Exception as error:  # the library documents none
        differing = next((line for line in str(error).splitlines() if "must have the same columns" in line), None)
        if differing:
            raise DataError(
                f"hub dataset {dataset!r}: its files differ in their columns ({differing.strip()})",
                "set data.subset to one of its configurations, or download the files that you need and name them in "
                "data.train and data.test",
            ) from error
        raise hub_error(error, dataset, "dataset") from error
