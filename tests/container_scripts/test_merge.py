"""Our shard-wise merge against PEFT's merge_and_unload, and against the adapter it merges."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import Zygote
from safetensors.torch import load_file, save_file

from artifact import save_adapter
from conftest_engine import random_model, with_adapter
from engine.arguments import Arguments
from engine.failure import TrainingError
from engine.merge import merge, try_merge
from engine.model import add_adapter, load_base
from shared.lora_targets import resolve_targets


def save_base(folder: Path, architecture: str, dtype: torch.dtype, shard_size: str = "5GB") -> Path:
    random_model(architecture).to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    return folder


def adapter_on(base: Path, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A random adapter on `base`, saved in `folder`; returns the adapted model."""
    from transformers import AutoModelForCausalLM

    adapted = with_adapter(AutoModelForCausalLM.from_pretrained(base, dtype=dtype))
    adapted.save_pretrained(folder)
    return adapted.eval()


def load_all(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for shard in sorted(folder.glob("*.safetensors")) for name, t in load_file(shard).items()}


@pytest.mark.parametrize("architecture", ["bloom", "llama"])
def test_merged_weights_equal_pefts_bit_for_bit_in_float32(architecture: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", architecture, torch.float32)
    adapted = adapter_on(base, tmp_path / "adapter")
    merge(base, tmp_path / "adapter", tmp_path)
    ours = load_all(tmp_path)
    adapted.merge_and_unload().save_pretrained(tmp_path / "peft")
    theirs = load_all(tmp_path / "peft")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    changed = [name for name, tensor in load_all(base).items() if not torch.equal(tensor, ours[name])]
    assert len(changed) == (2 if architecture == "bloom" else 4)


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_dora_is_merged_as_peft_merges_it_bit_for_bit(quantization: str, tmp_path: Path) -> None:
    """Also if it was trained on a quantized base. PEFT merges the saved adapter into the float32 base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = save_base(tmp_path / "base", "llama", torch.float32)
    arguments = Arguments(quantization=quantization, lora_r=4, lora_alpha=8, lora_dropout=0.0, lora_dora=True)
    loaded = load_base(base, arguments, torch.float32, torch.device("cpu"))
    adapted = add_adapter(loaded, arguments, resolve_targets(loaded, ("all-linear",)))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    try_merge(base, adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    merge(base, tmp_path / "adapter", tmp_path)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    plain.merge_and_unload().save_pretrained(tmp_path / "peft")
    ours, theirs = load_all(tmp_path), load_all(tmp_path / "peft")
    changed = [name for name, tensor in load_all(base).items() if not torch.equal(tensor, ours[name])]
    assert len(changed) == 14
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_rslora_on_all_linear_layers_is_merged_as_peft_merges_it(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.float32)
    arguments = Arguments(quantization="none", lora_r=4, lora_alpha=8, lora_dropout=0.0, lora_rslora=True)
    loaded = load_base(base, arguments, torch.float32, torch.device("cpu"))
    targets = resolve_targets(loaded, ("all-linear",))
    assert targets == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    adapted = add_adapter(loaded, arguments, targets)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.full_like(parameter, 0.01)
    assert {module.scaling["default"] for module in adapted.modules() if hasattr(module, "lora_A")} == {4.0}
    adapted.save_pretrained(tmp_path / "adapter")
    merge(base, tmp_path / "adapter", tmp_path)
    adapted.merge_and_unload().save_pretrained(tmp_path / "peft")
    ours, theirs = load_all(tmp_path), load_all(tmp_path / "peft")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merged_weights_are_within_one_ulp_of_pefts_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    """PEFT merges in the base's own type here and rounds twice; ours is the float32 sum rounded once."""
    base = save_base(tmp_path / "base", "bloom", dtype)
    adapted = adapter_on(base, tmp_path / "adapter", torch.float32)  # PEFT at its best: merged in float32, cast after
    merge(base, tmp_path / "adapter", tmp_path)
    theirs = {n: t.to(dtype) for n, t in adapted.merge_and_unload().state_dict().items()}
    for name, tensor in load_all(tmp_path).items():
        assert tensor.dtype == dtype
        other = theirs[name]
        ulp = torch.finfo(dtype).eps * torch.maximum(tensor.abs(), other.abs()).float()
        assert ((tensor.float() - other.float()).abs() <= ulp).all(), name


@pytest.mark.parametrize("architecture", ["bloom", "llama", "qwen3"])
def test_merged_logits_equal_the_adapters(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = save_base(tmp_path / "base", architecture, torch.float32)
    adapted = adapter_on(base, tmp_path / "adapter")
    merge(base, tmp_path / "adapter", tmp_path)
    adapted.config.save_pretrained(tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(4, 512, (2, 33), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, atol=1e-4, rtol=0)
        untrained = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        assert not torch.allclose(untrained(input_ids=ids).logits, expected, atol=1e-4)


def test_shards_keep_their_names_and_index(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.bfloat16, shard_size="30KB")
    adapter_on(base, tmp_path / "adapter")
    merged = merge(base, tmp_path / "adapter", tmp_path, torch.float16)
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert merged.shards == len(shards) > 1
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == shards
    assert {t.dtype for t in load_all(tmp_path).values()} == {torch.float16}
    assert merged.total_bytes == sum(t.nbytes for t in load_all(tmp_path).values())
    from transformers import AutoModelForCausalLM

    random_model("llama").config.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.float16


def test_checkpoints_without_the_models_prefix_are_merged_too(tmp_path: Path) -> None:
    """bigscience's files say `h.0...` where the model says `transformer.h.0...`."""
    base = save_base(tmp_path / "base", "bloom", torch.float32)
    adapter_on(base, tmp_path / "adapter")
    merge(base, tmp_path / "adapter", tmp_path)
    (file,) = base.glob("*.safetensors")
    save_file({n.removeprefix("transformer."): t for n, t in load_file(file).items()}, file, {"format": "pt"})
    (tmp_path / "bare").mkdir()
    merge(base, tmp_path / "adapter", tmp_path / "bare")
    expected = load_all(tmp_path)
    assert all(torch.equal(t, expected[f"transformer.{n}"]) for n, t in load_all(tmp_path / "bare").items())


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
@pytest.mark.parametrize("targets", [("c_attn",), ("attn.c_proj",)], ids=["wide", "square"])
def test_gpt2s_transposed_weights_are_merged_right(quantization: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    """Its Conv1D stores (in, out), and quantized layers (out, in). PEFT's merge of the float32 base is the truth."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=64, n_layer=2, n_head=4)).save_pretrained(base)
    arguments = Arguments(quantization=quantization, lora_dropout=0.0)
    model = add_adapter(load_base(base, arguments, torch.float32, torch.device("cpu")), arguments, list(targets))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    try_merge(base, model)
    model.save_pretrained(adapter)
    merge(base, adapter, tmp_path)
    ours = load_all(tmp_path)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    theirs = plain.merge_and_unload().state_dict()
    changed = [n for n, tensor in load_all(base).items() if not torch.equal(tensor, ours[n])]
    assert len(changed) == 2
    for name in changed:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)


def test_values_too_large_for_float16_are_an_error(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.bfloat16)
    adapter_on(base, tmp_path / "adapter")
    (file,) = base.glob("*.safetensors")
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = 1e5
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(TrainingError, match=r"layers\.1\.mlp\.up_proj\.weight holds values up to .* 65,504") as error:
        merge(base, tmp_path / "adapter", tmp_path, torch.float16)
    assert "bfloat16" in error.value.hint
    merge(base, tmp_path / "adapter", tmp_path, torch.bfloat16)


def test_a_merge_is_tried_before_training(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.bfloat16)
    model = adapter_on(base, tmp_path / "adapter")
    try_merge(base, model)
    random_model("llama", seed=5).save_pretrained(tmp_path / "other")
    with pytest.raises(TrainingError, match="is not the weight that was loaded"):
        try_merge(tmp_path / "other", model)


def test_only_the_files_that_are_loaded_are_merged(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.float32)
    adapter_on(base, tmp_path / "adapter")
    random_model("llama", seed=5).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").rename(base / "a.consolidated.safetensors")
    merge(base, tmp_path / "adapter", tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    assert torch.equal(
        load_all(tmp_path)["model.norm.weight"], load_file(base / "model.safetensors")["model.norm.weight"]
    )


@pytest.mark.filterwarnings("error::UserWarning")
def test_an_adapter_is_saved_without_a_look_at_the_hub(tmp_path: Path) -> None:
    """PEFT would ask it for the base model's vocabulary, and warn where it does not answer."""
    folder = save_adapter(with_adapter(random_model("llama")), tmp_path, Arguments(model_id="nobody/nothing"))
    assert {file.name for file in folder.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}


def test_an_adapter_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "bloom", torch.float32)
    adapted = adapter_on(base, tmp_path / "adapter")
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(TrainingError, match="changes nothing"):
        merge(base, tmp_path / "adapter", tmp_path)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    adapter_on(save_base(tmp_path / "bloom", "bloom", torch.float32), tmp_path / "adapter")
    llama = save_base(tmp_path / "llama", "llama", torch.float32)
    with pytest.raises(TrainingError, match=r"no tensors for transformer\.h\.0"):
        merge(llama, tmp_path / "adapter", tmp_path)


def test_a_full_disk_leaves_no_half_made_weights(tmp_path: Path, trainings: Zygote) -> None:
    base = save_base(tmp_path / "base", "bloom", torch.float32)
    adapter_on(base, tmp_path / "adapter")
    (tmp_path / "out").mkdir()
    script = tmp_path / "merge_it.py"
    script.write_text(
        "import signal, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2] / 'container_scripts')!r})\n"
        "from engine.merge import merge\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: merge(*map(Path, sys.argv[1:]))\n"
        "except OSError as error: sys.exit(error.errno)\n"
    )
    folders = [str(base), str(tmp_path / "adapter"), str(tmp_path / "out")]
    done = trainings.start(folders, {}, {"limit": 20_000}, str(script)).wait()
    assert done.code in (errno.EFBIG, errno.ENOSPC), done.stderr
    assert list((tmp_path / "out").iterdir()) == []
