"""Several processes train together what one would train with the same packs, and they stop and end together."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, random_family_model
from forks import Zygote

from conftest_engine import in_table, random_model, random_packs
from conftest_training import TRAIN, small
from engine.batches import collate
from engine.distributed import _explained
from engine.failure import PeerLostError, TrainingError
from engine.fitting import _batch_sizes
from engine.packs import pack_sizes
from engine.work_split import shares
from shared.names import RENDEZVOUS

SCRIPT = str(Path(__file__).with_name("one_process.py"))
Flags = Mapping[str, Any]
Run = Callable[..., list[dict[str, Any]]]
FOUR: Flags = {"gradient_accumulation_steps": 4, "lora_dropout": 0.1, "epochs": 3.0}


@pytest.fixture
def run(tmp_path: Path, trainings: Zygote) -> Run:
    """Runs a training in so many processes. Returns what each of them reports, without those that were killed."""

    def run(
        size: int, folder: str, flags: Flags = FOUR, base: Flags | None = None, **hits: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        meeting = tmp_path / f"{folder}-{len(list(tmp_path.iterdir()))}"
        meeting.mkdir()
        started, reports = [], []
        for rank in range(size):
            asked: dict[str, Any] = {
                "flags": dict(flags),
                "folder": str(tmp_path / folder),
                "report": str(meeting / str(rank)),
            }
            asked |= {**(base or {}), **hits.get(f"rank_{rank}", {})}
            environ = {"RANK": rank, "WORLD_SIZE": size, RENDEZVOUS: f"file://{meeting}/meet"}
            texts = {name: str(value) for name, value in environ.items()}
            started.append(trainings.start([json.dumps(asked)], texts, {}, SCRIPT))
            reports.append(meeting / str(rank))
        for process in started:
            ended = process.wait()
            assert ended.code in (0, -9), ended.stderr
        return [json.loads(report.read_text()) for report in reports if report.exists()]

    return run


def assert_equal(one: dict[str, Any], other: dict[str, Any], since: int = 0) -> None:
    """The same losses and weights but for rounding."""
    for figures in ("losses", "evaluations"):
        expected = {step: loss for step, loss in one[figures].items() if int(step) > since}
        found = {step: loss for step, loss in other[figures].items() if int(step) > since}
        assert found == pytest.approx(expected, rel=1e-5), figures
    for name, weights in one["adapter"].items():
        assert other["adapter"][name] == pytest.approx(weights, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize(
    ("size", "flags"),
    [
        (2, FOUR),
        (3, FOUR),
        (2, {"per_device_batch_size": 2, "gradient_accumulation_steps": 2, "loss_on": "all", "weight_decay": 0.1}),
    ],
)
def test_several_processes_have_the_loss_curve_of_one(run: Run, size: int, flags: Flags) -> None:
    """Dropout included. An epoch's last step has fewer passes than there are processes."""
    [alone] = run(1, "alone", flags)
    together = run(size, "together", flags)
    assert len(alone["losses"]) >= 4
    assert len(together) == size
    assert_equal(alone, together[0])
    for other in together[1:]:
        assert other["adapter"] == together[0]["adapter"], "bit for bit: each makes the same step"


def test_a_stop_of_one_process_stops_all_and_any_number_goes_on(run: Run, tmp_path: Path) -> None:
    [alone] = run(1, "alone")
    stopped = run(2, "stopped", rank_1={"stop_after": 3})
    assert [report["ended"] for report in stopped] == ["status 143", "status 143"]
    [checkpoint] = (tmp_path / "stopped").glob("checkpoint-*")
    assert checkpoint.name == "checkpoint-3"
    for size in (1, 2, 3):
        folder = tmp_path / f"again-{size}"
        folder.mkdir()
        (folder / checkpoint.name).symlink_to(checkpoint)
        again = run(size, folder.name)
        assert again[0]["resumed_from"].endswith("checkpoint-3")
        assert_equal(alone, again[0], since=3)


def test_a_training_goes_on_with_another_number_of_gpus(run: Run, base: Callable[..., Flags]) -> None:
    """As far as pretended GPUs show it (pretend_gpu.py)."""
    flags = {**FOUR, "quantization": "int8", "epochs": 2.0}
    [alone] = run(1, "alone", flags, base(shared=False))
    stopped = run(2, "stopped", flags, {**base(shared=False), "gpus": 2}, rank_0={"stop_after": 2})
    assert {report["ended"] for report in stopped} == {"status 143"}
    again = run(3, "stopped", flags, {**base(shared=False), "gpus": 3})
    assert again[0]["resumed_from"].endswith("checkpoint-2")
    assert_equal(alone, again[0], since=2)
    assert all(other["adapter"] == again[0]["adapter"] for other in again)


def test_a_loss_that_is_no_number_ends_all_with_the_same_reason(run: Run) -> None:
    first, second = run(2, "broken", rank_1={"break_at": 3})
    assert first["ended"] == second["ended"]
    assert first["ended"].startswith("TrainingError: the loss is not a finite number at step 2, in pack ")
    assert first["ended"].count("pack ") == 1, "only the pack of the second process"


