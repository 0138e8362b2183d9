"""A damaged checkpoint is never resumed from: it is set aside, with the reason, and the one before is taken."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from conftest_training import TRAIN, Events, Training, sigterm_as_before, small, stop_after
from engine.checkpoint import FILES, Checkpoints, flush
from engine.failure import TrainingError
from engine.schedule import plan_steps
from shared.events import Event, StepEvent

sigterm = pytest.fixture(autouse=True)(sigterm_as_before)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def change_one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def take_from_older(file: Path) -> None:
    shutil.copyfile(file.parent.parent / "checkpoint-2" / file.name, file)


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (2, 4):
        with pytest.raises(SystemExit):
            Training(small(folder), events=Events(stop_after(StepEvent, step))).run()
    return folder


@pytest.fixture
def folder(two_checkpoints: Path, tmp_path: Path) -> Path:
    return shutil.copytree(two_checkpoints, tmp_path / "checkpoints")


def claim(two_checkpoints: Path, folder: Path) -> Path | None:
    return Checkpoints(folder, small(two_checkpoints), "dataset").claim()


def test_the_newest_whole_checkpoint_is_taken(folder: Path) -> None:
    assert claim(folder, folder) == folder / "checkpoint-4"
    assert {path.name for path in (folder / "checkpoint-4").iterdir()} == {*FILES, "manifest.json"}


@pytest.mark.parametrize(
    ("damage", "name"),
    [(d, n) for d in (cut, empty, zero, change_one_bit, remove, make_folder) for n in (*FILES, "manifest.json")]
    + [(take_from_older, name) for name in ("manifest.json", *FILES) if name != "adapter_config.json"],  # the same
)
def test_every_damage_to_every_file_is_noticed(
    folder: Path, damage: Callable[[Path], None], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder / "checkpoint-4" / name)
    assert claim(folder, folder) == folder / "checkpoint-2"
    assert "not resuming from checkpoint-4: " in caplog.text
    assert name in caplog.text or damage in (take_from_older, change_one_bit)  # a digest may be what has changed
    assert not (folder / "checkpoint-4").exists()
    assert (folder / "set-aside" / "checkpoint-4").is_dir()


def test_a_resume_past_a_damaged_checkpoint_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    zero(folder / "checkpoint-4" / "optimizer.safetensors")
    resumed = Training(small(folder))
    resumed.run()
    assert resumed.resumed_from == folder / "checkpoint-2"
    whole = Training(small(tmp_path / "whole"))
    whole.run()
    for name, expected in whole.adapter().items():
        assert torch.equal(resumed.adapter()[name], expected)


def test_an_older_checkpoint_under_a_newer_name_is_noticed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(folder / "checkpoint-4")
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-4")
    assert claim(folder, folder) == folder / "checkpoint-2"
    assert "its manifest.json is that of step 2" in caplog.text


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize("moment", [0, 1, 2, 5, 6, 8])
def test_a_kill_at_any_moment_of_a_save_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Before each file is written or flushed. Until the manifest is written, the checkpoint before is taken."""
    arguments = small(tmp_path / "killed", epochs=0.5, checkpoint_minutes=1e-9)
    calls = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 10 + moment:  # in the second save: one has 2 tensor files and 7 flushes
                raise Killed
            return function(*values)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("engine.train_state.save_file", dying(save_file))
        patch.setattr("engine.checkpoint.flush", dying(flush))
        with pytest.raises(Killed):
            Training(arguments).run()
    resumed = Training(arguments)
    resumed.run()
    assert resumed.resumed_from == tmp_path / "killed" / f"checkpoint-{1 if moment < 6 else 2}"
    whole = Training(small(tmp_path / "whole", epochs=0.5))
    whole.run()
    for name, expected in whole.adapter().items():
        assert torch.equal(resumed.adapter()[name], expected)


def test_training_starts_anew_if_all_checkpoints_are_damaged(folder: Path) -> None:
    for name in ("checkpoint-2", "checkpoint-4"):
        remove(folder / name / "progress.json")
    assert claim(folder, folder) is None


def test_a_manifest_without_its_keys_is_damage(folder: Path) -> None:
    for text in (
        "[]",
        "{}",
        '{"format": 1}',
        '"text"',
        "null",
        '{"format": 1, "job": "", "files": {}}',
        "\x00",
        "[" * 99999,
    ):
        (folder / "checkpoint-4" / "manifest.json").write_text(text, encoding="utf-8")
        assert claim(folder, folder) == folder / "checkpoint-2"
        (folder / "set-aside" / "checkpoint-4").rename(folder / "checkpoint-4")


def test_the_markers_that_sagemaker_leaves_are_ignored(folder: Path) -> None:
    for path in ("checkpoint-4", "checkpoint-4/optimizer.safetensors", "checkpoint-6", "failures.json"):
        for kind in ("uploading", "uploaded"):
            (folder / f"{path}.sagemaker-{kind}").write_text("", encoding="utf-8")
    assert claim(folder, folder) == folder / "checkpoint-4"
    resumed = Training(small(folder))
    resumed.run()
    assert resumed.resumed_from == folder / "checkpoint-4"
    assert {path.name for path in folder.glob("checkpoint-*") if path.is_dir()} == {"checkpoint-4", "checkpoint-14"}


