"""A base model for which a device has too little memory is shared in main memory, if that can be, and else refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest_engine import in_table, random_model, random_packs
from engine.arguments import Arguments
from engine.base_memory import BaseBytes, base_bytes
from engine.failure import TrainingError
from engine.fake_pass import skeleton
from engine.fitting import Plan, plan_memory
from engine.model import load_base, quantized_layers
from loading import tried_out
from lora_targets import resolve_targets

ARGUMENTS = Arguments(gradient_accumulation_steps=4, quantization="none", gradient_checkpointing="false")
PACKS = [{"input_ids": [5] * 20, "example_lengths": [20], "prompt_lengths": [12]} for _ in range(8)]
PLENTY = 10**12


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    random_model("llama").save_pretrained(folder)
    return folder


def planned(base: Path, free: int, device: str, neighbours: int = 1, arguments: Arguments = ARGUMENTS) -> Plan:
    targets = resolve_targets(skeleton(base), ("auto",))
    return plan_memory(
        base, arguments, targets, PACKS, torch.float32, free, neighbours, device, neighbours=neighbours
    )  # fmt: skip


def bytes_of(base: Path, quantization: str = "none") -> BaseBytes:
    return base_bytes(base, quantization, torch.float32)


@pytest.mark.parametrize("quantization", ["int8", "nf4", "none"])
def test_what_can_be_shared_is_what_a_loaded_model_holds(llama: Path, quantization: str) -> None:
    model = load_base(llama, replace(ARGUMENTS, quantization=quantization), torch.float32, torch.device("cpu"))
    sizes = [model.get_submodule(name).weight.nbytes for name in quantized_layers(skeleton(llama))]
    found = bytes_of(llama, quantization)
    assert (found.codes, found.largest_codes) == (sum(sizes), max(sizes))


def test_a_gpu_keeps_the_codes_for_which_it_has_room(llama: Path) -> None:
    base = bytes_of(llama)
    whole = planned(llama, PLENTY, "cuda")
    assert (whole.shared_bytes, whole.resident_bytes) == (0, 0)
    free = round(whole.memory.total / 1.105)
    some = planned(llama, free, "cuda")
    assert some.shared_bytes + some.resident_bytes == base.codes
    assert some.resident_bytes > base.codes // 10
    assert some.memory.total <= 0.9 * free + 1
    fewer = planned(llama, free - base.codes // 10, "cuda")
    assert 0 < fewer.resident_bytes < some.resident_bytes
    asked = planned(llama, PLENTY, "cuda", arguments=replace(ARGUMENTS, engine_base="shared"))
    assert (asked.shared_bytes, asked.resident_bytes) == (base.codes, 0)
    assert asked.memory.total == whole.memory.total - base.codes + 2 * base.largest_codes


def test_processes_on_a_cpu_have_one_base_between_them(llama: Path) -> None:
    base, whole = bytes_of(llama), planned(llama, PLENTY, "cpu", 4)
    assert whole.shared_bytes == 0
    shared = planned(llama, PLENTY, "cpu", 4, replace(ARGUMENTS, engine_base="shared"))
    assert shared.shared_bytes == base.codes
    assert shared.memory.total == whole.memory.total - base.codes + base.codes // 4
    assert planned(llama, round(whole.memory.total / 1.15), "cpu", 4).shared_bytes == base.codes


@pytest.mark.parametrize(
    ("device", "arguments", "why"),
    [
        ("cuda", replace(ARGUMENTS, engine_base="whole"), "training.engine.base is whole"),
        ("cuda", replace(ARGUMENTS, lora_dora=True), "lora.dora begins with"),
        ("cuda", ARGUMENTS, ""),
        ("cpu", ARGUMENTS, ""),
    ],
)
def test_what_fits_in_no_way_is_refused_with_what_helps(
    llama: Path, device: str, arguments: Arguments, why: str
) -> None:
    with pytest.raises(TrainingError, match=r"this training needs .* are free") as refused:
        planned(llama, 10_000, device, arguments=arguments)
    helps, _, because = refused.value.hint.partition("; the base model is not shared, because ")
    assert helps.endswith("or quantization to nf4")
    assert because.startswith(why) if why else not because


def test_an_architecture_that_reads_weights_itself_is_refused(llama: Path) -> None:
    """Other failures stay what they are."""
    plan, packs = planned(llama, PLENTY, "cuda"), in_table(random_packs(1, [[9, 7]]))
    model = random_model("llama")

    def reads_its_weight(_x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("Expected all tensors to be on the same device")

    model.model.layers[0].self_attn.q_proj.forward = reads_its_weight
    with pytest.raises(RuntimeError, match=r"^Expected all tensors"):
        tried_out(model, plan, (packs, packs))
    with pytest.raises(TrainingError, match="does not run with its weights in main memory: Expected all tensors"):
        tried_out(model, replace(plan, shared_bytes=1), (packs, packs))


def test_the_next_start_of_a_job_may_hold_the_base_elsewhere() -> None:
    assert replace(ARGUMENTS, engine_base="shared").fingerprint() == ARGUMENTS.fingerprint()
    assert replace(ARGUMENTS, engine_head="all").fingerprint() != ARGUMENTS.fingerprint()


def test_a_base_that_nobody_could_share_is_not_shared(llama: Path) -> None:
    for device, dora, why in (("cpu", False, "the only process on a CPU"), ("cuda", True, "lora.dora")):
        asked = replace(ARGUMENTS, engine_base="shared", lora_dora=dora)
        with pytest.raises(TrainingError, match=f"the base model cannot be shared: .*{why}"):
            planned(llama, PLENTY, device, arguments=asked)