@pytest.mark.parametrize("error", [torch.AcceleratorError("CUDA error"), torch.OutOfMemoryError("no memory")])
def test_a_fault_of_the_own_gpu_is_no_lost_process(error: RuntimeError) -> None:
    """Both are a RuntimeError, as what gloo raises is."""
    with pytest.raises(type(error)), _explained(RuntimeError):
        raise error
    with pytest.raises(PeerLostError), _explained(RuntimeError):
        raise RuntimeError("Connection closed by peer")


def test_a_killed_process_ends_the_others_which_save_their_step(run: Run, tmp_path: Path) -> None:
    [left] = run(2, "killed", rank_1={"kill_after": 3})
    assert left["ended"].startswith("PeerLostError: another process of the training has ended")
    assert (tmp_path / "killed" / "checkpoint-3" / "manifest.json").exists()
    assert not (tmp_path / "killed" / "failures.json").exists(), "the checkpoint is not to blame"


@pytest.fixture
def base(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Flags]:
    """The folder of a base model, Llama or the family that a test names, and how a training holds it."""
    folder = tmp_path / "base"
    kind = getattr(request, "param", "llama")
    model = next((random_family_model(family) for family in FAMILIES if family.kind == kind != "llama"), None)
    (model or random_model("llama")).save_pretrained(folder)
    return lambda shared, recomputed=0: {"base": str(folder), "shared": shared, "recomputed": recomputed}


ON_EXPERTS: Flags = {"lora_dropout": 0.0, "lora_targets": ["q_proj", "experts.gate_up_proj", "experts.down_proj"]}


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        ("llama", {"quantization": "int8"}),
        ("llama", {"quantization": "none", "lora_dora": True}),
        ("qwen3_moe", {"quantization": "int8", **ON_EXPERTS}),
        ("gpt_oss", {"quantization": "nf4"}),
        ("mixtral", {"quantization": "none"}),
    ],
    indirect=["base"],
)
def test_processes_that_share_a_base_train_as_one(run: Run, base: Callable[..., Flags], settings: Flags) -> None:
    flags = {**FOUR, **settings, "epochs": 2.0}
    [alone] = run(1, "alone", flags, base(shared=False))
    together = run(2, "together", flags, base(shared=True))
    assert len(alone["losses"]) >= 4
    assert_equal(alone, together[0])
    assert together[1]["adapter"] == together[0]["adapter"]


@pytest.mark.parametrize(
    ("base", "settings", "recomputed"),
    [("llama", {}, 0), ("llama", {}, 1), ("qwen3_moe", {}, 0), ("qwen3_moe", ON_EXPERTS, 1)],
    indirect=["base"],
)
def test_fetching_each_weight_for_a_product_changes_no_bit(
    run: Run, base: Callable[..., Flags], settings: Flags, recomputed: int
) -> None:
    flags = {**FOUR, **settings, "quantization": "int8", "epochs": 2.0}
    [whole] = run(1, "whole", flags, base(False, recomputed))
    [fetched] = run(1, "fetched", flags, base(True, recomputed))
    assert fetched | {"resumed_from": ""} == whole


def test_a_killed_process_leaves_the_shared_base_to_the_others(
    run: Run, base: Callable[..., Flags], tmp_path: Path
) -> None:
    """They save their step, with which any number goes on. The first process made the shared memory."""
    [alone] = run(1, "alone", FOUR, base(False))
    [left] = run(2, "killed", FOUR, base(True), rank_0={"kill_after": 3})
    assert left["ended"].startswith("PeerLostError: another process of the training has ended")
    [left] = run(2, "saved", FOUR, base(True), rank_1={"kill_after": 3})
    again = run(3, "saved", FOUR, base(True))
    assert again[0]["resumed_from"].endswith("checkpoint-3")
    assert_equal(alone, again[0], since=3)


def test_passes_are_shared_by_their_tokens() -> None:
    assert shares([2048, 1980, 2040, 1010, 2000, 900], 2) == [[0, 1, 3], [2, 4, 5]]
    assert shares([5, 5], 3) == [[0], [1], []]
    assert shares([3, 1, 2], 1) == [[0, 1, 2]]


@pytest.mark.parametrize("loss_on", ["completion", "all"])
def test_sizes_of_packs_are_those_of_their_batches(loss_on: str) -> None:
    packs = [*TRAIN, *random_packs(3, [[4], [9, 2, 7]])]
    tokens, labels = pack_sizes(in_table(packs), loss_on)
    batches = [collate([pack], loss_on) for pack in packs]
    assert tokens == [batch["input_ids"].shape[1] for batch in batches]
    assert labels == [len(batch["rows"]) for batch in batches]


def test_each_process_has_a_pass_of_a_step_or_is_refused(tmp_path: Path) -> None:
    def sizes(per_device: int, accumulation: int, processes: int) -> list[int]:
        flags = {"per_device_batch_size": per_device, "gradient_accumulation_steps": accumulation}
        return _batch_sizes(small(tmp_path, **flags), 100, processes)

    assert sizes(4, 1, 1) == [4]
    assert sizes(4, 1, 2) == [2]
    assert sizes(5, 2, 3) == [2]
    assert sizes(0, 8, 1) == [8, 4, 2, 1]
    assert sizes(0, 8, 4) == [2, 1]
    with pytest.raises(TrainingError) as refused:
        sizes(1, 1, 2)
    assert refused.value.message == "an optimizer step has 1 pack for 2 processes"
    assert "gradient_accumulation_steps to 2 or more" in refused.value.hint
