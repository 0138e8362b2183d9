"""The chain with its real parts: the tiny BLOOM, int8, the local backend's processes; and what kills they survive."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import waiting
from forks import Zygote
from held_scripts import held_scripts, is_held

from lorasum.backends.local.backend import LocalBackend
from lorasum.commands.deploy import deploy
from lorasum.commands.predict import predict
from lorasum.commands.prepare import prepare
from lorasum.commands.run import run
from lorasum.commands.status import status
from lorasum.commands.teardown import teardown
from lorasum.commands.train import plan_training, train
from lorasum.config.loader import load_config
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import TrainingJob
from lorasum.reporting import Reporter, Silent
from lorasum.shared.events import Event, StepEvent

pytestmark = pytest.mark.slow

CONFIG = """\
name: tiny
model: {{id: {model}}}
data: {{train: {chats}/train.jsonl, test: {chats}/test.jsonl, max_length: 192}}
training:
  {{max_steps: {steps}, learning_rate: 1.0e-3, compute_dtype: float32, checkpoint_minutes: 0.001, logging_steps: 1}}
predict: {{max_new_tokens: 8, batch_size: 2}}
"""


@dataclass
class Place:
    """A home of its own for one test, and a local backend in it."""

    config_file: Path
    config: Config
    ledger: Ledger
    backend: LocalBackend

    def context(self, reporter: Reporter | None = None) -> RunContext:
        return RunContext(self.config, lambda: self.backend, self.ledger, reporter or Silent())

    @property
    def metrics(self) -> Path:
        job = plan_training(self.context()).job
        return self.ledger.path.parent / "runs" / "tiny" / "jobs" / job / "ml" / "output" / "data" / "metrics.jsonl"

    def events(self, kind: str) -> list[dict[str, object]]:
        lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def trainers(self) -> list[psutil.Process]:
        """The training processes of this home."""
        return [process for process in psutil.process_iter(["cmdline"]) if self._is_trainer(process)]

    def _is_trainer(self, process: psutil.Process) -> bool:
        command = process.info["cmdline"] or []
        return any(part.startswith(str(self.ledger.path.parent)) and part.endswith("checkpoints") for part in command)


@pytest.fixture
def place(
    tmp_path: Path, tiny_chats: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Place]]:
    """Make a Place whose training has so many steps; nothing of it runs when the test is over."""
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    places: list[Place] = []

    def make(steps: int) -> Place:
        file = tmp_path / "tiny.yaml"
        file.write_text(CONFIG.format(model=tiny_model_dir, chats=tiny_chats, steps=steps))
        places.append(Place(file, load_config(file), Ledger(), LocalBackend()))
        return places[-1]

    yield make
    for made in places:
        assert teardown(made.context()).remaining == ()
        assert made.backend.live("tiny") == []


def test_from_chats_to_a_summary_and_back_to_nothing(place: Callable[[int], Place]) -> None:
    there = place(20)
    result = run(there.context(), keep=True)
    assert result.train.train_loss is not None
    assert result.train.tokens
    assert (Path(str(result.train.artifact)) / "adapter" / "adapter_model.safetensors").is_file()
    assert result.evaluate.examples == 4
    assert set(result.evaluate.scores) == {"first 3 sentences", "longest utterance", "base model", "fine-tuned"}
    assert result.predict.reference
    assert result.teardown is None
    assert_planned_memory_is_that_of_a_process(there.config_file.parent)

    asked = "Ana: lunch?\nBen: yes, at noon"
    assert deploy(there.context()).reused
    merged = predict(there.context(), asked).summary
    config = load_config(there.config_file, ("deploy.serve=adapter",))
    adapter = RunContext(config, lambda: there.backend, there.ledger, Silent())
    assert not deploy(adapter).reused
    deployed = deploy(adapter)
    assert deployed.reused
    assert predict(adapter, asked).summary == merged

    assert list(map(str, teardown(adapter).removed)) == [f"endpoint tiny ({deployed.location})"]
    shown = {row.kind: row.state for row in status([there.backend], there.ledger).resources}
    assert shown == {"dataset": "done", "training_job": "done", "endpoint": "gone"}
    assert there.backend.live("tiny") == []


def assert_planned_memory_is_that_of_a_process(folder: Path) -> None:
    """Of a tiny model nearly all of it is libraries, which differ from build to build: hence half as much, or more."""
    [metrics] = folder.rglob("metrics.jsonl")
    told = {event["event"]: event for event in map(json.loads, metrics.read_text().splitlines())}
    assert told["start"]["memory_bytes"] == pytest.approx(told["done"]["peak_memory_bytes"], rel=0.5)


def test_train_adopts_a_running_job_and_resumes_it_when_it_is_killed(
    place: Callable[[int], Place], clients: Zygote, tmp_path: Path
) -> None:
    """The job waits after its first checkpoint, and is killed there."""
    there = place(60)
    prepare(there.context())

    scripts = {"LORASUM_STUB_SCRIPTS": str(held_scripts(tmp_path / "scripts"))}
    client = clients.start(["train", "--config", str(there.config_file)], {**os.environ, **scripts}, {})
    waiting.until(lambda: there.trainers() and is_held(there.trainers()[0].pid))
    [job] = there.trainers()
    client.kill()
    [row] = there.ledger.rows(TrainingJob, "tiny")
    assert row.state == "live"
    assert job.is_running()

    adopting = KillAtStep(there)
    with pytest.raises(BackendError, match="ended without a result"):
        train(there.context(adopting))
    assert adopting.killed == job
    [row] = there.ledger.rows(TrainingJob, "tiny")
    assert row.state == "failed"
    assert there.backend.live("tiny") == []

    result = train(there.context())
    assert not result.reused
    assert int(str(there.events("start")[-1]["resumed_from_step"])) > 0
    assert len(there.events("start")) == 2
    assert (Path(str(result.artifact)) / "lorasum.json").is_file()


class KillAtStep(Silent):
    """A Reporter that kills the training process when it hears of a step."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.killed: psutil.Process | None = None

    def event(self, event: Event) -> None:
        if isinstance(event, StepEvent) and not self.killed:
            [self.killed] = self._place.trainers()
            self.killed.kill()
