"""The prepared dataset on disk: two `datasets` folders of packs, the test examples as text, and a manifest.

<dataset>/train/, test/   one row is one pack: input_ids (all its examples' tokens, one after another, no padding),
                          example_lengths, prompt_lengths; all list<int32>
<dataset>/test.jsonl      the kept test examples, {"dialogue", "summary"} per line, in source order
<dataset>/manifest.json   written last: a folder without it is unfinished
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from lorasum.config import DataConfig
from lorasum.data.tokenize_pack import Tokens
from lorasum.models import Example, Manifest, SplitStats
from lorasum.quiet import quiet_datasets

FORMAT = 1
"""Version of the layout and of everything that decides about its contents; part of the fingerprint."""

COLUMNS = ("input_ids", "example_lengths", "prompt_lengths")

_FLUSH_TOKENS = 1_000_000

T = TypeVar("T")


def fingerprint(sources: Mapping[str, str], tokenizer: str, data: DataConfig) -> str:
    """12 hex digits that differ whenever the prepared dataset would.

    Args:
        sources: split → identity of its source.
        tokenizer: identity of the tokenizer.
    """
    decisive = {
        "format": FORMAT,
        "sources": dict(sources),
        "tokenizer": tokenizer,
        "columns": data.columns.model_dump(),
        "template": data.template,
        "chunk_length": data.chunk_length,
        "too_long": data.too_long,
        "max_bad_rows": data.max_bad_rows,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def write_split(folder: Path, packs: Iterable[list[Tokens]], chunk_length: int, identity: str) -> SplitStats:
    """Write packs to `folder` in `datasets` format, in bounded memory, and count them.

    The same packs and `identity` give the same bytes.
    """
    import datasets
    import pyarrow as pa

    schema = pa.schema({name: pa.list_(pa.int32()) for name in COLUMNS})
    examples = packs_written = tokens = completion_tokens = longest = 0
    stream = folder.with_name(f".{folder.name}.arrow")
    with pa.OSFile(str(stream), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in _batches(packs, _FLUSH_TOKENS):
            writer.write_batch(pa.record_batch(_columns(batch), schema=schema))
            packs_written += len(batch)
            for example in (example for pack in batch for example in pack):
                examples += 1
                tokens += len(example.ids)
                completion_tokens += len(example.ids) - example.prompt_length
                longest = max(longest, len(example.ids))
    with quiet_datasets():
        mapped = datasets.Dataset.from_file(str(stream))
        # with a fingerprint of our own: the library's has the file's time in it
        datasets.Dataset(mapped.data, fingerprint=identity).save_to_disk(str(folder))
    stream.unlink()
    return SplitStats(
        examples=examples,
        packs=packs_written,
        tokens=tokens,
        completion_tokens=completion_tokens,
        longest_example=longest,
        fill=tokens / max(packs_written * chunk_length, 1),
    )


def write_examples(path: Path, examples: Iterable[tuple[Example, T]]) -> Iterator[T]:
    """Write each example to `path` as it passes by, and yield what came with it."""
    with path.open("w", encoding="utf-8") as file:
        for example, companion in examples:
            file.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")
            yield companion


def read_test_examples(dataset: Path) -> list[Example]:
    """The test examples of a finished dataset, in source order."""
    with (dataset / "test.jsonl").open(encoding="utf-8") as file:
        return [_known(Example, json.loads(line)) for line in file]


def write_manifest(dataset: Path, manifest: Manifest) -> None:
    """Declare the dataset finished."""
    text = json.dumps({"format": FORMAT} | asdict(manifest), ensure_ascii=False, indent=2)
    (dataset / "manifest.json").write_text(text + "\n", encoding="utf-8")


def read_manifest(dataset: Path) -> Manifest | None:
    """The manifest of a finished dataset; None when there is none that can be read. Unknown keys are passed over."""
    try:
        stored = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
        splits = {name: _known(SplitStats, stats) for name, stats in stored["splits"].items()}
        return _known(Manifest, stored | {"splits": splits})
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _known(record: type[T], values: Mapping[str, Any]) -> T:
    names = {field.name for field in fields(record)}  # type: ignore[arg-type]
    return record(**{name: value for name, value in values.items() if name in names})


def _batches(packs: Iterable[list[Tokens]], tokens: int) -> Iterator[list[list[Tokens]]]:
    """Packs in lists of about `tokens` tokens."""
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
    ids = (array("i", chain.from_iterable(example.ids for example in pack)) for pack in packs)
    lengths = (array("i", [len(example.ids) for example in pack]) for pack in packs)
    prompts = (array("i", [example.prompt_length for example in pack]) for pack in packs)
    return [_list_array(rows) for rows in (ids, lengths, prompts)]


def _list_array(rows: "Iterable[array[int]]") -> Any:
    """An Arrow list<int32> array, its memory shared with Python's."""
    import pyarrow as pa

    values, offsets = array("i"), array("i", [0])
    for row in rows:
        values.extend(row)
        offsets.append(len(values))
    ints = [pa.Array.from_buffers(pa.int32(), len(a), [None, pa.py_buffer(a)]) for a in (offsets, values)]
    return pa.ListArray.from_arrays(*ints)
