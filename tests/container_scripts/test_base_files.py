"""What a look at a base model's folder refuses, with tiny random models that somebody damaged or mixed up."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest_engine import random_model
from engine.base_tensors import check_tensors, locate, look_at_base, stored_tensors
from engine.memory import skeleton
from shared.base_config import check_data_fits, context_length, look_at_config
from shared.base_files import look_at_folder, weight_files
from shared.errors import TrainingError


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A whole model in one file."""
    random_model("llama").save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A whole model in several files."""
    random_model("llama").save_pretrained(tmp_path, max_shard_size="30KB")
    return tmp_path


def set_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_tensors(folder: Path, change: Any) -> None:
    """Write model.safetensors with the tensors that `change` makes of those in it."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def test_a_whole_model_is_taken(llama: Path) -> None:
    tensors = look_at_base(llama)
    check_tensors(skeleton(llama), tensors)
    assert tensors["model.embed_tokens.weight"].shape == (512, 32)


def test_a_whole_model_in_several_files_is_taken(sharded: Path) -> None:
    check_tensors(skeleton(sharded), look_at_base(sharded))
    assert len(weight_files(sharded)) == len(list(sharded.glob("*.safetensors"))) > 1


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "fp8", "mxfp4"])
def test_a_quantized_base_is_refused_by_its_config(llama: Path, method: str) -> None:
    set_config(llama, quantization_config={"quant_method": method})
    (llama / "README.md").write_text("---\nlicense: mit\nbase_model: acme/whole-7b\n---\n# A quantized model\n")
    with pytest.raises(TrainingError, match=rf"quantized \({method}\)") as refused:
        look_at_folder(llama)
    assert "model.id: acme/whole-7b" in refused.value.hint


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_quantized_base_is_refused_by_its_tensors(llama: Path, dtype: torch.dtype) -> None:
    change_tensors(llama, lambda tensors: {n: t.to(dtype) if "q_proj" in n else t for n, t in tensors.items()})
    with pytest.raises(TrainingError, match=r"is quantized: model\.layers\.0\.self_attn\.q_proj\.weight"):
        look_at_folder(llama)


@pytest.mark.parametrize("kind", ["mistral3", "llava", "internvl"])
def test_a_model_of_more_than_text_without_a_text_class_is_refused(tmp_path: Path, kind: str) -> None:
    config = {"model_type": kind, "text_config": {"model_type": "llama"}, "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        TrainingError, match=rf"\({kind}\) takes more than text, and transformers has no class"
    ) as refused:
        look_at_base(tmp_path)
    assert "takes text only" in refused.value.hint


def test_a_base_saved_in_int8_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    random_model("llama").save_pretrained(tmp_path / "whole")
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "whole", quantization_config=BitsAndBytesConfig(load_in_8bit=True)
    )
    model.save_pretrained(tmp_path / "int8")
    with pytest.raises(TrainingError, match="quantized"):
        look_at_base(tmp_path / "int8")


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    shape = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    BartForConditionalGeneration(BartConfig(vocab_size=512, **shape, **heads)).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"\(bart\) has an encoder and a decoder"):
        look_at_base(tmp_path)


def test_a_model_with_code_of_its_own_is_refused(llama: Path) -> None:
    set_config(llama, model_type="acme", auto_map={"AutoModelForCausalLM": "modeling_acme.AcmeForCausalLM"})
    with pytest.raises(TrainingError, match="needs Python code from its own repository"):
        look_at_base(llama)


