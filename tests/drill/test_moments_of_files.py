"""Signals at any moment of what leaves files, here or on the hub: whole or not at all, and the same command goes on."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub
from local_world import LocalWorld, local_world
from moments import SIGNALS, Moments, check_stopped

from lorasum.shared.names import RECORD_FILE
from lorasum.shared.records import ArtifactRecord, FileFacts, from_json, record_text
from lorasum.system.files import file_digest

pytestmark = [pytest.mark.slow, pytest.mark.drill, pytest.mark.timeout(7200)]


here = local_world()


class Tries:
    """A command that is interrupted at any moment.

    Args:
        ready: has what the command needs, before each time that it runs.
        check: looks at what is left, after each time.
    """

    def __init__(self, here: LocalWorld, tried: Counter[str], name: str, arguments: list[str]) -> None:
        self._here, self._tried, self._name, self._arguments = here, tried, name, arguments

    def run(self, ready: Callable[[], object], check: Callable[[str], None]) -> None:
        ready()
        start = partial(self._here.start, *self._arguments)
        for what, interrupt in Moments(start, self._name, SIGNALS).draw():
            ready()
            check_stopped(interrupt(), what)
            assert self._here.left_over() == [], what
            check(what)
            ready()
            again = self._here.call(*self._arguments)
            assert again.code == 0, f"{what}, then again: {again.stderr}"
            check(f"{what}, then again")
            self._tried[f"a signal at any moment of {self._name}, on this machine"] += 1


def _have_model(here: LocalWorld, tokenizer: Path) -> Path:
    """Let the trained model be one that can be exported: a small Llama. Returns its folder."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    here.restore("train")
    [folder] = (here.home / "runs" / "tiny" / "jobs").glob("*/ml/model")
    small = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    LlamaForCausalLM(LlamaConfig(**small, num_attention_heads=4, bos_token_id=1, eos_token_id=2)).save_pretrained(
        folder
    )
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    record = from_json(ArtifactRecord, (folder / RECORD_FILE).read_bytes())
    facts = {name: FileFacts(path.stat().st_size, file_digest(path)) for name, path in files.items()}
    facts.pop(RECORD_FILE)
    (folder / RECORD_FILE).write_text(record_text(replace(record, files=facts)))
    return folder


def test_a_signal_at_any_moment_of_export(here: LocalWorld, tried: Counter[str], tiny_tokenizer_dir: Path) -> None:
    from gguf import GGUFReader

    _have_model(here, tiny_tokenizer_dir)
    target = here.folder / "m.gguf"

    def check(what: str) -> None:
        assert list(here.folder.glob(".m.gguf*")) == [], what
        if target.exists():
            assert len(GGUFReader(target).tensors) == 21, what

    Tries(here, tried, "export", ["export", "--gguf", str(target), "--force"]).run(lambda: None, check)


@pytest.mark.parametrize("more", [[], ["--public"]], ids=["private", "public"])
def test_a_signal_at_any_moment_of_push(
    here: LocalWorld, tried: Counter[str], tiny_tokenizer_dir: Path, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _have_model(here, tiny_tokenizer_dir)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    with Hub() as hub:
        hub.takes = 0.3
        monkeypatch.setattr(here, "environ", {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN})

        def forget() -> None:
            for there in (hub.files, hub.blobs, hub.private):
                there.clear()

        def check(what: str) -> None:
            assert set(hub.files.get("me/tiny", ())) in (set(), files), what
            assert hub.private.get("me/tiny", not more) is not bool(more), what

        Tries(here, tried, " ".join(["push", *more]), ["push", "me/tiny", *more]).run(forget, check)


def test_a_signal_at_any_moment_of_clean(here: LocalWorld, tried: Counter[str]) -> None:
    here.restore("train")
    old = here.home / "runs" / "old"

    def fill() -> None:
        for number in () if old.exists() else range(20):
            (old / f"{number}").mkdir(parents=True)
            (old / f"{number}" / "file").write_text("old")

    def check(what: str) -> None:
        assert (here.home / "runs" / "tiny" / "jobs").is_dir(), what
        assert not (old.exists() and "again" in what), what

    Tries(here, tried, "clean", ["clean", "old", "--yes"]).run(fill, check)


def test_a_signal_at_any_moment_of_prepare_of_many_rows(here: LocalWorld, tried: Counter[str]) -> None:
    here.restore("nothing")
    source = here.folder / "many.jsonl"
    with source.open("w") as file:
        for number in range(20_000):
            said = f"Ana: call {number} at +49 30 {1_000_000 + number}, or ana{number}@example.org. Ben: yes"
            file.write(json.dumps({"dialogue": said, "summary": f"Ana asks Ben to call {number}."}) + "\n")

    def check(what: str) -> None:
        folder = here.home / "runs" / "tiny" / "data"
        datasets = [path for path in folder.iterdir() if not path.name.endswith(".lock")] if folder.exists() else []
        assert [path for path in datasets if not (path / "manifest.json").exists()] == [], what

    def ready() -> None:
        if list((here.home / "runs").glob("tiny/data/*/manifest.json")):
            here.restore("nothing")

    Tries(here, tried, "prepare --redact", ["prepare", "--redact", "--set", f"data.train={source}"]).run(ready, check)
