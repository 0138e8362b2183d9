"""The prepared dataset on disk: two `datasets` folders of packs in shards, the test examples as text, and a manifest.

<dataset>/train/, test/   one row is one pack: input_ids (all its examples' tokens, one after another, no padding),
                          example_lengths, prompt_lengths; all list<int32>
<dataset>/test.jsonl      the kept test examples, {"dialogue", "summary"} per line, in source order
<dataset>/manifest.json   written last: a folder without it is unfinished

`making.py` writes all of it inside `files.new_folder`, so nobody sees a dataset before it is whole.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lorasum.data.records import Example, Manifest, SplitStats
from lorasum.data.settings import FORMAT
from lorasum.data.tokenize_pack import Tokens
from lorasum.shared.names import COLUMNS, MANIFEST_FILE, TEST_FILE

if TYPE_CHECKING:
    import numpy as np

_FLUSH_TOKENS = 1_000_000
_SHARD_TOKENS = 128_000_000  # half a gigabyte
_HISTOGRAM_STEPS = 40

T = TypeVar("T")


def write_split(folder: Path, packs: Iterable[list[Tokens]], max_length: int, identity: str) -> SplitStats:
    """Write packs to `folder` as `datasets.load_from_disk` reads them, in bounded memory, and count them.

    The files are written here rather than by the library, which would write a stream of rows twice. The same packs
    and `identity` give the same bytes.
    """
    import numpy as np
    import pyarrow as pa

    folder.mkdir()
    schema = pa.schema({name: pa.list_(pa.int32()) for name in COLUMNS})
    packs_written = completion_tokens = 0
    lengths = np.zeros(max_length + 1, np.int64)  # examples by length
    shards: list[Path] = []
    room = 0
    with ExitStack() as shard:
        for batch in _batches(packs, _FLUSH_TOKENS):
            if room <= 0:
                shard.close()
                shards.append(folder / f"shard-{len(shards)}.arrow")  # how many there will be is not known yet
                file = shard.enter_context(pa.OSFile(str(shards[-1]), "wb"))
                writer = shard.enter_context(pa.ipc.new_stream(file, schema))
                room = _SHARD_TOKENS
            ids, example_lengths, prompt_lengths = columns = _columns(batch)
            writer.write_batch(pa.record_batch(columns, schema=schema))
            room -= len(ids.values)
            packs_written += len(batch)
            completion_tokens += len(ids.values) - int(prompt_lengths.values.to_numpy().sum())
            lengths += np.bincount(example_lengths.values.to_numpy(), minlength=max_length + 1)
    _name_shards(folder, shards, identity)
    return _stats(lengths, packs_written, completion_tokens, max_length)


def _name_shards(folder: Path, shards: Sequence[Path], identity: str) -> None:
    """Give the shards the names that `datasets` expects, and write its description files."""
    names = [f"data-{number:05}-of-{len(shards):05}.arrow" for number in range(len(shards))]
    for shard, name in zip(shards, names, strict=True):
        shard.rename(folder / name)
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": identity,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    column = {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"}
    info = {
        "citation": "",
        "description": "",
        "features": dict.fromkeys(COLUMNS, column),
        "homepage": "",
        "license": "",
    }
    for name, content in (("state.json", state), ("dataset_info.json", info)):
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _stats(lengths: "np.ndarray[Any, Any]", packs: int, completion_tokens: int, max_length: int) -> SplitStats:
    """The figures of a split; `lengths[n]` examples have n tokens."""
    import numpy as np

    present = np.flatnonzero(lengths)
    tokens = int((lengths * np.arange(len(lengths))).sum())
    longest = int(present[-1]) if len(present) else 0
    steps = (np.arange(longest + 1) * _HISTOGRAM_STEPS) // (longest + 1)
    histogram = np.bincount(steps, weights=lengths[: longest + 1], minlength=_HISTOGRAM_STEPS)
    return SplitStats(
        examples=int(lengths.sum()),
        packs=packs,
        tokens=tokens,
        completion_tokens=completion_tokens,
        longest_example_tokens=longest,
        fill=tokens / max(packs * max_length, 1),
        shortest_example_tokens=int(present[0]) if len(present) else 0,
        histogram=tuple(int(count) for count in histogram),
    )


def read_first(dataset: Path, count: int) -> list[tuple[list[int], int]]:
    """Token ids and prompt length of the first `count` training examples, in the order of their packs."""
    import pyarrow as pa

    examples: list[tuple[list[int], int]] = []
    for shard in sorted((dataset / "train").glob("data-*.arrow")):
        with pa.memory_map(str(shard)) as mapped, pa.ipc.open_stream(mapped) as stream:
            for batch in stream:
                for row in range(batch.num_rows):
                    ids, lengths, prompts = (batch.column(name)[row].as_py() for name in COLUMNS)
                    start = 0
                    for length, prompt in zip(lengths, prompts, strict=True):
                        examples.append((ids[start : start + length], prompt))
                        start += length
                        if len(examples) == count:
                            return examples
    return examples


def write_examples(path: Path, kept: Iterable[tuple[str, Example, T]]) -> Iterator[tuple[str, Example, T]]:
    """Write each example to `path`, and yield it unchanged."""
    with path.open("w", encoding="utf-8") as file:
        for item in kept:
            file.write(json.dumps(item[1].as_row(), ensure_ascii=False) + "\n")
            yield item


def read_test_examples(dataset: Path) -> list[Example]:
    """The test examples of a finished dataset, in source order.

    Raises:
        OSError: they cannot be read.
        ValueError: they are damaged: a line holds no example, or there are more or fewer than were written.
    """
    from pydantic import TypeAdapter, ValidationError

    manifest, example = read_manifest(dataset), TypeAdapter(Example)
    found = []
    for number, line in enumerate((dataset / TEST_FILE).read_bytes().splitlines(), 1):
        try:
            found.append(example.validate_json(line))
        except ValidationError as error:
            raise ValueError(f"line {number} of {TEST_FILE} is not an example") from error
    if manifest and "test" in manifest.splits and len(found) != manifest.splits["test"].examples:
        raise ValueError(f"{TEST_FILE} has {len(found)} examples instead of {manifest.splits['test'].examples}")
    return found


def write_manifest(dataset: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes the dataset complete."""
    text = json.dumps({"format": FORMAT} | asdict(manifest), ensure_ascii=False, indent=2)
    (dataset / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def read_manifest(dataset: Path) -> Manifest | None:
    """The manifest of a finished dataset; None if it is absent or cannot be read. Unknown keys are ignored."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Manifest).validate_json((dataset / MANIFEST_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _batches(packs: Iterable[list[Tokens]], tokens: int) -> Iterator[list[list[Tokens]]]:
    """Packs in lists of about `tokens` tokens; one empty list if there are no packs."""
    batch: list[list[Tokens]] = []
    room = tokens
    for pack in packs:
        batch.append(pack)
        room -= sum(len(example.ids) for example in pack)
        if room <= 0:
            yield batch
            batch, room = [], tokens
    yield batch


def _columns(packs: list[list[Tokens]]) -> list[Any]:
    """One Arrow array per name in COLUMNS; a row is a pack."""
    ids, lengths, prompts = array("i"), array("i"), array("i")
    id_ends, example_ends = array("i", [0]), array("i", [0])
    for pack in packs:
        for example in pack:
            ids.extend(example.ids)
            lengths.append(len(example.ids))
            prompts.append(example.prompt_length)
        id_ends.append(len(ids))
        example_ends.append(len(lengths))
    return [_lists(id_ends, ids), _lists(example_ends, lengths), _lists(example_ends, prompts)]


def _lists(offsets: "array[int]", values: "array[int]") -> Any:
    """An Arrow list<int32> array that shares its memory with the Python arrays."""
    import pyarrow as pa

    ints = [pa.Array.from_buffers(pa.int32(), len(a), [None, pa.py_buffer(a)]) for a in (offsets, values)]
    return pa.ListArray.from_arrays(*ints)
