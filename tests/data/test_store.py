"""What is written is what is read, byte for byte the same each time."""

import json
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorasum.config.data import DataConfig
from lorasum.data import store
from lorasum.data.records import Example, Manifest, SplitStats
from lorasum.data.settings import FORMAT, Settings
from lorasum.data.tokenize_pack import Tokens

PACKS = [
    [Tokens(array("i", [5, 6, 7, 2]), 2), Tokens(array("i", [9, 2]), 1)],
    [Tokens(array("i", [250_879, 8, 2]), 1)],
]
MANIFEST = Manifest(
    fingerprint="0123456789ab",
    template="{dialogue} …",
    tokenizer="me/model",
    tokenizer_revision=None,
    eos_token_id=2,
    max_length=8,
    splits={"train": SplitStats(3, 2, 9, 5, 4, 9 / 16)},
    dropped={"no summary": 1},
    lorasum_version="0.1.0",
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_split_is_a_datasets_folder_of_int32_rows(tmp_path: Path) -> None:
    import datasets

    stats = store.write_split(tmp_path / "train", PACKS, 8, "identity")
    assert replace(stats, histogram=()) == SplitStats(
        examples=3,
        packs=2,
        tokens=9,
        completion_tokens=5,
        longest_example_tokens=4,
        fill=9 / 16,
        shortest_example_tokens=2,
    )
    assert (len(stats.histogram), sum(stats.histogram), stats.histogram[-1]) == (40, 3, 0)
    loaded = datasets.load_from_disk(str(tmp_path / "train"))
    assert list(loaded) == [
        {"input_ids": [5, 6, 7, 2, 9, 2], "example_lengths": [4, 2], "prompt_lengths": [2, 1]},
        {"input_ids": [250_879, 8, 2], "example_lengths": [3], "prompt_lengths": [1]},
    ]
    assert {str(feature.feature.dtype) for feature in loaded.features.values()} == {"int32"}
    assert [path.name for path in tmp_path.iterdir()] == ["train"], "no file is left beside it"


def test_rows_survive_being_written_in_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(store, "_FLUSH_TOKENS", 5)
    packs = [[Tokens(array("i", [number, number, 2]), 1)] for number in range(100)]
    assert store.write_split(tmp_path / "train", packs, 8, "identity").tokens == 300
    rows = datasets.load_from_disk(str(tmp_path / "train"))["input_ids"]
    assert list(rows) == [[number, number, 2] for number in range(100)]


def test_same_packs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store.write_split(tmp_path / name / "train", PACKS, 8, "identity")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_examples_are_written_as_they_pass_by(tmp_path: Path) -> None:
    examples = [Example("A: hi\nB: \u2028 “yo” 😀", "They greet."), Example("C", "D")]
    items = [("t:1", examples[0], "x"), ("t:2", examples[1], "y")]
    assert list(store.write_examples(tmp_path / "test.jsonl", items)) == items
    assert store.read_test_examples(tmp_path) == examples


def test_manifest_is_read_back_with_keys_unknown_here_passed_over(tmp_path: Path) -> None:
    store.write_manifest(tmp_path, MANIFEST)
    assert store.read_manifest(tmp_path) == MANIFEST
    path = tmp_path / "manifest.json"
    stored = json.loads(path.read_text("utf-8"))
    assert stored["format"] == FORMAT
    stored["new"] = stored["splits"]["train"]["new"] = 1
    path.write_text(json.dumps(stored), "utf-8")
    assert store.read_manifest(tmp_path) == MANIFEST


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"splits": 3}', '{"splits": {"train": {}}}'])
def test_dataset_without_a_readable_manifest_is_unfinished(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text, "utf-8")
    assert store.read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"columns": {"dialogue": "chat"}},
        {"template": "{dialogue}\nTL;DR:"},
        {"max_length": 1024},
        {"too_long": "drop"},
        {"max_bad_rows": 1},
        {"duplicates": "keep"},
        {"messages": {"format": "<{speaker}> {text}"}},
        {"redact": True},
    ],
)
def test_each_setting_that_shapes_the_dataset_changes_its_fingerprint(change: dict[str, Any]) -> None:
    def fingerprint(sources: dict[str, str], tokenizer: str, data: DataConfig) -> str:
        return Settings.of(sources, tokenizer, data).fingerprint

    files = {"train": "a.jsonl", "test": "b.jsonl"}
    sources = {"train": "1", "test": "2"}
    before = fingerprint(sources, "tokenizer", DataConfig.model_validate(files))
    assert fingerprint(sources, "tokenizer", DataConfig.model_validate({**files, **change})) != before
    assert fingerprint(sources, "another", DataConfig.model_validate(files)) != before
    assert fingerprint({"train": "2", "test": "1"}, "tokenizer", DataConfig.model_validate(files)) != before
    moved = DataConfig(train="elsewhere/a.jsonl", test="b.jsonl")
    assert fingerprint(sources, "tokenizer", moved) == before, "where the files lie decides nothing"
