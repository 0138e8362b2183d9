"""The merged model is compared with the adapter before its record is written, which has every file's digest."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from conftest_engine import in_table
from engine.arguments import Arguments, Folders
from engine.failure import TrainingError
from engine.merge import merge
from engine.metrics import Metrics
from engine.verify import _load as verify_load
from engine.verify import check_adapter, check_merge, compare_logits, file_facts, first_prompts, why_not_merged
from loading import Loaded
from pretend_gpu import GPU, pretend_gpu
from shared.names import RECORD_FILE
from shared.records import FileFacts
from train import leave_model

PROMPTS = [[5, 9, 30, 41, 7], [8] * 40]
WEIGHT = "transformer.h.0.self_attention.query_key_value.weight"


@pytest.fixture(scope="module")
def adapter(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes something."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    torch.manual_seed(1)
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["query_key_value"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture
def merged(tiny_model_dir: Path, adapter: Path, tmp_path: Path) -> Path:
    shutil.copyfile(tiny_model_dir / "config.json", tmp_path / "config.json")
    merge(tiny_model_dir, adapter, tmp_path)
    return tmp_path


def check(base: Path, adapter: Path, merged: Path, dtype: torch.dtype = torch.float32) -> tuple[int, float, float]:
    found = check_merge(base, adapter, merged, PROMPTS, dtype, torch.device("cpu"))
    return found.prompts, found.from_adapter, found.from_base


def test_a_merge_answers_as_its_adapter(tiny_model_dir: Path, adapter: Path, merged: Path) -> None:
    prompts, from_adapter, from_base = check(tiny_model_dir, adapter, merged)
    assert prompts == 2
    assert from_adapter < 1e-5
    assert from_base > 0.01


def test_what_was_just_written_is_read_first(
    tiny_model_dir: Path, adapter: Path, merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's memory may keep the files of one model only."""
    read: list[Path] = []

    def load(folder: Path, *rest: Any) -> Any:
        read.append(folder)
        return verify_load(folder, *rest)

    monkeypatch.setattr("engine.verify._load", load)
    check(tiny_model_dir, adapter, merged)
    assert read == [merged, tiny_model_dir]


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float16),
    ],
)
def test_rounding_is_no_fault(
    tiny_model_dir: Path, adapter: Path, merged: Path, stored: torch.dtype, computed: torch.dtype
) -> None:
    merge(tiny_model_dir, adapter, merged, stored)
    assert check(tiny_model_dir, adapter, merged, computed)[0] == 2


def beyond_fp16(tiny_model_dir: Path, adapter: Path, folder: Path, too_large: str) -> tuple[Path, Path]:
    """A base model and an adapter of which fp16 is too small for the base model, or only for what the adapter adds."""
    if too_large == "adapter":
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
        weights = load_file(adapter / "adapter_model.safetensors")
        weights = {name: tensor * (1e6 if "lora_B" in name else 1) for name, tensor in weights.items()}
        save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
        return tiny_model_dir, folder
    shutil.copyfile(tiny_model_dir / "config.json", folder / "config.json")
    weights = load_file(tiny_model_dir / "model.safetensors")
    weights["transformer.h.0.mlp.dense_4h_to_h.weight"] *= 1e7
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder, adapter


