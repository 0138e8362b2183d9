"""Fixtures of the command tests: a run with a prepared dataset, in a home of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_backend import Clock, InMemoryBackend, RecordingReporter

from lorasum.config.schema import Config
from lorasum.data.records import Manifest
from lorasum.data.store import write_manifest
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Dataset
from lorasum.system import paths


@pytest.fixture
def backend() -> InMemoryBackend:
    return InMemoryBackend()


@pytest.fixture(autouse=True)
def no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """These datasets hold no packs to estimate memory of."""
    monkeypatch.setattr("lorasum.lifecycle.estimate._tell", lambda flags, variables: "there are no packs")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Ledger:
    """The ledger of an empty home."""
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    return Ledger(clock=clock)


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """A config of run `chats`; keywords replace its sections."""

    def make(**sections: Any) -> Config:
        data = {"dataset": "org/data", "max_length": 64, "template": "Sum up: {dialogue} =>"}
        return Config.model_validate({"name": "chats", "model": {"id": "org/model"}, "data": data, **sections})

    return make


@pytest.fixture
def config(make_config: Callable[..., Config], prepared: Path) -> Config:
    """The config of a run with a prepared dataset."""
    return make_config(predict={"batch_size": 2})


@pytest.fixture
def prepared(ledger: Ledger, make_config: Callable[..., Config]) -> Path:
    """A prepared dataset of run `chats` with three test examples; no packs, which commands never read."""
    data = make_config().data
    dataset = paths.run_dir("chats") / "data" / "0123456789ab"
    dataset.mkdir(parents=True)
    examples = [{"dialogue": f"Ana: number {i}", "summary": f"ana: number {i} =>"} for i in range(3)]
    (dataset / "test.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
    manifest = Manifest(dataset.name, data.own_template, "org/model", None, 2, data.max_length, {}, {}, "0")
    write_manifest(dataset, manifest)
    row = ledger.intend(Dataset(run="chats", name=dataset.name, backend="local", path=str(dataset)))
    ledger.save(replace(row, state="done"))
    return dataset


@pytest.fixture
def told() -> RecordingReporter:
    return RecordingReporter()
