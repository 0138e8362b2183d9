"""Packs are read as `prepare` wrote them."""

from array import array
from pathlib import Path

import pytest

from conftest_engine import in_table, random_packs
from engine.packs import largest_id, load_split, longest_example, name_packs, pack_sizes
from lorasum.data import store
from lorasum.data.tokenize_pack import Tokens


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A train split in several shards of several batches."""
    monkeypatch.setattr(store, "_FLUSH_TOKENS", 20)
    monkeypatch.setattr(store, "_SHARD_TOKENS", 30)
    rows = [[Tokens(array("i", range(5 * n, 5 * n + size)), 2) for size in (9, 4 + n)] for n in range(6)]
    store.write_split(tmp_path / "train", rows, 30, "name")
    assert len(list((tmp_path / "train").glob("*.arrow"))) > 2
    return tmp_path


def test_packs_of_all_shards_are_what_datasets_reads(dataset: Path) -> None:
    from datasets import load_from_disk

    packs, theirs = load_split(dataset, "train"), list(load_from_disk(str(dataset / "train")))
    assert [packs[number] for number in range(len(packs))] == list(packs) == theirs
    assert list(packs.lengths_only()) == [{n: row[n] for n in row if n != "input_ids"} for row in theirs]
    assert longest_example(packs) == 9
    assert largest_id(packs) == 5 * 5 + 8
    assert pack_sizes(packs, "completion") == ([13 + n for n in range(6)], [9 + n for n in range(6)])
    assert name_packs(packs, [0, 4]) == "pack 0 (examples 0 to 1), pack 4 (examples 8 to 9)"
    assert longest_example(packs, in_table(random_packs(0, [[12]]))) == 12
