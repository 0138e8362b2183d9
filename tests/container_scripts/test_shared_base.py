"""A base model that the processes of a machine share is, bit for bit, the one that each would hold alone."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import Zygote

from conftest_engine import random_model
from contract import RENDEZVOUS
from engine.arguments import Arguments
from engine.batches import collate, on_device
from engine.distributed import ALONE
from engine.failure import TrainingError
from engine.fake_pass import skeleton
from engine.fetching import Fetcher
from engine.model import add_adapter, load_base, quantized_layers
from engine.packed_loss import PackedLoss
from engine.shared_base import SharedBase
from lora_targets import resolve_targets

SCRIPT = str(Path(__file__).with_name("one_loading.py"))
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a GPU")
CPU = torch.device("cpu")


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=48, n_layer=2, n_head=4, n_positions=64))


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: random_model("llama"),
    "bloom": lambda: random_model("bloom"),
    "gpt2": gpt2,
}


def held(model: Any) -> dict[str, torch.Tensor]:
    """All that a model computes with: parameters, buffers, and the scales of its codes."""
    tensors = dict(model.state_dict(keep_vars=True)) | dict(model.named_buffers())
    for name, parameter in model.named_parameters():
        if getattr(parameter, "quant_state", None):
            state = parameter.quant_state
            tensors |= {f"{name} scales": state.absmax, f"{name} their scales": state.state2.absmax}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


@pytest.mark.parametrize("quantization", ["int8", "nf4", "none"])
@pytest.mark.parametrize(
    ("architecture", "stored", "computed"),
    [
        ("llama", torch.float32, torch.float32),
        ("llama", torch.bfloat16, torch.float16),
        ("bloom", torch.float16, torch.bfloat16),
        ("gpt2", torch.float32, torch.bfloat16),
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
    layers = quantized_layers(skeleton(tmp_path))
    shared = SharedBase(layers, CPU)
    loaded = load_base(tmp_path, arguments, computed, CPU, shared)
    found = held(loaded)
    assert found.keys() == whole.keys()
    for name, tensor in whole.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name], tensor), name
    weights = [loaded.get_submodule(name).weight for name in sorted(layers)]
    assert len(weights) >= 8
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1, "all lie in one memory"


def test_codes_for_which_a_device_has_room_stay_on_it(tmp_path: Path) -> None:
    model = random_model("llama")
    model.save_pretrained(tmp_path)
    layers = quantized_layers(skeleton(tmp_path))
    room = sum(model.get_submodule(name).weight.nbytes for name in layers) // 2
    shared = SharedBase(layers, CPU, resident=room)
    loaded = load_base(tmp_path, Arguments(quantization="none"), torch.float32, CPU, shared)
    weights = [loaded.get_submodule(name).weight for name in layers]
    places = Counter(weight.untyped_storage().data_ptr() for weight in weights)
    staying = sum(w.nbytes for w in weights if places[w.untyped_storage().data_ptr()] == 1)
    assert 0.7 * room < staying <= room
    for name in layers:
        assert torch.equal(loaded.get_submodule(name).weight, model.get_submodule(name).weight)


def test_codes_that_another_process_has_not_written_are_missed(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    one_of_two = replace(ALONE, local_size=2)
    shared = SharedBase(quantized_layers(skeleton(tmp_path)), CPU, one_of_two)
    with pytest.raises(TrainingError, match="the processes of this machine do not have the same base model to share"):
        load_base(tmp_path, Arguments(quantization="int8"), torch.float32, CPU, shared)


def test_processes_hold_the_codes_once_between_them(tmp_path: Path, trainings: Zygote) -> None:
    """Of codes of 113 MB two processes have one copy fewer, and no process ever has one to itself."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 8, "num_attention_heads": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=256, num_key_value_heads=8, **shape)).bfloat16()
    model.save_pretrained(tmp_path / "base")
    codes = sum(model.get_submodule(name).weight.numel() for name in quantized_layers(skeleton(tmp_path / "base")))

    def held(shared: bool) -> tuple[int, int]:
        """What both hold together in the end, and what one had to itself at most."""
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
    assert whole - shared == pytest.approx(codes, rel=0.2)
    assert less < 0.6 * codes < codes < own


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize(
    ("architecture", "flags"),
    [
        ("llama", {"quantization": "int8"}),
        ("llama", {"quantization": "int8", "engine_linear": "llm.int8"}),
        ("llama", {"quantization": "nf4", "engine_adapter": "peft"}),
        ("bloom", {"quantization": "none"}),
        ("gpt2", {"quantization": "none", "engine_adapter": "peft"}),
        ("gpt2", {"quantization": "int8"}),
    ],
)
def test_all_products_take_the_codes_that_were_fetched(
    architecture: str, flags: dict[str, Any], device: str, tmp_path: Path
) -> None:
    """None reads the layer's own weight, which is not on the device: where that is a CPU, it is zero here."""
    MODELS[architecture]().save_pretrained(tmp_path)
    arguments, there = Arguments(lora_dropout=0.0, **flags), torch.device(device)
    layers = quantized_layers(skeleton(tmp_path))

    def trained_with(shared: SharedBase | None) -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = load_base(tmp_path, arguments, torch.float32, there, shared)
        shared_weights = [model.get_submodule(name).weight for name in layers if shared]
        adapted = add_adapter(model, arguments, resolve_targets(model, ("auto",)))
        for weight in shared_weights:
            weight.data = torch.zeros_like(weight.data)
        loss_of = PackedLoss(adapted, 16, arguments)
        with loss_of.generating():
            prompt = torch.tensor([[5, 6, 7]], device=there)
            written = loss_of.causal.generate(prompt, max_new_tokens=4, min_new_tokens=4)
        pack = {"input_ids": [*range(4, 20)], "example_lengths": [16], "prompt_lengths": [4]}
        loss, count = loss_of(on_device(collate([pack]), there))
        (loss / count).backward()
        return [written, loss] + [p.grad for p in adapted.parameters() if p.grad is not None]

    whole, fetched = trained_with(None), trained_with(SharedBase(layers, there, fetches=True))
    assert len(whole) == len(fetched) > 4
    for one, other in zip(whole, fetched, strict=True):
        assert torch.equal(one, other)


def test_fetched_codes_are_right_in_any_order() -> None:
    codes = [torch.randint(-127, 127, (3 + n, 5), dtype=torch.int8) for n in range(6)]
    codes.append(torch.randn(4, 4).bfloat16())
    fetcher, order = Fetcher(codes, CPU), random.Random(0)
    for number in [*range(7), *reversed(range(7)), *range(7), *order.choices(range(7), k=200)]:
        assert torch.equal(fetcher.fetch(number), codes[number])


def test_what_comes_next_is_copied_while_a_product_is_made() -> None:
    """Forward and backward, from the second time on."""
    codes = [torch.full((4,), n, dtype=torch.int8) for n in range(5)]
    fetcher = Fetcher(codes, CPU)
    order = [*range(5), *reversed(range(5))]
    for number in order:
        fetcher.fetch(number)
    for number in order[:1]:
        fetcher.fetch(number)
    for one in codes:
        one.fill_(99)  # what is copied from now on
    assert fetcher.fetch(1).tolist() == [1] * 4
    assert fetcher.fetch(2).tolist() == [99] * 4
