"""`keep: best` and early stopping: which weights the artifact has when a training goes on for too long."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest_training import Events, Training, sigterm_as_before, small, stop_after
from engine.train_state import Progress
from shared.events import EvalEvent, StepEvent

sigterm = pytest.fixture(autouse=True)(sigterm_as_before)

TOO_LONG: dict[str, Any] = {"epochs": 4.0, "learning_rate": 0.3, "warmup_ratio": 0.0, "scheduler": "constant"}
"""Random examples cannot be generalised from: at this rate the test loss soon rises."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def evaluations(training: Training) -> dict[int, float]:
    return {step: loss for step, loss in training.events.evaluations().items() if loss is not None}


def test_the_weights_of_the_lowest_test_loss_are_kept(tmp_path: Path) -> None:
    last = Training(small(tmp_path / "last", **TOO_LONG))
    outcome = last.run()
    losses = evaluations(last)
    best_step = min(losses, key=losses.__getitem__)
    assert best_step < max(losses), "the test loss has to rise at the end"
    assert (outcome.kept_step, outcome.eval_loss) == (max(losses), losses[max(losses)])

    best = Training(small(tmp_path / "best", keep="best", **TOO_LONG))
    outcome = best.run()
    assert (outcome.kept_step, outcome.eval_loss) == (best_step, losses[best_step])
    shorter = Training(small(tmp_path / "shorter", **TOO_LONG | {"max_steps": best_step}))
    shorter.run()
    for name, expected in shorter.adapter().items():
        assert torch.equal(best.adapter()[name], expected), name


def test_training_stops_when_the_test_loss_no_longer_falls(tmp_path: Path) -> None:
    training = Training(small(tmp_path, early_stopping_patience=1, **TOO_LONG | {"epochs": 9.0}))
    training.run()
    losses = list(evaluations(training).values())
    assert len(losses) < 9
    assert losses[-1] >= min(losses)
    assert all(later < earlier for earlier, later in pairwise(losses[:-1]))
    again = Training(training.arguments)
    again.run()
    assert not again.events.emitted, "a job that failed later, in its merge, trains nothing again"


def test_a_test_loss_that_is_no_number_is_never_the_best() -> None:
    progress = Progress()
    assert [progress.evaluated(loss, None) for loss in (math.nan, 2.0, math.nan, 1.0)] == [True, True, False, True]


def test_a_stop_changes_nothing_about_what_is_kept(tmp_path: Path) -> None:
    whole = Training(small(tmp_path / "whole", keep="best", early_stopping_patience=2, **TOO_LONG))
    expected = whole.run()
    for step in sorted(evaluations(whole))[:-1]:
        stopped = tmp_path / "stopped"
        with pytest.raises(SystemExit):
            Training(
                small(stopped, keep="best", early_stopping_patience=2, **TOO_LONG),
                events=Events(stop_after(EvalEvent, step)),
            ).run()
    resumed = Training(small(tmp_path / "stopped", keep="best", early_stopping_patience=2, **TOO_LONG))
    outcome = resumed.run()
    assert (outcome.kept_step, outcome.eval_loss) == (expected.kept_step, expected.eval_loss)
    for name, weights in whole.adapter().items():
        assert torch.equal(resumed.adapter()[name], weights), name


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_best_adapter_is_left_for_the_last(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaging(Events):
        def emit(self, event: Any) -> None:
            super().emit(event)
            weights = tmp_path / f"checkpoint-{best}" / "adapter_model.safetensors"
            if isinstance(event, EvalEvent) and event.step == last:
                content = weights.read_bytes()
                weights.unlink()
                if damage != "gone":
                    weights.write_bytes(content[:-8] if damage == "cut" else content[:-8] + b"\0" * 8)

    plain = Training(small(tmp_path / "plain", **TOO_LONG))
    plain.run()
    losses = evaluations(plain)
    last, best = max(losses), min(losses, key=losses.__getitem__)
    training = Training(small(tmp_path, keep="best", **TOO_LONG), events=Damaging())
    outcome = training.run()
    assert outcome.kept_step == last
    assert f"checkpoint-{best} cannot be used: " in caplog.text
    for name, weights in plain.adapter().items():
        assert torch.equal(training.adapter()[name], weights), name


def test_the_best_checkpoint_is_kept_beside_the_two_newest(tmp_path: Path) -> None:
    training = Training(small(tmp_path, keep="best", checkpoint_minutes=1e-9, **TOO_LONG))
    training.run()
    losses = evaluations(training)
    last, best = max(losses), min(losses, key=losses.__getitem__)
    assert best < last - 1
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint-{step}" for step in (best, last - 1, last)}


@pytest.mark.parametrize("moment", [EvalEvent, StepEvent])
def test_a_kill_after_the_best_evaluation_loses_neither(
    moment: type[EvalEvent] | type[StepEvent], tmp_path: Path
) -> None:
    """It comes while the event is told, or after the next step. The resumed job evaluates those weights no more."""
    whole = Training(small(tmp_path / "whole", keep="best", **TOO_LONG))
    expected = whole.run()
    killed_at = expected.kept_step + (moment is StepEvent)

    def kill(event: Any) -> bool:
        if isinstance(event, moment) and event.step == killed_at:
            raise Killed
        return False

    with pytest.raises(Killed):
        Training(small(tmp_path / "killed", keep="best", **TOO_LONG), events=Events(kill)).run()
    resumed = Training(small(tmp_path / "killed", keep="best", **TOO_LONG))
    outcome = resumed.run()
    assert (outcome.kept_step, outcome.eval_loss) == (expected.kept_step, expected.eval_loss)
    assert (expected.kept_step in evaluations(resumed)) is (moment is EvalEvent)
    for name, weights in whole.adapter().items():
        assert torch.equal(resumed.adapter()[name], weights), name
