"""A base model that the processes of a machine share is, bit for bit, the one that each would hold alone."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, random_family_model
from forks import Zygote

from conftest_engine import random_model
from engine.arguments import Arguments
from engine.base_memory import shareable
from engine.batches import collate, on_device
from engine.distributed import ALONE
from engine.experts_layers import expert_weights, is_quantized_stack
from engine.failure import TrainingError
from engine.fake_pass import skeleton
from engine.host_weights import SharedBase
from engine.model import add_adapter, load_base
from engine.packed_loss import PackedLoss
from engine.weight_prefetch import Fetcher
from engine.weight_storage import codes_of, keep_codes
from shared.lora_targets import resolve_targets
from shared.names import RENDEZVOUS

SCRIPT = str(Path(__file__).with_name("one_loading.py"))
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a GPU")
CPU = torch.device("cpu")


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=48, n_layer=2, n_head=4, n_positions=64))


EXPERTS = ("mixtral", "qwen3_moe", "gpt_oss", "glm4_moe")  # GPT-OSS has (E, I, O), GLM-4.5 a layer without experts
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: random_model("llama"),
    "bloom": lambda: random_model("bloom"),
    "gpt2": gpt2,
    **{family.kind: partial(random_family_model, family) for family in FAMILIES if family.kind in EXPERTS},
}


def held(model: Any) -> dict[str, torch.Tensor]:
    """All that a model computes with: parameters, buffers, codes, and their scales."""
    tensors = dict(model.state_dict(keep_vars=True)) | dict(model.named_buffers())
    for name, parameter in model.named_parameters():
        if getattr(parameter, "quant_state", None):
            state = parameter.quant_state
            tensors |= {f"{name} scales": state.absmax, f"{name} their scales": state.state2.absmax}
        if is_quantized_stack(parameter):
            whole = torch.stack(list(expert_weights(parameter, False, range(len(parameter)), torch.float32)))
            tensors |= {f"{name} codes": codes_of(parameter), f"{name} whole": whole}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


@pytest.mark.parametrize("quantization", ["int8", "nf4", "none"])
@pytest.mark.parametrize(
    ("architecture", "stored", "computed"),
    [
        ("llama", torch.float32, torch.float32),
        ("llama", torch.bfloat16, torch.float16),
        ("bloom", torch.float16, torch.bfloat16),
        ("gpt2", torch.float32, torch.bfloat16),
        ("qwen3_moe", torch.float32, torch.float32),
        ("mixtral", torch.bfloat16, torch.float16),
        ("gpt_oss", torch.float16, torch.bfloat16),
        ("glm4_moe", torch.bfloat16, torch.bfloat16),
    ],
)
def test_shared_codes_are_those_of_a_process_alone(
    architecture: str,
    stored: torch.dtype,
    computed: torch.dtype,
    quantization: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = MODELS[architecture]()
    model.to(stored).save_pretrained(tmp_path)
    if computed is torch.float16:  # some architectures keep some layers in float32
        monkeypatch.setattr(type(model), "_keep_in_fp32_modules", ["post_attention_layernorm", "up_proj"])
    arguments = replace(Arguments(), quantization=quantization)
    whole = held(load_base(tmp_path, arguments, computed, CPU))
    names = shareable(skeleton(tmp_path))
    shared = SharedBase(names, CPU)
    loaded = load_base(tmp_path, arguments, computed, CPU, shared)
    found = held(loaded)
    assert found.keys() == whole.keys()
    for name, tensor in whole.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name], tensor), name
    codes = [codes_of(loaded.get_parameter(name)) for name in names]
    assert len(codes) >= 8
    assert len({one.untyped_storage().data_ptr() for one in codes}) == 1, "all lie in one memory"
    assert any(len(one) > 1 for one in codes) == (architecture in EXPERTS)


@pytest.mark.parametrize(("architecture", "least"), [("llama", 0.7), ("qwen3_moe", 0.5)])
def test_codes_for_which_a_device_has_room_stay_on_it(architecture: str, least: float, tmp_path: Path) -> None:
    """As many as there is room for: a stack of experts stays whole, or not at all."""
    model = MODELS[architecture]()
    model.save_pretrained(tmp_path)
    names = shareable(skeleton(tmp_path))
    room = sum(model.get_parameter(name).nbytes for name in names) // 2
    shared = SharedBase(names, CPU, resident=room)
    loaded = load_base(tmp_path, Arguments(quantization="none"), torch.float32, CPU, shared)
    weights = [loaded.get_parameter(name) for name in names]
    places = Counter(weight.untyped_storage().data_ptr() for weight in weights)
    staying = sum(w.nbytes for w in weights if places[w.untyped_storage().data_ptr()] == 1)
    assert least * room < staying <= room
    for name in names:
        assert torch.equal(loaded.get_parameter(name), model.get_parameter(name))


def test_codes_that_another_process_has_not_written_are_missed(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    one_of_two = replace(ALONE, local_size=2)
    shared = SharedBase(shareable(skeleton(tmp_path)), CPU, one_of_two)
    with pytest.raises(TrainingError, match="the processes of this machine do not have the same base model to share"):
        load_base(tmp_path, Arguments(quantization="int8"), torch.float32, CPU, shared)


def llama_of_many_weights() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 8, "num_attention_heads": 8}
    return LlamaForCausalLM(LlamaConfig(vocab_size=256, num_key_value_heads=8, **shape))


def qwen3_of_many_experts() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    shape = {"hidden_size": 256, "moe_intermediate_size": 256, "num_hidden_layers": 16, "num_experts": 32}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=256, num_attention_heads=4, num_key_value_heads=4, **shape))


@pytest.mark.parametrize("make", [llama_of_many_weights, qwen3_of_many_experts])
def test_processes_hold_the_codes_once_between_them(make: Callable[[], Any], tmp_path: Path, trainings: Zygote) -> None:
    """Two processes share one copy of codes of 113 MB, and no process ever has one to itself."""
    with torch.device("meta"):  # random values would take a second
        model = make().bfloat16()
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(0.01)
    model.save_pretrained(tmp_path / "base")
    codes = sum(weight.numel() for weight in shareable(skeleton(tmp_path / "base")).values())

    def held(shared: bool) -> tuple[int, int]:
        """What both hold together of memory that is shared, and what one had to itself at most."""
        meeting = tmp_path / f"shared-{shared}"
        meeting.mkdir()
        started = []
        for rank in range(2):
            environ = {"RANK": str(rank), "WORLD_SIZE": "2", RENDEZVOUS: f"file://{meeting}/meet"}
            asked = json.dumps({"base": str(tmp_path / "base"), "shared": shared, "report": str(meeting / str(rank))})
            started.append(trainings.start([asked], environ, {}, SCRIPT))
        assert [process.wait().code for process in started] == [0, 0]
        told = [json.loads((meeting / str(rank)).read_text()) for rank in range(2)]
        return sum(end for end, _ in told), max(most for _, most in told)

    (whole, own), (shared, less) = held(False), held(True)
    assert whole < 0.05 * codes
    assert shared == pytest.approx(codes, rel=0.05)
    assert less < 0.6 * codes < codes < own


ON_EXPERTS = ("q_proj", "experts.gate_up_proj", "experts.down_proj")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize(
    ("architecture", "targets", "flags"),
    [
        ("llama", ("auto",), {"quantization": "int8"}),
        ("llama", ("auto",), {"quantization": "int8", "engine_linear": "llm.int8"}),
        ("llama", ("auto",), {"quantization": "nf4", "engine_adapter": "peft"}),
        ("bloom", ("auto",), {"quantization": "none"}),
        ("gpt2", ("auto",), {"quantization": "none", "engine_adapter": "peft"}),
        ("gpt2", ("auto",), {"quantization": "int8"}),
        ("mixtral", ("auto",), {"quantization": "int8"}),
        ("qwen3_moe", ON_EXPERTS, {"quantization": "nf4"}),
        ("gpt_oss", ON_EXPERTS, {"quantization": "int8", "engine_adapter": "peft"}),
        ("gpt_oss", ON_EXPERTS, {"quantization": "none"}),
    ],
)
def test_all_products_take_the_codes_that_were_fetched(
    architecture: str, targets: tuple[str, ...], flags: dict[str, Any], device: str, tmp_path: Path
) -> None:
    """None reads the weight's own codes, which are not on the device: where that is a CPU, they are zero here."""
    whole, fetched = whole_and_fetched(architecture, targets, flags, device, tmp_path)
    for one, other in zip(whole, fetched, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize(
    ("architecture", "targets", "adapter"),
    [("mixtral", ("auto",), "fused"), ("glm4_moe", ("auto",), "fused"), ("qwen3_moe", ON_EXPERTS, "peft")],
)
def test_whole_experts_that_are_fetched_are_the_engines_to_multiply(
    architecture: str, targets: tuple[str, ...], adapter: str, device: str, tmp_path: Path
) -> None:
    """transformers or PEFT multiply by them where they are on the device, with sums in another order."""
    flags = {"quantization": "none", "engine_adapter": adapter}
    whole, fetched = whole_and_fetched(architecture, targets, flags, device, tmp_path)
    for one, other in zip(whole, fetched, strict=True):
        assert (one - other).float().norm() <= 1e-5 * one.float().norm()


def whole_and_fetched(
    architecture: str, targets: tuple[str, ...], flags: dict[str, Any], device: str, folder: Path
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Tokens that are generated, the loss, and all gradients: with a base of one's own, and with fetched codes."""
    MODELS[architecture]().save_pretrained(folder)
    arguments, there = Arguments(lora_dropout=0.0, **flags), torch.device(device)
    names = shareable(skeleton(folder))

    def trained_with(shared: SharedBase | None) -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = load_base(folder, arguments, torch.float32, there, shared)
        elsewhere = [model.get_parameter(name) for name in names if shared]
        adapted = add_adapter(model, arguments, resolve_targets(model, targets))
        for weight in elsewhere:
            keep_codes(weight, torch.zeros_like(codes_of(weight)))
        loss_of = PackedLoss(adapted, 16, arguments)
        with loss_of.generating():
            prompt = torch.tensor([[5, 6, 7]], device=there)
            written = loss_of.causal.generate(prompt, max_new_tokens=4, min_new_tokens=4)
        pack = {"input_ids": [*range(4, 20)], "example_lengths": [16], "prompt_lengths": [4]}
        loss, count = loss_of(on_device(collate([pack]), there))
        (loss / count).backward()
        gradients = [p.grad for p in adapted.parameters() if p.grad is not None]
        assert len(gradients) > 2
        return [written, loss, *gradients]

    return trained_with(None), trained_with(SharedBase(names, there, fetches=True))


def test_fetched_codes_are_right_in_any_order() -> None:
    codes = [torch.randint(-127, 127, (4, 3 + n, 5), dtype=torch.int8) for n in range(6)]
    codes.append(torch.randn(1, 4, 4).bfloat16())
    fetcher, order = Fetcher(codes, CPU), random.Random(0)
    for number in [*range(7), *reversed(range(7)), *range(7), *order.choices(range(7), k=200)]:
        parts = sorted(order.sample(range(len(codes[number])), k=order.randint(1, len(codes[number]))))
        for part, found in zip(parts, fetcher.fetch(number, parts), strict=True):
            assert torch.equal(found, codes[number][part])


def test_what_comes_next_is_copied_while_a_product_is_made() -> None:
    """Forward and backward, from the second time on."""
    codes = [torch.full((1, 4), n, dtype=torch.int8) for n in range(5)]
    fetcher = Fetcher(codes, CPU)
    order = [*range(5), *reversed(range(5))]
    for number in [*order, 0]:
        next(fetcher.fetch(number, [0]))
    for one in codes:
        one.fill_(99)  # what is copied from now on
    assert next(fetcher.fetch(1, [0])).tolist() == [1] * 4
    assert next(fetcher.fetch(2, [0])).tolist() == [99] * 4


def test_only_experts_that_are_asked_for_are_copied_ahead() -> None:
    experts = torch.arange(6, dtype=torch.int8)[:, None].expand(6, 4).contiguous()
    fetcher = Fetcher([experts, torch.zeros((1, 4), dtype=torch.int8)], CPU)
    found = fetcher.fetch(0, [1, 4, 5])
    assert next(found).tolist() == [1] * 4
    experts.fill_(99)
    assert next(found).tolist() == [4] * 4, "this was copied before"
    assert next(found).tolist() == [99] * 4
    assert next(fetcher.fetch(1, [0])).tolist() == [0] * 4
