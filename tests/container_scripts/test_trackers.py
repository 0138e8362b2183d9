"""Trackers get the figures under Trainer's names, and neither end nor hold up a job."""

import importlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Zygote

import trackers
from engine.metrics import Metrics
from shared.events import DoneEvent, EvalEvent, MergedEvent, StepEvent

EVENTS = (
    StepEvent(1, 2, 0.5, 2.5, 1e-3, 100.0, 1.0),
    StepEvent(2, 2, 1.0, None, 5e-4, 110.0, 0.0),
    EvalEvent(2, 2.25, 31.5, "rougeL", 3.0),
    MergedEvent(1, 9, 0.1),
    DoneEvent(2.4, 2.25, 900, 105.0, 12.0, kept_step=2),
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What trackers set in the environment goes with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def report(folder: Path, *names: str) -> list[dict[str, object]]:
    """Send EVENTS to trackers; the lines of metrics.jsonl."""
    metrics = Metrics(folder / "data")
    with trackers.Trackers(names, "chats-1", folder, {"learning_rate": 1e-3, "lora_r": 8}, metrics):
        for event in EVENTS:
            metrics.emit(event)
    return [json.loads(line) for line in (folder / "data" / "metrics.jsonl").read_text().splitlines()]


def warnings(lines: list[dict[str, object]]) -> list[object]:
    return [line["text"] for line in lines if line["event"] == "warning"]


def test_tensorboard_gets_figures_under_the_names_of_trainer(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert not warnings(report(tmp_path, "tensorboard"))
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    figures = {name: [(one.step, round(one.value, 6)) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}
    assert figures["train/loss"] == [(1, 2.5)]  # a loss that is no number is left out
    assert figures["train/learning_rate"] == [(1, 1e-3), (2, 5e-4)]
    assert figures["train/tokens_per_second"] == [(1, 100.0), (2, 110.0)]
    assert figures["eval/loss"] == [(2, 2.25)]
    assert figures["eval/rougeL"] == [(2, 31.5)]
    assert figures["train/train_loss"] == [(2, pytest.approx(2.4))]


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A package called trackio, in place of the real one."""
    (folder / "trackio").mkdir()
    (folder / "trackio" / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(importlib.sys.modules, "trackio", raising=False)  # type: ignore[attr-defined]


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "def init(**given):\n    raise ConnectionError('no route to the server')\n")
    lines = report(tmp_path, "trackio")
    assert warnings(lines) == ["trackio is left out, the training continues: ConnectionError: no route to the server"]
    assert len(lines) == len(EVENTS) + 1


def test_mlflow_is_told_to_send_no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "import os; raise RuntimeError('heard ' + os.environ['MLFLOW_DISABLE_TELEMETRY'])")
    assert any("heard true" in str(said) for said in warnings(report(tmp_path, "trackio"))), "before it is imported"


def test_a_tracker_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "import a_module_that_nobody_has\n")
    (warning,) = warnings(report(tmp_path, "trackio"))
    assert "a_module_that_nobody_has is not installed (pip install trackio)" in str(warning)


def test_a_tracker_that_hangs_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import threading\ngo_on = threading.Event()\ndef init(**given):\n    go_on.wait(300)\n"
    fake(tmp_path, monkeypatch, source)
    monkeypatch.setattr(trackers, "_LAST_WORDS", 0.1)
    (warning,) = warnings(report(tmp_path, "trackio"))
    assert "it has not sent everything" in str(warning)
    importlib.import_module("trackio").go_on.set()
    for thread in threading.enumerate():
        if thread.name == "trackio":
            thread.join(60)


SIDE_BY_SIDE = """
import sys
from pathlib import Path
for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
    del sys.modules[name]
import trackers
from engine.metrics import Metrics
folder = Path(sys.argv[1])
with trackers.Trackers(("tensorboard",), "chats", folder, {}, Metrics(folder)):
    import transformers
    transformers.set_seed(1)
"""


def test_a_tracker_and_the_training_import_transformers_side_by_side(tmp_path: Path, trainings: Zygote) -> None:
    """Its modules import each other when a name is asked for, and two threads at once got an AttributeError."""
    pytest.importorskip("tensorboard")
    (tmp_path / "side_by_side.py").write_text(SIDE_BY_SIDE)
    done = trainings.start([str(tmp_path)], os.environ, {}, str(tmp_path / "side_by_side.py")).wait()
    assert done.code == 0, done.stderr
    assert "left out" not in done.stdout, "metrics are printed too"