def test_a_checkpoint_of_other_arguments_or_data_is_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = Checkpoints(shutil.copytree(folder, folder.parent / "other"), small(folder, seed=7), "dataset")
    assert other.claim() is None
    assert "made with another configuration or dataset" in caplog.text
    assert Checkpoints(folder, small(folder), "another dataset").claim() is None


def test_only_the_two_newest_are_kept(tmp_path: Path) -> None:
    Training(small(tmp_path, checkpoint_minutes=1e-9)).run()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-13", "checkpoint-14"}


def test_two_failed_resumes_lead_to_the_checkpoint_before(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its files are those that were written, and still the training cannot go on from it."""

    def fail(_event: Event) -> bool:
        raise RuntimeError("the loss exploded")

    for _ in range(2):
        training = Training(small(folder), events=Events(fail))
        with pytest.raises(RuntimeError, match="exploded"):
            training.run()
        assert training.resumed_from == folder / "checkpoint-4"
    assert claim(folder, folder) == folder / "checkpoint-2"
    assert "a resume from it failed 2 times" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        torch.OutOfMemoryError("busy"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        MemoryError(),
        SystemExit(143),
    ],
)
def test_an_error_that_says_nothing_about_a_checkpoint_is_not_counted(folder: Path, error: BaseException) -> None:
    def fail(_event: Event) -> bool:
        raise error

    for _ in range(3):
        with pytest.raises((OSError, TrainingError, SystemExit)):
            Training(small(folder), events=Events(fail)).run()
        assert claim(folder, folder) == folder / "checkpoint-4"


def test_a_failure_after_a_newer_checkpoint_is_not_counted(folder: Path) -> None:
    def fail(event: Event) -> bool:
        if isinstance(event, StepEvent) and event.step == 6:
            raise RuntimeError("later")
        return False

    with pytest.raises(RuntimeError, match="later"):
        Training(small(folder, checkpoint_minutes=1e-9), events=Events(fail)).run()
    assert not (folder / "failures.json").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"checkpoint-4": "x"}'])
def test_a_damaged_count_of_failures_counts_as_none(folder: Path, content: str) -> None:
    (folder / "failures.json").write_text(content, encoding="utf-8")
    assert claim(folder, folder) == folder / "checkpoint-4"


def test_gradients_that_never_fit_into_fp16_end_the_training(tmp_path: Path) -> None:
    """Each such step is left out, so the job would go on to its end and learn nothing."""

    def before_pass(module: Any, _inputs: Any) -> None:
        for parameter in module.parameters() if type(module).__name__ == "LlamaModel" else ():
            if parameter.grad is not None and not parameter._backward_hooks:
                parameter.register_hook(lambda gradient: gradient + math.inf)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(before_pass)
    try:
        with pytest.raises(TrainingError, match="the gradient is not a finite number at step 17"):
            Training(small(tmp_path, max_steps=40), dtype=torch.float16).run()
    finally:
        handle.remove()


def test_a_loss_that_is_not_finite_keeps_the_last_good_adapter(tmp_path: Path) -> None:
    """The error names the step and the examples; the checkpoint of the step before holds finite weights."""
    weights: dict[int, dict[str, torch.Tensor]] = {}

    class Poisoned(Training):
        def run(self) -> Any:
            self.events.stop_at = self.remember
            handle = torch.nn.modules.module.register_module_forward_hook(self.hook)
            try:
                return super().run()
            finally:
                handle.remove()

        def remember(self, event: Event) -> bool:
            weights[len(weights) + 1] = self.adapter()
            return False

        def hook(self, module: Any, _inputs: Any, output: Any) -> None:
            if type(module).__name__ == "LlamaModel" and len(weights) == 3:
                output.last_hidden_state.data.fill_(math.nan)

    training = Poisoned(small(tmp_path))
    with pytest.raises(TrainingError) as caught:
        training.run()
    [[pack]] = plan_steps(training.arguments, len(TRAIN)).batches(3)
    first = sum(len(row["example_lengths"]) for row in TRAIN[:pack])
    last = first + len(TRAIN[pack]["example_lengths"]) - 1
    assert caught.value.message == (
        f"the loss is not a finite number at step 4, in pack {pack} (examples {first} to {last}) of the train split"
    )
    assert "checkpoint-3" in caught.value.hint
    for name, expected in weights[3].items():
        assert torch.equal(training.adapter()[name], expected)
        assert expected.isfinite().all()
    assert claim(tmp_path, tmp_path) == tmp_path / "checkpoint-3"


def test_no_file_of_a_checkpoint_is_a_pickle(folder: Path) -> None:
    from safetensors import safe_open

    for path in (folder / "checkpoint-4").iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        else:
            with safe_open(path, framework="pt") as file:
                assert list(file.keys())


def test_a_checkpoint_is_an_adapter_that_peft_loads(folder: Path) -> None:
    from peft import PeftModel

    from conftest_engine import random_model

    loaded = PeftModel.from_pretrained(random_model("llama"), folder / "checkpoint-4")
    stopped = Training(small(folder / "other"), events=Events(stop_after(StepEvent, 4)))
    with pytest.raises(SystemExit):
        stopped.run()
    found = dict(loaded.named_parameters())
    for name, expected in stopped.adapter().items():
        assert torch.equal(found[name], expected)
