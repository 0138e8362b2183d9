"""A base model for which a device has too little memory is shared in main memory, if that can be, and else refused."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, random_family_model

from conftest_engine import in_table, random_model, random_packs
from engine.arguments import Arguments
from engine.base_memory import BaseBytes, base_bytes, shareable
from engine.failure import TrainingError
from engine.fake_pass import skeleton
from engine.fitting import Plan, plan_memory
from engine.model import load_base
from engine.weight_storage import codes_of
from loading import tried_out
from shared.lora_targets import resolve_targets

ARGUMENTS = Arguments(gradient_accumulation_steps=4, quantization="none", gradient_checkpointing="false")
PACKS = [{"input_ids": [5] * 20, "example_lengths": [20], "prompt_lengths": [12]} for _ in range(8)]
PLENTY = 10**12


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    random_model("llama").save_pretrained(folder)
    return folder


def saved(kind: str, folder: Path) -> None:
    (family,) = (family for family in FAMILIES if family.kind == kind)
    random_family_model(family).save_pretrained(folder)


def planned(base: Path, free: int, device: str, neighbours: int = 1, arguments: Arguments = ARGUMENTS) -> Plan:
    targets = resolve_targets(skeleton(base), ("auto",))
    return plan_memory(
        base, arguments, targets, PACKS, torch.float32, free, neighbours, device, neighbours=neighbours
    )  # fmt: skip


def bytes_of(base: Path, quantization: str = "none") -> BaseBytes:
    return base_bytes(base, quantization, torch.float32)


@pytest.mark.parametrize("quantization", ["int8", "nf4", "none"])
@pytest.mark.parametrize("kind", ["llama", "mixtral", "gpt_oss"])
def test_what_can_be_shared_is_what_a_loaded_model_holds(kind: str, quantization: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    model = load_base(tmp_path, replace(ARGUMENTS, quantization=quantization), torch.float32, torch.device("cpu"))
    codes = [codes_of(model.get_parameter(name)) for name in shareable(skeleton(tmp_path))]
    found = bytes_of(tmp_path, quantization)
    assert found.codes == sum(one.nbytes for one in codes)
    assert found.largest_codes == max(one[0].nbytes for one in codes)


@pytest.mark.parametrize("quantization", ["int8", "none"])
def test_a_gpu_has_room_for_one_expert_at_a_time(quantization: str, tmp_path: Path) -> None:
    """Of a mixture of experts, nearly all is in main memory; a stack of experts need not fit on the GPU."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    shape = {"hidden_size": 64, "moe_intermediate_size": 64, "num_hidden_layers": 8, "num_experts": 32}
    with torch.device("meta"):
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=64, **shape))
    model.config.save_pretrained(tmp_path)
    base, arguments = bytes_of(tmp_path, quantization), replace(ARGUMENTS, quantization=quantization)
    whole = planned(tmp_path, PLENTY, "cuda", arguments=arguments)
    shared = planned(tmp_path, PLENTY, "cuda", arguments=replace(arguments, engine_base="shared"))
    assert base.codes > 0.8 * base.held
    assert base.largest_codes == 2 * 64 * 64 * (1 if quantization == "int8" else 4)
    assert (shared.shared_bytes, shared.memory.weights) == (base.codes, base.held - base.codes)
    assert shared.memory.total < 0.6 * whole.memory.total


def test_loading_experts_has_room_however_many_layers_recompute(tmp_path: Path) -> None:
    """It holds a stack in the compute dtype three times, when there are no activations yet."""
    (family,) = (family for family in FAMILIES if family.kind == "mixtral")
    settings = {**family.settings, "num_hidden_layers": 8, "intermediate_size": 1024, "num_experts_per_tok": 1}
    random_family_model(replace(family, settings=settings)).config.save_pretrained(tmp_path)
    largest = 4 * (2 * 1024) * 32 * 4
    arguments = replace(ARGUMENTS, gradient_checkpointing="auto", engine_base="whole")
    whole = planned(tmp_path, PLENTY, "cuda", arguments=arguments)
    recomputing = set()
    for percent in range(100, 50, -2):
        try:
            plan = planned(tmp_path, whole.memory.total * percent // 90, "cuda", arguments=arguments)
        except TrainingError:
            break
        recomputing.add(plan.recomputed_layers)
        assert plan.memory.total >= plan.memory.weights + 3 * largest
    assert recomputing & set(range(1, 8)), "some layers recompute, and not all"


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


def test_packs_go_together_where_each_pass_copies_the_base(llama: Path) -> None:
    """Then layers recompute before fewer packs are taken at once; a whole base has it the other way round."""
    found = {}
    for asked in ("whole", "shared"):
        arguments = replace(ARGUMENTS, gradient_checkpointing="auto", per_device_batch_size=0, engine_base=asked)
        plenty = planned(llama, PLENTY, "cuda", arguments=arguments)
        less = planned(llama, round(plenty.memory.total / 0.9) - 1000, "cuda", arguments=arguments)
        found[asked] = [(plan.arguments.per_device_batch_size, plan.recomputed_layers > 0) for plan in (plenty, less)]
    assert found == {"whole": [(4, False), (2, False)], "shared": [(4, False), (4, True)]}


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
        ("cuda", ARGUMENTS, "0.00 GiB of the base model cannot be shared"),
        ("cpu", ARGUMENTS, ""),
    ],
)
def test_what_fits_in_no_way_is_refused_with_what_helps(
    llama: Path, device: str, arguments: Arguments, why: str
) -> None:
    with pytest.raises(TrainingError, match=r"this training needs .* are free") as refused:
        planned(llama, 10_000, device, arguments=arguments)
    helps, *also = re.split("; the base model is not shared, because |; but ", refused.value.hint)
    assert helps.endswith("or quantization to nf4")
    assert also[0].startswith(why) if why else not also


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


def test_a_base_that_nobody_could_share_is_not_shared(llama: Path) -> None:
    for device, dora, why in (("cpu", False, "the only process on a CPU"), ("cuda", True, "lora.dora")):
        asked = replace(ARGUMENTS, engine_base="shared", lora_dora=dora)
        with pytest.raises(TrainingError, match=f"the base model cannot be shared: .*{why}"):
            planned(llama, PLENTY, device, arguments=asked)


@pytest.mark.parametrize(
    ("flag", "same"),
    [
        ({"engine_base": "shared"}, True),
        ({"merge_dtype": "float32"}, True),
        ({"checkpoint_minutes": 5.0, "logging_steps": 3, "temperature": 1.0, "max_new_tokens": 200}, True),
        ({"max_new_tokens": 200, "evaluate": "rougeL"}, False),
        ({"engine_head": "all"}, False),
    ],
)
def test_what_decides_no_step_keeps_the_checkpoints(flag: dict[str, Any], same: bool) -> None:
    before = Arguments(evaluate=flag.get("evaluate", "loss"))
    assert (Arguments(**flag).fingerprint() == before.fingerprint()) is same
