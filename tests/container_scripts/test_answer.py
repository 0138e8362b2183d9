"""A batch job: its processes divide the shards, and what one has begun another goes on with."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forks import Zygote

import answer
import inference
from answering import answer_each
from generation.request import RequestError
from shared.names import (
    ANSWERS_FOLDER,
    RECORD_FILE,
    SM_CHANNEL_MODEL,
    SM_CHANNEL_TRAINING,
    SM_MODEL_DIR,
    SM_OUTPUT_DATA_DIR,
    SM_OUTPUT_DIR,
)

SHARDS, ROWS = 5, 4


@dataclass
class Job:
    """Processes of a batch job in one folder."""

    folder: Path
    model: Path
    zygote: Zygote

    def answer(self, **ranked: str) -> dict[str, str]:
        """Run one process to its end. Returns the answers that it leaves, by the shard's name."""
        left = self.folder / "model"
        shutil.rmtree(left, ignore_errors=True)
        names = {
            SM_CHANNEL_TRAINING: "shards", SM_MODEL_DIR: "model", SM_OUTPUT_DIR: "output", SM_OUTPUT_DATA_DIR: "data",
        }  # fmt: skip
        environ = {name: str(self.folder / folder) for name, folder in names.items()}
        flags = {"checkpoint_dir": self.checkpoints, "max_new_tokens": 5, "temperature": 0}
        arguments = [str(text) for name, value in flags.items() for text in (f"--{name}", value)]
        environ |= {SM_CHANNEL_MODEL: str(self.model), **ranked}
        script = str(Path(__file__).with_name("on_pretended_gpu.py")) if "PRETENDED" in ranked else answer.__file__
        ended = self.zygote.start(arguments, environ, {}, script).wait()
        assert ended.code == 0, ended.stderr
        return {file.name: file.read_text() for file in (left / ANSWERS_FOLDER).iterdir()}

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"


@pytest.fixture
def job(tmp_path: Path, tiny_model_dir: Path, trainings: Zygote) -> Job:
    made = Job(tmp_path, tiny_model_dir, trainings)
    made.checkpoints.mkdir()
    (tmp_path / "shards").mkdir()
    for shard in range(SHARDS):
        rows = [{"row": shard * ROWS + row, "prompt": f"Ana: {shard} {row}?"} for row in range(ROWS)]
        (tmp_path / "shards" / f"{shard:05}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def test_processes_divide_the_shards_and_answer_as_one_does(job: Job) -> None:
    alone = job.answer()
    assert len(alone) == SHARDS
    assert (job.folder / "model" / RECORD_FILE).exists()
    shutil.rmtree(job.checkpoints)
    job.checkpoints.mkdir()
    first = job.answer(RANK="0", WORLD_SIZE="2")
    assert not (job.folder / "model" / RECORD_FILE).exists(), "the other one may not have ended"
    second = job.answer(RANK="1", WORLD_SIZE="2")
    assert (sorted(first), sorted(second)) == (sorted(alone)[::2], sorted(alone)[1::2])
    assert first | second == alone


def test_a_gpu_of_several_answers_as_a_cpu(job: Job) -> None:
    """As far as a pretended one shows it (pretend_gpu.py)."""
    second = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    here = job.answer(**second)
    shutil.rmtree(job.checkpoints)
    job.checkpoints.mkdir()
    assert job.answer(**second, PRETENDED="answer", PRETENDED_GPUS="2") == here


def test_another_number_of_processes_goes_on_with_what_is_answered(job: Job) -> None:
    job.answer(RANK="1", WORLD_SIZE="3")
    begun = job.checkpoints / "00001.jsonl"
    known = "".join(line.replace('summary": "', 'summary": "known ') for line in begun.open())
    begun.write_text(known[: known.rindex("\n", 0, -1) + 9])  # the last row was cut off
    whole = job.answer(RANK="1", WORLD_SIZE="2")["00001.jsonl"]
    assert sorted(json.loads(line)["row"] for line in whole.splitlines()) == list(range(ROWS, 2 * ROWS))
    assert whole.count("known ") == ROWS - 1


def test_a_process_without_a_shard_ends_well(job: Job) -> None:
    assert job.answer(RANK="7", WORLD_SIZE="8") == {}


def test_the_time_left_waits_for_rows_of_a_second_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of 64 took as long as all 64, and a job of seven minutes was said to take four hours."""
    monkeypatch.setenv(SM_OUTPUT_DATA_DIR, str(tmp_path))
    monkeypatch.setattr(answer, "_TELL_EVERY", 0.0)
    progress = answer._Progress(total=200, done=76, scale=1.0, at_once=3)
    for _ in range(5):
        progress.one_more()
    [events] = tmp_path.iterdir()
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [(one["step"], one["eta_seconds"] is None) for one in told] == [
        (77, True), (78, True), (79, True), (80, False), (81, False),
    ]  # fmt: skip


ASKED = {"max_new_tokens": 5, "temperature": 0}


class Model:
    """The tiny model in this process. It counts its forward passes."""

    def __init__(self, folder: Path) -> None:
        self.served, self.passes = inference.model_fn(str(folder)), 0
        self.served.model.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.passes += 1

    def end_after(self, text: str) -> None:
        """Have the model end its answer behind this one token."""
        [*_, last], [end, *_] = self.served.tokenizer(text)["input_ids"], self.served.generator.eos_token_ids

        def ended(_: object, __: object, asked: dict[str, Any], output: Any) -> None:
            output.logits[asked["input_ids"][:, -1] == last, -1, end] = 1e9

        self.served.model.register_forward_hook(ended, with_kwargs=True)

    def answer(self, prompts: Mapping[int, str], at_once: int = 64) -> dict[int, str | RequestError]:
        found: dict[int, str | RequestError] = {}
        answer_each(prompts.items(), self.served, ASKED, found.__setitem__, lambda: False, at_once)
        return found


@pytest.fixture
def model(tiny_model_dir: Path) -> Model:
    return Model(tiny_model_dir)


def test_a_refused_prompt_costs_the_others_no_pass(model: Model) -> None:
    prompts = {row: f"Ana: number {row}?" for row in range(20)}
    whole = model.answer(prompts)
    passes, model.passes = model.passes, 0
    found = model.answer(prompts | {7: ""})
    assert isinstance(found.pop(7), RequestError)
    assert found == {row: text for row, text in whole.items() if row != 7}
    assert model.passes == passes


def test_the_next_prompt_begins_when_one_is_done(model: Model) -> None:
    """Short answers do not wait for a long one."""
    model.end_after("!")
    prompts = {0: "Ana: who?"} | {row: f"Ben: {row}!" for row in range(1, 6)}
    found = model.answer(prompts, at_once=2)
    assert list(found) == [1, 2, 3, 4, 5, 0]
    assert [text == "" for text in found.values()] == [True] * 5 + [False]


def test_an_answer_that_cannot_be_written_ends_the_job(model: Model) -> None:
    def full(row: int, _: object) -> None:
        told.append(row)
        raise OSError("no space left on device")

    told: list[int] = []
    with pytest.raises(OSError, match="no space"):
        answer_each(enumerate(f"Ana: number {row}?" for row in range(9)), model.served, ASKED, full, lambda: False, 4)
    assert len(told) == 1
