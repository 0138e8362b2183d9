"""A training that was stopped and started again has the weights of one that never stopped, bit for bit."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from conftest_engine import in_table, random_packs
from conftest_training import TEST, TRAIN, Events, StoppingSplit, Training, sigterm_as_before, small, stop_after
from engine.checkpoint import step_of
from engine.schedule import plan_steps
from engine.train_state import with_batch_of
from shared.events import EvalEvent, StepEvent

sigterm = pytest.fixture(autouse=True)(sigterm_as_before)


def stop(training: Training) -> None:
    """Run it until SIGTERM, which has to come."""
    with pytest.raises(SystemExit) as ended:
        training.run()
    assert ended.value.code == 143


def assert_same_weights(one: Training, other: Training) -> None:
    for name, expected in one.adapter().items():
        assert torch.equal(other.adapter()[name], expected), name


@pytest.mark.parametrize(
    ("epochs", "lora_dropout", "size", "accumulation"),
    [(2.0, 0.05, 1, 3), (2.0, 0.05, 2, 1), (1.5, 0.3, 2, 2)]
    + [pytest.param(2.0, 0.0, *batch, marks=pytest.mark.drill) for batch in ((1, 1), (2, 1), (1, 3), (2, 2))]
    + [
        pytest.param(*case, marks=pytest.mark.drill)
        for case in ((2.0, 0.05, 1, 1), (2.0, 0.05, 2, 2), (1.5, 0.05, 1, 1))
    ],
)
def test_resume_is_exact_wherever_it_stopped(
    tmp_path: Path, epochs: float, lora_dropout: float, size: int, accumulation: int
) -> None:
    """Stopped after the first step, at the end of an epoch, inside an epoch, and before the last evaluation."""
    flags: dict[str, Any] = {
        "epochs": epochs,
        "lora_dropout": lora_dropout,
        "per_device_batch_size": size,
        "gradient_accumulation_steps": accumulation,
    }
    whole = Training(small(tmp_path / "whole", **flags))
    outcome = whole.run()
    last, per_epoch = max(whole.events.losses()), plan_steps(whole.arguments, len(TRAIN)).steps_per_epoch
    for step in sorted({1, per_epoch, min(per_epoch + 1, last), last}):
        folder = tmp_path / f"stopped-{step}"
        stop(Training(small(folder, **flags), events=Events(stop_after(StepEvent, step))))
        resumed = Training(small(folder, **flags))
        again = resumed.run()
        assert resumed.resumed_from is not None
        assert step_of(resumed.resumed_from) == step
        assert_same_weights(whole, resumed)
        assert (again.tokens, again.tokens_per_second > 0) == (outcome.tokens, step < last)
        assert (again.train_loss, again.eval_loss) == (outcome.train_loss, outcome.eval_loss)
        assert resumed.events.losses() == {n: loss for n, loss in whole.events.losses().items() if n > step}
        assert resumed.events.evaluations() == {n: e for n, e in whole.events.evaluations().items() if n >= step}


def test_five_stops_in_a_row_change_nothing(tmp_path: Path) -> None:
    whole = Training(small(tmp_path / "whole"))
    whole.run()
    for step in (2, 3, 7, 9, 13):
        stop(Training(small(tmp_path / "stopped"), events=Events(stop_after(StepEvent, step))))
    resumed = Training(small(tmp_path / "stopped"))
    resumed.run()
    assert_same_weights(whole, resumed)


def test_the_magnitudes_of_dora_are_resumed(tmp_path: Path) -> None:
    flags = {"lora_dora": True, "lora_dropout": 0.1}
    whole = Training(small(tmp_path / "whole", **flags))
    whole.run()
    stop(Training(small(tmp_path / "stopped", **flags), events=Events(stop_after(StepEvent, 3))))
    resumed = Training(small(tmp_path / "stopped", **flags))
    resumed.run()
    assert_same_weights(whole, resumed)
    assert sum("magnitude" in name for name in whole.adapter()) == 4


def test_the_scale_of_an_fp16_loss_is_resumed(tmp_path: Path) -> None:
    """The scale changes with overflowing gradients and with time, so it is a part of the training's state."""
    whole = Training(small(tmp_path / "whole"), dtype=torch.float16)
    whole.run()
    for step in (1, 7):
        stop(Training(small(tmp_path / "stopped"), dtype=torch.float16, events=Events(stop_after(StepEvent, step))))
    resumed = Training(small(tmp_path / "stopped"), dtype=torch.float16)
    resumed.run()
    assert_same_weights(whole, resumed)
    scales = [
        json.loads((tmp_path / way / "checkpoint-14" / "progress.json").read_text()) for way in ("whole", "stopped")
    ]
    assert scales[0]["loss_scale"]["_growth_tracker"] == 14
    assert scales[0] == scales[1]


def test_a_stop_inside_a_step_drops_the_step(tmp_path: Path) -> None:
    """The forward passes of the step that was begun have drawn their dropout; a resume draws the same again."""
    flags = {"per_device_batch_size": 1, "gradient_accumulation_steps": 3}
    whole = Training(small(tmp_path / "whole", **flags))
    whole.run()

    class StopsInsideStep(Training):
        passes = 0  # of the second step

        def before_pass(self, module: Any, _inputs: Any) -> None:
            if type(module).__name__ == "LlamaModel" and self.events.losses():
                self.passes += 1
                if self.passes == 2:
                    signal.raise_signal(signal.SIGTERM)

        def run(self) -> Any:
            handle = torch.nn.modules.module.register_module_forward_pre_hook(self.before_pass)
            try:
                return super().run()
            finally:
                handle.remove()

    stop(StopsInsideStep(small(tmp_path / "stopped", **flags)))
    resumed = Training(small(tmp_path / "stopped", **flags))
    resumed.run()
    assert resumed.resumed_from is not None
    assert step_of(resumed.resumed_from) == 1
    assert_same_weights(whole, resumed)


