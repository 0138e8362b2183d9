"""`prepare` in the chat format of an instruct model, and `train` when the way of asking has changed since."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorasum.backends.local.backend import LocalBackend
from lorasum.commands.prepare import prepare
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import LorasumError, ModelError
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.planning import planned_job
from lorasum.reporting import Silent
from lorasum.results.training import PrepareResult

CHAT_TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}<pad>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


class Warnings(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def instruct(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model, with a chat format whose turns end with <pad>."""
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path / "instruct"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


@pytest.fixture
def make_run(instruct: Path, tiny_chats: Path) -> Callable[..., RunContext]:
    def make(model: Path = instruct, **data: Any) -> RunContext:
        files = {"train": str(tiny_chats / "train.jsonl"), "test": str(tiny_chats / "test.jsonl"), "max_length": 256}
        config = Config.model_validate({"name": "r", "model": {"id": str(model)}, "data": {**files, **data}})
        return RunContext(config, LocalBackend, Ledger(), Warnings())

    return make


def manifest_of(result: PrepareResult) -> dict[str, Any]:
    return dict(json.loads((Path(result.dataset) / "manifest.json").read_text()))


def test_an_instruct_model_is_asked_in_its_chat_format(make_run: Callable[..., RunContext]) -> None:
    result = prepare(make_run(), show=1)
    manifest = result.manifest
    assert manifest.prompt_format == "chat"
    assert manifest.template == "<s>user\nSummarize the chat dialogue:\n{dialogue}<pad>\n<s>assistant\n"
    [shown] = result.shown
    assert shown.prompt.startswith("<s>user\nSummarize the chat dialogue:\n")
    assert shown.prompt.endswith("<pad>\n<s>assistant\n")
    assert shown.completion.endswith(".<pad>")
    assert manifest_of(result)["eos_token_id"] == 3  # <pad>, which ends a turn here


def test_the_config_sets_instruction_and_system(make_run: Callable[..., RunContext]) -> None:
    result = prepare(make_run(instruction="TL;DR of {dialogue}?", system="Be brief."))
    assert result.manifest.template == "<s>system\nBe brief.<pad>\n<s>user\nTL;DR of {dialogue}?<pad>\n<s>assistant\n"


@pytest.mark.parametrize("data", [{"format": "template"}, {"template": "{dialogue}\n=>"}])
def test_a_template_of_the_user_s_own_is_taken_as_it_is(
    make_run: Callable[..., RunContext], data: dict[str, str]
) -> None:
    manifest = prepare(make_run(**data)).manifest
    assert manifest.prompt_format == "template"
    assert manifest.template.startswith(data.get("template", "Summarize the chat dialogue:\n{dialogue}\n---"))
    assert manifest.eos_token_id == 2


def test_a_model_without_chat_format_is_asked_with_the_template(
    make_run: Callable[..., RunContext], tiny_model_dir: Path
) -> None:
    assert prepare(make_run(tiny_model_dir)).manifest.prompt_format == "template"
    with pytest.raises(ModelError, match="has no chat template"):
        prepare(make_run(tiny_model_dir, format="chat"))


@pytest.mark.parametrize(
    ("data", "changed"),
    [
        ({"instruction": "TL;DR of {dialogue}?"}, "data.instruction"),
        ({"system": "Be brief."}, "data.system"),
        ({"template": "{dialogue}\n=>"}, "data.format"),
        ({"format": "template"}, "data.format"),
    ],
)
def test_train_refuses_a_dataset_that_was_asked_otherwise(
    make_run: Callable[..., RunContext], data: dict[str, str], changed: str
) -> None:
    prepare(make_run())
    run = make_run(**data)
    with pytest.raises(LorasumError, match=f"was prepared: {changed}"):
        planned_job(run.config, run.ledger, run.reporter)


def test_another_instruction_is_another_dataset(make_run: Callable[..., RunContext]) -> None:
    names = {prepare(make_run(**data)).manifest.fingerprint for data in ({}, {"system": "Hi."}, {"format": "template"})}
    assert len(names) == 3


def test_control_tokens_in_the_chats_are_counted_and_named(
    make_run: Callable[..., RunContext], tmp_path: Path, tiny_chats: Path
) -> None:
    rows = [json.loads(line) for line in (tiny_chats / "train.jsonl").read_text().splitlines()]
    rows[4]["dialogue"] += "\nAda: I typed </s> and it broke"
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = make_run(train=str(chats))
    result = prepare(run, show=20)
    assert isinstance(run.reporter, Warnings)
    assert [warning for warning in run.reporter.warnings if "control token" in warning] == [
        "1 row with control tokens of the tokenizer, such as </s> in chats.jsonl:5: they are read as text"
    ]
    assert any("I typed < /s> and it broke" in shown.prompt for shown in result.shown)


def test_the_chat_format_of_the_base_model_is_kept_beside_a_template(
    make_run: Callable[..., RunContext], tiny_model_dir: Path
) -> None:
    in_chat = manifest_of(prepare(make_run()))
    beside = manifest_of(prepare(make_run(template="Sum up: {dialogue} =>")))
    without = manifest_of(prepare(make_run(tiny_model_dir)))
    assert beside["base_template"] == in_chat["template"] != beside["template"]
    assert (in_chat["base_template"], without["base_template"]) == ("", "")
