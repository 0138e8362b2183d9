"""What the training does on a GPU, as far as a pretended one shows it (pretend_gpu.py)."""

from collections import Counter
from itertools import pairwise
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from unittest.mock import ANY

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from conftest_engine import in_table, random_model, random_packs
from conftest_training import Events, Training, small
from engine.arguments import Arguments
from engine.base_memory import shareable
from engine.batches import collate, on_device
from engine.experts_forward import ends_of
from engine.fake_pass import skeleton
from engine.fitting import plan_memory
from engine.host_weights import SharedBase, _pin
from engine.model import add_adapter, load_base
from engine.packed_loss import PackedLoss
from engine.routes import Route, single_examples
from gpu import GpuLostError
from pretend_gpu import GPU, pretend_gpu
from shared.events import Event
from shared.lora_targets import resolve_targets
from test_linear import IN, adapted, int8_layer


def test_a_training_on_a_gpu_learns_what_it_learns_on_a_cpu(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    flags = {"quantization": "int8", "lora_dropout": 0.05, "epochs": 1.0}
    here = Training(small(tmp_path / "cpu", **flags), base=tmp_path / "base")
    here.run()
    with pretend_gpu():
        there = Training(small(tmp_path / "gpu", **flags), base=tmp_path / "base", device=GPU)
        there.run()
        assert all(parameter.is_cuda for parameter in there.model.parameters())
    assert there.events.losses() == pytest.approx(here.events.losses(), rel=1e-6)
    assert there.events.evaluations() == pytest.approx(here.events.evaluations(), rel=1e-6)


def test_a_pretended_gpu_refuses_what_cuda_refuses() -> None:
    with pretend_gpu():
        there: Any = torch.ones(2, 2, device="cuda")
        here: Any = torch.ones(2, 2)
        for operation in (torch.add, torch.matmul, lambda there, here: here[0, 0].add_(there[0, 0])):
            with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
                operation(there, here)
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match=r"takes no torch\.int64 on CUDA"):
            there.long() @ there.long()
        assert (there * torch.tensor(2.0)).is_cuda, "a scalar may lie on the CPU"
        assert here[there.cpu().bool()].device.type == "cpu"


def test_one_of_several_pretended_gpus_refuses_what_is_for_another() -> None:
    with pretend_gpu(index=1, count=2):
        for device in ("cuda", "cuda:0"):
            with pytest.raises(RuntimeError, match="cuda:0 is another process's, and this one's is cuda:1"):
                torch.ones(2, device=device)
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            torch.ones(2).to("cuda:2")
        torch.cuda.set_device(1)
        assert torch.ones(2, device="cuda").device == torch.ones(2).cuda().device == torch.device("cuda", 1)


def test_a_pretended_gpu_counts_waits_and_bytes() -> None:
    with pretend_gpu() as gpu:
        there = torch.ones(256, device="cuda")
        before = gpu.held
        float(there.sum())
        there.tolist()
        there.cpu()
        there.to("cpu", non_blocking=True)
        assert gpu.waits.total() == 3
        assert (before, gpu.held) == (1024, 1024)
        del there
        assert gpu.held == 0
        assert gpu.peak >= 1028


@pytest.mark.parametrize(("architecture", "capability"), [("llama", (7, 5)), ("mistral", (8, 6))])
def test_attention_without_flash_attention_computes_no_whole_matrices(
    architecture: str, capability: tuple[int, int], tmp_path: Path
) -> None:
    """A T4 has none, and it takes no windows. The other kernel wants a key for each query; here two share one."""
    random_model(architecture).save_pretrained(tmp_path / "base")
    here, there = (Training(small(tmp_path / n, epochs=0.5), base=tmp_path / "base", dtype=torch.float16) for n in "ab")
    here.run()
    with pretend_gpu(capability) as gpu:
        there.device = GPU
        there.run()
        assert not [place for place in gpu.whole_matrices if "kernels.py" in place]
    assert there.events.losses() == pytest.approx(here.events.losses(), rel=1e-4)