def test_an_evaluation_that_was_stopped_is_repeated_on_resume(tmp_path: Path) -> None:
    whole = Training(small(tmp_path / "whole"))
    whole.run()
    stopped = Training(small(tmp_path / "stopped"), test=StoppingSplit(TEST, row=1))
    stop(stopped)
    assert stopped.events.evaluations() == {}  # nothing came of the evaluation
    resumed = Training(small(tmp_path / "stopped"))
    resumed.run()
    assert_same_weights(whole, resumed)
    assert resumed.events.emitted[0] == EvalEvent(step=7, eval_loss=whole.events.evaluations()[7])


@pytest.mark.parametrize("harm", [None, Path.unlink, lambda file: file.write_text('{"progress": "{}", "seal": ""}')])
def test_no_evaluation_is_repeated_where_the_steps_are_done(
    tmp_path: Path, harm: Callable[[Path], object] | None
) -> None:
    """As where only a merge is left. Without the note of it, it is repeated."""
    flags = {"keep": "best"}
    whole = Training(small(tmp_path, **flags))
    first, last = whole.run(), max(whole.events.losses())
    if harm:
        harm(tmp_path / f"checkpoint-{last}" / "evaluation.json")
    later = Training(small(tmp_path, **flags))
    again = later.run()
    assert [type(event) for event in later.events.emitted] == ([EvalEvent] if harm else [])
    assert (again.eval_loss, again.kept_step, again.kept_because) == (
        first.eval_loss, first.kept_step, first.kept_because,
    )  # fmt: skip
    assert_same_weights(whole, later)


def test_a_stop_saves_without_reading_the_test_split(tmp_path: Path) -> None:
    """At the end of an epoch no test pack is read any more: SageMaker gives two minutes."""

    class Unread(StoppingSplit):
        def __getitem__(self, number: Any) -> Any:
            raise AssertionError("the test split was read after SIGTERM")

    stop(Training(small(tmp_path), test=Unread(TEST, row=-1), events=Events(stop_after(StepEvent, 7))))
    assert (tmp_path / "checkpoint-7" / "manifest.json").exists()


@pytest.mark.parametrize("evaluates", [False, True])
def test_one_example_at_a_time_stops_after_an_example(evaluates: bool, tmp_path: Path) -> None:
    """Not after all those of a pack, which may take minutes."""
    config = AutoConfig.for_model("falcon", vocab_size=512, hidden_size=32, num_attention_heads=4, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    packs, passes = in_table(random_packs(1, [[5, 5, 5]] * 3)), 0
    training = Training(small(tmp_path / "checkpoints"), packs, packs, base=tmp_path / "base")

    def before_pass(module: Any, _inputs: Any) -> None:
        nonlocal passes
        if type(module).__name__ == "FalconModel" and training.events.losses() and module.training is not evaluates:
            passes += 1
            if passes == 1:
                signal.raise_signal(signal.SIGTERM)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(before_pass)
    try:
        stop(training)
    finally:
        handle.remove()
    assert passes == 1


def test_a_stop_before_the_first_step_leaves_no_checkpoint(tmp_path: Path) -> None:
    arguments = small(tmp_path)
    [first] = plan_steps(arguments, len(TRAIN)).batches(0)[0]
    stop(Training(arguments, train=StoppingSplit(TRAIN, row=first)))
    assert not list(tmp_path.glob("checkpoint-*"))


def test_evaluation_draws_no_random_numbers(tmp_path: Path) -> None:
    generators = []

    class Looking(StoppingSplit):
        def __getitem__(self, number: Any) -> Any:
            generators.append(torch.get_rng_state())
            return super().__getitem__(number)

    training = Training(small(tmp_path, epochs=1.0, lora_dropout=0.5), test=Looking(TEST, row=-1))
    training.run()
    assert len(generators) == len(TEST)
    for state in (*generators[1:], torch.get_rng_state()):
        assert torch.equal(state, generators[0])


def test_losses_logged_in_groups_are_the_same_after_a_resume(tmp_path: Path) -> None:
    whole = Training(small(tmp_path / "whole", logging_steps=4))
    whole.run()
    assert sorted(whole.events.losses()) == [1, 4, 8, 12, 14]
    stop(Training(small(tmp_path / "stopped", logging_steps=4), events=Events(stop_after(EvalEvent, 7))))
    resumed = Training(small(tmp_path / "stopped", logging_steps=4))
    resumed.run()
    assert resumed.events.losses() == {n: loss for n, loss in whole.events.losses().items() if n > 7}


def test_auto_keeps_its_batch_size_on_resume(tmp_path: Path) -> None:
    """Free memory may differ at the second start; another batch size would change the last digits of every sum."""
    flags = {"per_device_batch_size": 2, "gradient_accumulation_steps": 2}
    stop(Training(small(tmp_path, **flags), events=Events(stop_after(StepEvent, 1))))
    asked = small(tmp_path, per_device_batch_size=0, gradient_accumulation_steps=4)
    arguments = with_batch_of(tmp_path / "checkpoint-1", asked)
    assert (arguments.per_device_batch_size, arguments.gradient_accumulation_steps) == (2, 2)
    assert with_batch_of(None, asked) == asked


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
