"""The packs of a split, as `prepare` wrote them: Arrow's streaming format in shards, mapped from the disk.

pyarrow alone reads them. `datasets` brings pandas along: 80 MiB of every training process, and seconds of its start.
So does pyarrow's own `to_numpy`, where DLPack does not.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.failure import TrainingError
from shared.names import EXAMPLE_LENGTHS, INPUT_IDS, PROMPT_LENGTHS

if TYPE_CHECKING:
    import numpy as np

Pack = dict[str, list[int]]
"""`input_ids`, `example_lengths` and `prompt_lengths`."""


class Packs(Sequence[Pack]):
    """The rows of a pyarrow Table, whose columns are lists of ints without nulls."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, number: Any) -> Any:
        return {name: self._table.column(name)[number].as_py() for name in self._table.column_names}

    def __iter__(self) -> Iterator[Pack]:
        for batch in self._table.to_batches():
            yield from batch.to_pylist()

    def lengths_only(self) -> "Packs":
        """The same packs without their tokens, which need not be read then."""
        return Packs(self._table.select([EXAMPLE_LENGTHS, PROMPT_LENGTHS]))

    def counts(self, column: str) -> "np.ndarray[Any, Any]":
        """How many values each pack has in a column."""
        import numpy as np

        return np.concatenate([np.diff(np.from_dlpack(chunk.offsets)) for chunk in self._table.column(column).chunks])

    def values(self, column: str) -> "Iterator[np.ndarray[Any, Any]]":
        """The values of a column, one pack after another, in arrays of many packs."""
        import numpy as np

        for chunk in filter(len, self._table.column(column).chunks):  # the last batch of a shard may be empty
            offsets = np.from_dlpack(chunk.offsets)
            yield np.from_dlpack(chunk.values)[offsets[0] : offsets[-1]]


def load_split(dataset: Path, split: str) -> Packs:
    """The packs of one split.

    Args:
        dataset: the folder that prepare wrote.
        split: `train` or `test`.

    Raises:
        TrainingError: the folder does not exist or holds no packs.
    """
    import pyarrow as pa

    if not (dataset / split).is_dir():
        raise TrainingError(f"no {split} split in {dataset}", "prepare the dataset again")
    shards = sorted((dataset / split).glob("data-*.arrow"))
    tables = [pa.ipc.open_stream(pa.memory_map(str(shard))).read_all() for shard in shards]
    if not sum(table.num_rows for table in tables):
        raise TrainingError(f"the {split} split of {dataset} is empty", "prepare the dataset again")
    return Packs(pa.concat_tables(tables))


def longest_example(*splits: Packs) -> int:
    """The number of tokens of the longest example in `splits`; only the column of lengths is read."""
    return max(int(values.max()) for split in splits for values in split.values(EXAMPLE_LENGTHS))


def largest_id(*splits: Packs) -> int:
    """The largest token id in `splits`."""
    return max(int(values.max()) for split in splits for values in split.values(INPUT_IDS))


def pack_sizes(split: Packs, loss_on: str) -> tuple[list[int], list[int]]:
    """For each pack its tokens, and how many of them have a label. Only the two columns of lengths are read."""
    tokens, examples = _sums(split, EXAMPLE_LENGTHS)
    unlearnt = _sums(split, PROMPT_LENGTHS)[0] if loss_on == "completion" else examples
    return tokens, [all_ - some for all_, some in zip(tokens, unlearnt, strict=True)]


def _sums(split: Packs, column: str) -> tuple[list[int], list[int]]:
    """For each pack the sum of the lengths in a column, and their number."""
    import numpy as np

    counts = split.counts(column)
    ends = np.cumsum(counts, dtype=np.int64)
    totals = np.concatenate(([0], np.cumsum(np.concatenate([*split.values(column)]), dtype=np.int64)))
    return (totals[ends] - totals[ends - counts]).tolist(), counts.tolist()


def name_packs(split: Packs, packs: Sequence[int]) -> str:
    """`pack 3 (examples 7 to 9)`: packs and examples are numbered from 0, in the order of the split."""
    counts = split.counts(EXAMPLE_LENGTHS)
    named = []
    for pack in packs:
        first = int(counts[:pack].sum())
        named.append(f"pack {pack} (examples {first} to {first + counts[pack] - 1})")
    return ", ".join(named)