def test_a_step_waits_for_the_gpu_once(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    arguments = small(tmp_path / "checkpoints", quantization="none", gradient_accumulation_steps=2, epochs=1.0)
    waits: list[Counter[str]] = []

    def note(event: Event) -> bool:
        waits.append(gpu.waits.copy())
        return False

    with pretend_gpu() as gpu:
        training = Training(arguments, base=tmp_path / "base", device=GPU, recomputed=1, events=Events(note))
        training.run()
    assert len(waits) > 3
    one_step = [after - before for before, after in pairwise(waits[:3])]
    assert [(step.total(), *map(str.split, step)) for step in one_step] == [(1, ["tolist", "<", ANY])] * 2


def test_examples_are_taken_out_of_a_pack_without_a_wait() -> None:
    with pretend_gpu() as gpu:
        batch = on_device(collate(random_packs(1, [[9, 7, 4], [12]])), GPU)
        assert [part["rows"].device.type for part in single_examples(batch)] == ["cuda"] * 4
        assert not gpu.waits


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_int8_products_on_a_gpu_take_activations_of_any_layout(dtype: torch.dtype) -> None:
    """The kernel of bitsandbytes reads memory in order, and says nothing if the strides mean another one."""
    with pretend_gpu():
        model = adapted(int8_layer("cuda")[0], linear="int8").to("cuda")
        x = torch.randn(IN, 5, device="cuda").to(dtype).T
        assert torch.equal(model(x), model(x.contiguous()))


def test_tokens_of_experts_are_counted_with_one_wait() -> None:
    with pretend_gpu() as gpu:
        assert ends_of(torch.tensor([0, 0, 2, 3, 3], device="cuda"), 5) == [2, 2, 3, 5, 5]
        assert gpu.waits.total() == 2, "the second is of the copy that made the tensor"


@pytest.mark.parametrize("kind", ["llama", "falcon"])
def test_a_training_holds_on_a_gpu_what_was_planned(kind: str, tmp_path: Path) -> None:
    """To 10%, the share of the free memory that plans leave for it: bytes of tensors, not what kernels need beside."""
    base, packs = tmp_path / "base", in_table(random_packs(1, [[100, 200, 80], [150, 90]]))
    shape = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = AutoConfig.for_model(kind, vocab_size=4096, num_key_value_heads=2, **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    arguments, targets = small(tmp_path / "checkpoints", epochs=1.0), resolve_targets(skeleton(base), ("auto",))
    with pretend_gpu() as gpu:
        plan = plan_memory(base, arguments, targets, packs.lengths_only(), torch.float32, 2**34, device="cuda")
        Training(arguments, packs, packs, base=base, device=GPU).run()
    assert gpu.peak == pytest.approx(plan.memory.total, rel=0.1)


def test_bloom_takes_the_fast_route_with_its_weights_in_main_memory(tmp_path: Path) -> None:
    random_model("bloom").save_pretrained(tmp_path)
    with pretend_gpu():
        shared = SharedBase(shareable(skeleton(tmp_path)), GPU)
        model = load_base(tmp_path, Arguments(), torch.float32, GPU, shared)
        adapted = add_adapter(model, Arguments(), ["query_key_value"])
        assert PackedLoss(adapted, 16).route == Route("examples", together=True, head="labels")


def test_a_base_that_cannot_be_pinned_fails_no_later_kernel() -> None:
    """Its copies are slower. CUDA keeps the error of the call, and the next kernel would fail with it."""
    with pretend_gpu() as gpu, TemporaryFile() as file:
        gpu.pins = False
        file.truncate(4096)
        _pin(mmap(file.fileno(), 4096), GPU)
        assert torch.ones(1, device=GPU).is_cuda


def test_where_flex_fails_each_example_has_a_call() -> None:
    """Not the slowest attention. A model that drops weights only does so in training, where FlexAttention cannot."""
    with pretend_gpu():
        model = random_model("llama").to(GPU)
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.1
        route = PackedLoss(model, 41, Arguments(engine_attention="flex")).route
    assert (route.attention, route.together) == ("examples", True)
    assert route.reason == "attention flex: its attention drops weights, which FlexAttention cannot"


def test_a_lost_gpu_is_no_reason_for_a_slower_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a model's code raises is one, but then nothing that comes would be true."""

    def fails(_layer: Any, inputs: Any) -> None:
        if inputs[0].shape[1] > 13:  # the examples together
            monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: torch._check(False))
            raise RuntimeError("CUDA error: device-side assert triggered")

    with pretend_gpu():
        model = random_model("llama").to(GPU)
        model.model.layers[0].mlp.register_forward_pre_hook(fails)
        with pytest.raises(GpuLostError, match="device-side assert"):
            PackedLoss(model, 41)