def test_a_known_model_may_bring_code_that_is_not_needed(llama: Path) -> None:
    set_config(llama, auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    look_at_base(llama)


def test_an_unknown_model_type_is_refused() -> None:
    with pytest.raises(TrainingError, match="has no causal language model of type acme: owner/model"):
        look_at_config({"model_type": "acme"}, "owner/model", known={"llama"})


def test_two_models_in_one_folder_are_refused(sharded: Path) -> None:
    random_model("llama", seed=1).save_pretrained(sharded / "other")
    (sharded / "other" / "model.safetensors").rename(sharded / "model.safetensors")
    with pytest.raises(TrainingError, match="holds two models"):
        look_at_folder(sharded)


def test_files_of_another_layout_beside_the_model_are_not_its_weights(llama: Path) -> None:
    """Mistral's folders hold consolidated.safetensors too. transformers does not load it, so it is not merged into."""
    for name in ("consolidated.safetensors", "model.fp16.safetensors"):
        (llama / name).write_bytes((llama / "model.safetensors").read_bytes())
    look_at_folder(llama)
    assert [path.name for path in weight_files(llama)] == ["model.safetensors"]


def test_only_files_of_another_layout_are_refused(llama: Path) -> None:
    (llama / "model.safetensors").rename(llama / "consolidated.safetensors")
    with pytest.raises(TrainingError, match=r"only consolidated\.safetensors"):
        look_at_folder(llama)


def test_an_adapter_beside_the_model_is_refused(llama: Path) -> None:
    (llama / "adapter_config.json").write_text("{}")
    with pytest.raises(TrainingError, match="holds an adapter"):
        look_at_folder(llama)


def test_a_truncated_file_is_refused(llama: Path) -> None:
    file = llama / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(TrainingError, match="ends too early or is damaged"):
        look_at_folder(llama)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n"])
def test_what_is_no_safetensors_file_is_refused(llama: Path, content: bytes) -> None:
    (llama / "model.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match="ends too early or is damaged"):
        look_at_folder(llama)


def test_tensors_that_the_index_lists_must_be_there(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"]["model.layers.9.mlp.up_proj.weight"] = next(iter(listed["weight_map"].values()))
    index.write_text(json.dumps(listed))
    with pytest.raises(TrainingError, match=r"lacks tensors .*: model\.layers\.9\.mlp\.up_proj\.weight"):
        look_at_folder(sharded)


def test_a_missing_layer_is_refused_by_name(llama: Path) -> None:
    change_tensors(llama, lambda tensors: {n: t for n, t in tensors.items() if "layers.1.mlp.up_proj" not in n})
    with pytest.raises(TrainingError, match=r"lack weights .*: model\.layers\.1\.mlp\.up_proj\.weight"):
        check_tensors(skeleton(llama), look_at_base(llama))


def test_a_missing_head_is_refused(tmp_path: Path) -> None:
    random_model("qwen3").model.save_pretrained(tmp_path)  # the body alone, and the head is not tied
    set_config(tmp_path, architectures=["Qwen3ForCausalLM"])
    with pytest.raises(TrainingError, match=r"lack weights .*: lm_head\.weight"):
        check_tensors(skeleton(tmp_path), look_at_base(tmp_path))


def test_surplus_layers_are_refused_by_name(llama: Path) -> None:
    set_config(llama, num_hidden_layers=1)
    with pytest.raises(TrainingError, match=r"hold tensors that a llama model does not have: model\.layers\.1\."):
        check_tensors(skeleton(llama), look_at_base(llama))


def test_masks_and_tables_of_older_files_are_no_surplus(tmp_path: Path) -> None:
    """The published GPT-2 and Pythia have them."""
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=32, n_layer=1, n_head=4)).save_pretrained(tmp_path)
    older = {
        "h.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8),
        "h.0.attn.masked_bias": torch.tensor(-1e4),
        "h.0.attn.rotary_emb.inv_freq": torch.ones(4),
    }
    bare = "transformer."
    change_tensors(tmp_path, lambda tensors: {n.removeprefix(bare): t for n, t in tensors.items()} | older)
    check_tensors(skeleton(tmp_path), look_at_base(tmp_path))


def test_a_bias_that_the_model_has_no_place_for_is_refused(llama: Path) -> None:
    """A Qwen2 whose config says Llama: its answers would be off."""
    bias = {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}
    change_tensors(llama, lambda tensors: tensors | bias)
    with pytest.raises(TrainingError, match=r"does not have: model\.layers\.0\.self_attn\.q_proj\.bias"):
        check_tensors(skeleton(llama), look_at_base(llama))


def test_a_vision_tower_beside_the_text_model_is_left_alone(tmp_path: Path) -> None:
    """Qwen3.5's files hold both, and transformers loads its text part as the causal language model."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    text = {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen3_5Config(text_config=text, vision_config=vision)
    Qwen3_5ForConditionalGeneration(config).save_pretrained(tmp_path)
    outline, stored = skeleton(tmp_path), look_at_base(tmp_path)
    check_tensors(outline, stored)
    layer = next(name for name, _ in outline.named_modules() if name.endswith("layers.1.self_attn.q_proj"))
    assert locate(outline, stored, [layer])[layer].name == "model.language_model.layers.1.self_attn.q_proj.weight"


def test_tensors_of_another_shape_are_refused(llama: Path) -> None:
    set_config(llama, vocab_size=400)
    with pytest.raises(TrainingError, match=r"do not fit its config\.json: .*\(512, 32\) and not \(400, 32\)"):
        check_tensors(skeleton(llama), look_at_base(llama))


def test_weights_are_found_behind_transformers_new_names(tmp_path: Path) -> None:
    """BLOOM's published files leave out the prefix that the model has."""
    random_model("bloom").save_pretrained(tmp_path)
    change_tensors(tmp_path, lambda tensors: {n.removeprefix("transformer."): t for n, t in tensors.items()})
    outline, stored = skeleton(tmp_path), stored_tensors(tmp_path)
    check_tensors(outline, stored)
    layer = "transformer.h.1.self_attention.query_key_value"
    assert locate(outline, stored, [layer])[layer].name == "h.1.self_attention.query_key_value.weight"


def test_experts_that_the_model_stacks_have_no_single_tensor(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_local_experts": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    MixtralForCausalLM(MixtralConfig(vocab_size=512, **shape, **heads)).save_pretrained(tmp_path)
    outline, stored = skeleton(tmp_path), look_at_base(tmp_path)
    check_tensors(outline, stored)
    attention = "model.layers.0.self_attn.q_proj"
    assert locate(outline, stored, [attention])[attention].stored.shape == (32, 32)
    with pytest.raises(TrainingError, match="hold no tensors for"):
        locate(outline, stored, ["model.layers.0.mlp.experts.0"])


@pytest.mark.parametrize(
    ("longest", "largest_id", "eos", "reason"),
    [
        (129, 5, 2, "the longest example has 129 tokens, and the model's context is 128"),
        (128, 512, 2, "the data holds token id 512, and the model's vocabulary ends at 511"),
        (128, 5, 512, "EOS token has id 512, and the model's vocabulary ends at 511"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused(longest: int, largest_id: int, eos: int, reason: str) -> None:
    config = {"text_config": {"vocab_size": 512, "max_position_embeddings": 128}}
    check_data_fits(config, 128, 511, 511)
    with pytest.raises(TrainingError, match=reason):
        check_data_fits(config, longest, largest_id, eos)


def stretched(positions: int, **scaling: Any) -> dict[str, Any]:
    return {"max_position_embeddings": positions, "rope_scaling": scaling}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "llama", "max_position_embeddings": 8192}, 8192),
        ({"model_type": "gpt2", "n_positions": 1024, "n_ctx": 1024}, 1024),
        ({"model_type": "bloom", "seq_length": 2048}, None),
        ({"model_type": "mpt", "max_seq_len": 2048, "attn_config": {"alibi": True}}, 2048),
        ({"model_type": "falcon", "alibi": True, "max_position_embeddings": 2048}, None),
        ({"model_type": "gemma3", "text_config": {"max_position_embeddings": 131072}}, 131072),
        ({"model_type": "mamba"}, None),
        (stretched(32768, rope_type="yarn", factor=4.0, original_max_position_embeddings=32768), 131072),
        (stretched(40960, rope_type="yarn", factor=4.0, original_max_position_embeddings=32768), 131072),  # Qwen3
        (stretched(163840, type="yarn", factor=40, original_max_position_embeddings=4096), 163840),  # DeepSeek V3
        (stretched(4096, type="linear", factor=4.0), 16384),  # Vicuna 1.5 16k
        (stretched(32768, type="dynamic", factor=2.0), 65536),  # InternLM 2
        (stretched(131072, rope_type="llama3", factor=8.0, original_max_position_embeddings=8192), 131072),
        (stretched(131072, rope_type="llama3", factor=32.0, original_max_position_embeddings=8192), 131072),  # 3.2
        (stretched(131072, rope_type="longrope", factor=32.0, long_factor=[1.0]), 131072),
        (stretched(2048, factor=4.0), 2048),  # transformers passes over a factor without a type
        ({"model_type": "gemma3", "text_config": stretched(131072, rope_type="linear", factor=8.0)}, 131072),
        ({"model_type": "mistral", "max_position_embeddings": 32768, "sliding_window": 4096}, 32768),
        ({"max_position_embeddings": -1}, None),
    ],
)
def test_the_context_is_what_the_config_says(config: dict[str, Any], tokens: int | None) -> None:
    assert context_length(config) == tokens
