"""The base model's summaries at a job's end: what ends them early, and that nothing there fails the job."""

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import base_summaries
import inference
from answering import answer_each
from base_summaries import summarise_with_base
from engine.arguments import Folders
from engine.stopping import StopSignal
from generation.request import Request
from generation.rows import Batch, Row
from pretend_gpu import GPU, pretend_gpu
from shared.events import BaseEvent, ProgressEvent
from shared.names import BASE_AS_TRAINED, BASE_SECONDS, MAX_SECONDS, SM_CHANNEL_BASE
from shared.records import BaseSummaries, DatasetFacts, base_summaries_text, from_json

FACTS = DatasetFacts("f00", "{dialogue}\nTL;DR:", 0, (), {})
ASKED = {"max_new_tokens": 4, "temperature": 0.0}


@pytest.fixture
def folders(tmp_path: Path, tiny_model_dir: Path) -> Folders:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    rows = [{"dialogue": f"Ana: number {number}", "summary": "a number"} for number in range(40)]
    (dataset / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    for name in ("config.json", "model.safetensors"):
        (artifact / name).symlink_to(tiny_model_dir / name)
    return Folders(dataset, tiny_model_dir, artifact, tmp_path, tmp_path)


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    before = signal.getsignal(signal.SIGTERM)
    yield StopSignal()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def progress() -> list[ProgressEvent]:
    return []


@pytest.fixture
def summarise(
    folders: Folders,
    tiny_model_dir: Path,
    stop: StopSignal,
    monkeypatch: pytest.MonkeyPatch,
    progress: list[ProgressEvent],
) -> Callable[..., BaseEvent | None]:
    def call(
        seconds: str = "100", base: Path = tiny_model_dir, elapsed: float = 0.0, facts: DatasetFacts = FACTS
    ) -> BaseEvent | None:
        monkeypatch.setenv(BASE_SECONDS, seconds)
        return summarise_with_base(base, folders, facts, ASKED, stop, elapsed, torch.device("cpu"), progress.append)

    return call


def kept(folders: Folders) -> int:
    path = folders.model / "base_summaries.json"
    return len(from_json(BaseSummaries, path.read_bytes()).summaries) if path.exists() else 0


@pytest.fixture
def after_sixteen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something when sixteen dialogues have been summarised."""

    def arrange(then: Callable[[], object]) -> None:
        def called(
            prompts: object, served: object, asked: object, answered: Callable[..., None], *rest: object
        ) -> None:
            def told(place: int, answer: object) -> None:
                answered(place, answer)
                if place == 15:
                    then()

            answer_each(prompts, served, asked, told, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(base_summaries, "answer_each", called)

    return arrange


def test_nothing_is_summarised_unless_asked_for(summarise: Callable[..., BaseEvent | None], folders: Folders) -> None:
    assert summarise("0") is None
    assert kept(folders) == 0


@pytest.mark.parametrize(("found", "taken"), [("", 2), ("{", 0)])
def test_what_an_earlier_job_has_left_is_taken(
    summarise: Callable[..., BaseEvent | None],
    folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: str,
    taken: int,
) -> None:
    text = found or base_summaries_text(BaseSummaries(ASKED, ("one", "two"), FACTS.template))
    (tmp_path / "base_summaries.json").write_text(text)
    monkeypatch.setenv(SM_CHANNEL_BASE, str(tmp_path))
    assert summarise("0") is None
    assert kept(folders) == taken


@pytest.mark.parametrize(("as_trained", "template"), [("0", "Chat: {dialogue}"), ("1", FACTS.template)])
def test_the_base_model_is_asked_in_its_own_chat_format(
    folders: Folders,
    tiny_model_dir: Path,
    stop: StopSignal,
    monkeypatch: pytest.MonkeyPatch,
    as_trained: str,
    template: str,
) -> None:
    monkeypatch.setenv(BASE_SECONDS, "100")
    monkeypatch.setenv(BASE_AS_TRAINED, as_trained)
    facts = replace(FACTS, base_template="Chat: {dialogue}")
    summarise_with_base(tiny_model_dir, folders, facts, ASKED, stop, 0.0, torch.device("cpu"), lambda _: None)
    found = from_json(BaseSummaries, (folders.model / "base_summaries.json").read_bytes())
    request = Request((template.replace("{dialogue}", "Ana: number 0"),), are_dialogues=False, parameters=ASKED)
    [answer] = inference.predict_fn(request, inference.model_fn(str(tiny_model_dir)))
    assert (found.template, found.summaries[0]) == (template, answer["generated_text"])


def test_a_gpu_gets_as_many_dialogues_as_its_memory_holds(
    folders: Folders, tiny_model_dir: Path, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler knows how many these are, if all wait for it."""
    together: list[int] = []
    batch_of = Batch.of

    def noted(rows: list[Row], *rest: Any) -> Batch:
        together.append(len(rows))
        return batch_of(rows, *rest)

    monkeypatch.setattr(Batch, "of", noted)
    monkeypatch.setenv(BASE_SECONDS, "100")
    with pretend_gpu():
        told = summarise_with_base(tiny_model_dir, folders, FACTS, ASKED, stop, 0.0, GPU, lambda _: None)
    assert told is not None
    assert (told.summaries, told.why_not_all) == (40, "")
    assert max(together) == 40


def test_when_the_time_is_over_the_first_summaries_are_kept(
    summarise: Callable[..., BaseEvent | None],
    folders: Folders,
    after_sixteen: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after_sixteen(lambda: monkeypatch.setattr("base_summaries.time.monotonic", lambda: float("inf")))
    told = summarise()
    assert told is not None
    assert (told.summaries, told.dialogues, told.why_not_all) == (16, 40, "the 100 s were over")
    assert kept(folders) == 16


def test_sigterm_ends_the_job_and_keeps_the_first_summaries(
    summarise: Callable[..., BaseEvent | None],
    folders: Folders,
    after_sixteen: Callable[..., None],
    progress: list[ProgressEvent],
) -> None:
    after_sixteen(lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        summarise()
    assert kept(folders) == 16
    assert [(event.done, event.total) for event in progress] == [(number, 40) for number in range(1, 17)]


def test_near_the_end_of_the_jobs_time_nothing_is_begun(
    summarise: Callable[..., BaseEvent | None], folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_SECONDS, "1000")
    told = summarise(elapsed=801.0)
    assert told is not None
    assert (told.summaries, told.why_not_all) == (0, "the job is near the end of its time")


def test_a_base_model_that_cannot_be_loaded_fails_no_job(
    summarise: Callable[..., BaseEvent | None], folders: Folders, tmp_path: Path
) -> None:
    told = summarise(base=tmp_path / "gone")
    assert told is not None
    assert told.summaries == 0
    assert told.why_not_all
    assert "\n" not in told.why_not_all
    assert kept(folders) == 0


def test_a_model_larger_than_the_memory_is_not_loaded(
    summarise: Callable[..., BaseEvent | None], folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.memory.free_bytes", lambda device: 100)
    told = summarise()
    assert told is not None
    assert (told.summaries, told.why_not_all) == (0, "it takes 0.0 GB of memory")


def test_a_refused_prompt_has_an_empty_summary(summarise: Callable[..., BaseEvent | None], folders: Folders) -> None:
    with (folders.dataset / "test.jsonl").open("a") as file:
        file.write(json.dumps({"dialogue": ""}) + "\n")
    told = summarise(facts=replace(FACTS, template="{dialogue}"))
    assert told is not None
    assert (told.summaries, told.why_not_all) == (41, "")
    assert from_json(BaseSummaries, (folders.model / "base_summaries.json").read_bytes()).summaries[-1] == ""
