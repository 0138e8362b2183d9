"""Which job `train` takes or starts, and that `deploy` takes the same one.

A history is what a run has seen, a line each: what was asked, and the job that `train` ended with, by a letter. `=>` is
a job that was started, by itself or `from` the checkpoints of another; `->` is one that was taken as it was.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_backend import DONE, STEP, InMemoryBackend, context

from lorasum.backends.records import JobState
from lorasum.commands.export import export
from lorasum.commands.predict_batch import predict_batch
from lorasum.commands.push import push
from lorasum.commands.status import status
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.lookup import chosen_job
from lorasum.shared.events import MERGE_LEFT_OUT
from lorasum.shared.names import RECORD_FILE
from lorasum.shared.records import ArtifactRecord, record_text

SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"deploy": {"serve": "adapter"}},
    "longer": {"predict": {"max_new_tokens": 256}},
    "float32": {"training": {"merge_dtype": "float32"}},
    "bfloat16": {"training": {"merge_dtype": "bfloat16"}},
}
REFUSED = "what was learnt is lost in rounding"
RECORD = ArtifactRecord(1, "chats", "org/model", None, "", 2, (), "0123456789ab", {}, DONE, {})
HISTORIES = {
    "a merge with another length is taken": ["adapter => A", "longer => B from A", "-> B", "adapter -> A"],
    "so it is after a rebuild": ["adapter => A", "=> B from A", "rebuild", "-> B"],
    "and on another machine": ["adapter => A", "=> B from A", "forget", "-> B"],
    "with another length after a rebuild": ["adapter => A", "longer => B from A", "rebuild", "longer -> B"],
    "the own settings before the newest": ["=> A", "longer --again => B from A", "-> A", "longer -> B"],
    "made again, after a rebuild": ["=> A", "newer --again => B", "rebuild", "newer --again -> B", "newer -> B"],
    "made again, by another machine": ["=> A", "newer --again => B", "forget", "newer -> B"],
    "again, after newer scripts merged otherwise": ["=> A", "newer float32 => B from A", "newer --again => C"],
    "again, after newer scripts merged later": [
        "adapter => A",
        "newer => B from A",
        "newer --again => C",
        "newer -> C",
    ],
    "again, first the adapter": [
        "adapter => A",
        "=> B from A",
        "newer adapter --again => C",
        "newer => D from C",
    ],
    "again, refused by older scripts": [
        "refused => A",
        "newer --again => B from A",
        "newer --again -> B",
        "newer -> B",
    ],
    "again, refused by those of today": ["adapter => A", "newer refused => B from A", "newer --again => C"],
    "again for the adapter of a refused one": ["refused => A", "newer adapter --again => B"],
    "a third way to merge": ["=> A", "float32 => B from A", "bfloat16 => C from A"],
    "a third way, on another machine": [
        "=> A",
        "float32 => B from A",
        "forget",
        "float32 -> B",
        "bfloat16 => C from A",
    ],
    "a third way, after a rebuild": ["=> A", "float32 => B from A", "rebuild", "bfloat16 => C from A"],
    "steps of its own that another has": ["=> A", "float32 => B from A", "delete A", "=> A"],
    "a stopped one, whose steps another has done": ["stopped => A", "float32 => B", "=> A from B"],
}


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_a_job_is_taken_or_started(
    history: list[str], make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    backend.artifacts = f"{tmp_path}/artifacts/"
    names = {"": ""}
    for line in history:
        asked, _, ends = line.partition("> ")
        words, (letter, _, steps) = asked.split(), ends.partition(" from ")
        keys = {key: value for word in words for key, value in SETTINGS.get(word, {}).items()}
        run = context(make_config(**keys), backend, ledger)
        if not ends:
            happens(words, names, backend, ledger)
            continue
        before = backend.calls.count("start_training")
        job = ended(run, backend, words)
        assert names.setdefault(letter, job) == job, line
        assert backend.calls.count("start_training") - before == asked.endswith("="), line
        if asked.endswith("="):
            assert backend.specs[job].checkpoints == names[steps], line
        if "stopped" not in words:
            assert chosen_job(run).name == job, line


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("changed", [{"max_length": 96}, {"template": "TL;DR {dialogue}"}], ids=str)
def test_a_model_of_packs_of_another_kind_is_refused(
    changed: dict[str, Any],
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    backend.artifacts = f"{tmp_path}/artifacts/"
    config = make_config()
    ended(context(config, backend, ledger), backend, [])
    other = config.model_copy(update={"data": config.data.model_copy(update=changed)})
    with pytest.raises(LorasumError, match="was trained with another configuration"):
        chosen_job(context(other, backend, ledger))


@pytest.mark.usefixtures("prepared")
def test_what_needs_a_merged_model_takes_it_whatever_is_served(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    backend.artifacts = f"{tmp_path}/artifacts/"
    for words in (["adapter"], ["longer"]):
        run = context(make_config(**SETTINGS[words[0]]), backend, ledger)
        merged = ended(run, backend, words)
    run = context(make_config(**SETTINGS["adapter"]), backend, ledger)
    (rows := tmp_path / "rows.jsonl").write_text('{"dialogue": "Ana: hello"}')
    backend.before["fetch_artifact"] = interrupt
    for verb in (
        lambda: export(run, tmp_path / "model.gguf"),
        lambda: push(run, "me/model"),
        lambda: predict_batch(run, rows, tmp_path / "answers.jsonl"),
    ):
        with pytest.raises(KeyboardInterrupt):
            verb()
    assert {spec.artifact for spec in backend.specs.values()} == {"", f"{backend.artifacts}{merged}"}


def interrupt() -> None:
    raise KeyboardInterrupt


def happens(words: list[str], names: dict[str, str], backend: InMemoryBackend, ledger: Ledger) -> None:
    """Something else than a training. `forget`: as on another machine, which has the dataset and no job."""
    if words[0] == "delete":
        del backend.jobs[names.pop(words[1])]
        return
    with sqlite3.connect(ledger.path) as db:
        db.execute("DELETE FROM resources WHERE kind = 'training_job'")
    if words[0] == "rebuild":
        status([backend], ledger, "chats", backend)


def ended(run: RunContext, backend: InMemoryBackend, words: list[str]) -> str:
    """The job that `train` ends with. The words say what is asked, which scripts make it and how it ends."""
    backend.scripts = {"container scripts": "2" if "newer" in words else "1"}
    backend.outcome = JobState("stopped" if "stopped" in words else "completed")
    done = replace(DONE, not_merged=MERGE_LEFT_OUT if "adapter" in words else REFUSED if "refused" in words else "")
    backend.events = [STEP, done]
    try:
        job = train(run, "--again" in words).job
    except BackendError:
        return next(name for name, state in backend.jobs.items() if state.status == "stopped")
    record = Path(f"{backend.artifacts}{job}") / RECORD_FILE
    if not record.exists():
        record.parent.mkdir(parents=True)
        record.write_text(record_text(replace(RECORD, template=run.config.data.own_template or "", training=done)))
    return job
