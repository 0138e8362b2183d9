"""What has changed since a dataset was prepared, without asking a hub."""

from typing import Any

import pytest

from lorasum.config.schema import Config
from lorasum.data import hub_source, sources
from lorasum.data.changes import changed_since
from lorasum.data.records import Manifest
from lorasum.data.settings import Settings
from lorasum.models.source import ModelRef
from lorasum.reporting import Silent

COMMIT, MODEL_COMMIT = "0a" * 20, "1b" * 20


def config(**data: Any) -> Config:
    return Config.model_validate(
        {"name": "r", "model": {"id": "owner/model"}, "data": {"dataset": "owner/chats", **data}}
    )


def changed(now: Config, model: ModelRef | None = None, **then: Any) -> list[str]:
    """What has changed since a dataset was prepared with the settings `then`, at COMMIT and MODEL_COMMIT."""
    data = config(**then).data
    identities = {
        split: hub_source.HubSource("owner/chats", data.subset, name, COMMIT, data.columns).identity()
        for split, name in (("train", data.train_split), ("test", data.test_split))
    }
    settings = Settings.of(identities, f"hub owner/model {MODEL_COMMIT}", data)
    manifest = Manifest("f", "t", "owner/model", MODEL_COMMIT, 2, 64, {}, {}, "0", settings=settings.recorded())
    return changed_since(manifest, now, model or ModelRef("owner/model"), Silent())


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(sources, "hub_commit", ask)


def test_a_hub_dataset_is_compared_without_asking_the_hub() -> None:
    assert changed(config()) == []
    assert changed(config(revision="main")) == []
    assert changed(config(revision=COMMIT), revision=COMMIT) == []
    assert changed(config(revision="2c" * 20)) == [f"data.revision (None, {'2c' * 20} now)"]
    assert changed(config(subset="long")) == ["data.subset (None, long now)"]
    assert changed(config(test_split="validation")) == ["data.test_split (test, validation now)"]


def test_a_pinned_model_is_compared_and_a_branch_is_not() -> None:
    assert changed(config(), ModelRef("owner/model", MODEL_COMMIT)) == []
    assert changed(config(), ModelRef("owner/model", "main")) == []
    assert changed(config(), ModelRef("owner/model", "2c" * 20)) == ["tokenizer in model.id"]