@pytest.mark.parametrize("too_large", ["base", "adapter"])
def test_a_merge_that_fp16_is_too_small_for_is_compared_as_served(
    too_large: str, tiny_model_dir: Path, adapter: Path, merged: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In bf16 on a GPU that has it. On one that has not, a server would stay in fp16, and its answers would fail."""
    base, adapter = beyond_fp16(tiny_model_dir, adapter, tmp_path_factory.mktemp("changed"), too_large)
    merge(base, adapter, merged)
    with pretend_gpu((8, 6)):
        assert check_merge(base, adapter, merged, PROMPTS, torch.float16, GPU).prompts == 2
        check_adapter(base, adapter, PROMPTS, torch.float16, GPU)
    with pretend_gpu((7, 5)):
        with pytest.raises(TrainingError, match="the merged model answers with values that are not finite"):
            check_merge(base, adapter, merged, PROMPTS, torch.float16, GPU)
        with pytest.raises(TrainingError, match="the adapter answers with values that are not finite"):
            check_adapter(base, adapter, PROMPTS, torch.float16, GPU)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *((torch.float16, scale) for scale in (-1.0, 0.0, 0.3, 3.0)),
        (torch.float32, 0.3),
        (torch.bfloat16, 0.3),
    ],
)
def test_an_update_of_another_size_is_noticed(
    tiny_model_dir: Path, adapter: Path, merged: Path, dtype: torch.dtype, scale: float
) -> None:
    base, weights = load_file(tiny_model_dir / "model.safetensors"), load_file(merged / "model.safetensors")
    spoilt = {name: (base[name] + scale * (tensor - base[name])).to(dtype) for name, tensor in weights.items()}
    save_file(spoilt, merged / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match="merged model"):
        check(tiny_model_dir, adapter, merged, dtype)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_what_all_logits_have_in_common_hides_nothing(offset: float, scale: float) -> None:
    """As in BLOOM, whose logits are in the hundreds."""
    random = torch.Generator().manual_seed(0)
    base, change, noise = (
        torch.randn(3, 2, 16, 64, generator=random) * torch.tensor([5.0, 0.5, 0.1])[:, None, None, None]
    )
    plain, adapted, rounded, merged = (
        (logits + offset).half().float()
        for logits in (base, base + change, base + change + noise, base + scale * change + noise.flip(0))
    )
    if scale == 1:
        assert compare_logits(plain, adapted, rounded, merged).prompts == 2
    else:
        with pytest.raises(TrainingError, match="does not answer as the adapter does"):
            compare_logits(plain, adapted, rounded, merged)


def test_a_spoilt_tensor_is_noticed(tiny_model_dir: Path, adapter: Path, merged: Path) -> None:
    weights = load_file(merged / "model.safetensors")
    weights[WEIGHT] = weights[WEIGHT].flip(0).contiguous()
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match="does not answer as the adapter does"):
        check(tiny_model_dir, adapter, merged)


def test_a_merged_model_that_is_the_base_is_refused(tiny_model_dir: Path, adapter: Path, merged: Path) -> None:
    shutil.copyfile(tiny_model_dir / "model.safetensors", merged / "model.safetensors")
    with pytest.raises(TrainingError, match="exactly as the base model"):
        check(tiny_model_dir, adapter, merged)


def test_values_that_are_not_finite_are_refused() -> None:
    logits = torch.ones(2, 16, 8)
    with pytest.raises(TrainingError, match="not finite"):
        compare_logits(logits, logits, logits, logits * float("nan"))


def test_a_difference_that_rounding_explains_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    plain, change, one, other = torch.randn(4, 2, 16, 8)
    adapted = plain + 1e-4 * change
    merged = adapted + 1e-3 * one
    assert compare_logits(plain, adapted, adapted + 1e-3 * other, merged).prompts == 2
    assert "cannot tell" in caplog.text
    with pytest.raises(TrainingError, match="does not answer as the adapter does"):
        compare_logits(plain, adapted, adapted + 1e-5 * other, merged)


def test_files_that_do_not_load_are_an_error_with_a_hint(tiny_model_dir: Path, adapter: Path, merged: Path) -> None:
    (merged / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match="cannot load") as error:
        check(tiny_model_dir, adapter, merged)
    assert "the adapter is whole" in error.value.hint


def test_without_the_memory_nothing_is_compared(
    tiny_model_dir: Path, adapter: Path, merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.verify.free_bytes", lambda _device: 1000)
    assert check(tiny_model_dir, adapter, merged) == (0, 0.0, 0.0)
    monkeypatch.setattr("engine.verify._load", None)
    check_adapter(tiny_model_dir, adapter, PROMPTS, torch.float32, torch.device("cpu"))


def on_a_full_gpu(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def on_a_full_machine(*_: object, **__: object) -> torch.Tensor:
    return torch.empty(2**50)


@pytest.mark.parametrize("load", [on_a_full_gpu, on_a_full_machine])
def test_where_memory_ends_after_all_nothing_is_compared(
    tiny_model_dir: Path, adapter: Path, merged: Path, monkeypatch: pytest.MonkeyPatch, load: Any
) -> None:
    """It tells nothing of the merged model."""
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    assert check(tiny_model_dir, adapter, merged) == (0, 0.0, 0.0)


def test_a_merged_model_that_nobody_has_compared_is_warned_of(
    tiny_model_dir: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_dir), adapter)
    loaded = Loaded(tiny_model_dir, model, None, None, [], torch.device("cpu"), torch.float32, "")  # type: ignore[arg-type]
    folders = Folders(tmp_path, None, tmp_path / "model", tmp_path, tmp_path)
    folders.model.mkdir()
    shutil.copyfile(tiny_model_dir / "config.json", folders.model / "config.json")
    monkeypatch.setattr("engine.verify.free_bytes", lambda _device: 1000)
    left = leave_model(loaded, Arguments(), folders, PROMPTS, Metrics(tmp_path))
    assert (left.not_merged, "model.safetensors" in left.digests) == ("", True)
    assert "is not compared with the adapter: there is not enough memory" in capsys.readouterr().out


def test_a_merge_without_memory_fails_and_is_not_given_up() -> None:
    with pytest.raises(MemoryError):
        why_not_merged(MemoryError(), torch.device("cpu"))
    assert why_not_merged(KeyError("h.0"), torch.device("cpu")) == "KeyError: 'h.0'"


def test_the_prompts_are_the_ends_of_the_first_two() -> None:
    rows = [{"input_ids": [1, 2, 3, 4, 5, 6], "example_lengths": [4, 2], "prompt_lengths": [3, 1]}]
    assert first_prompts(in_table(rows)) == [[1, 2, 3], [5]]
    long = [{"input_ids": list(range(900)), "example_lengths": [900], "prompt_lengths": [800]}] * 3
    assert first_prompts(in_table(long)) == [list(range(544, 800))] * 2


def test_every_file_but_the_record_is_listed(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    for name in ("a.bin", f"adapter/{RECORD_FILE}", "left.part", RECORD_FILE):
        (tmp_path / name).write_bytes(name.encode())
    digest = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.bin", f"adapter/{RECORD_FILE}")}
    facts = {name: FileFacts(len(name), digest[name]) for name in digest}
    assert file_facts(tmp_path) == facts
    known = {"a.bin": FileFacts(5, "hashed before")}
    assert file_facts(tmp_path, known=known) == facts | known
    assert file_facts(tmp_path, "*.bin") == {"a.bin": facts["a.bin"]}
