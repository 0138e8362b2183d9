"""A GGUF file holds the model that it was made of: transformers reads it back to the same logits and tokens."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config

from lorasum.errors import ModelError
from lorasum.models.gguf_export import export_gguf

SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=False),
    "qwen3": Qwen3Config(
        **SIZES, head_dim=128, tie_word_embeddings=True
    ),  # the size that transformers takes for granted
}


def saved(kind: str, folder: Path, tokenizer: Path, dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]).to(dtype)
    for name, values in model.named_parameters():
        if values.ndim == 1:  # norms of all ones and biases of zero would hide a mistake
            torch.nn.init.normal_(values, mean=float("norm" in name), std=0.1)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_the_file_read_back_gives_the_same_logits(kind: str, tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    folder = saved(kind, tmp_path / "model", tiny_tokenizer_dir, torch.bfloat16)
    export_gguf(folder, tmp_path / "m.gguf", "tiny")
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32).eval()
    ids = torch.tensor([[1, 50, 60, 70, 300, 9]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours(ids).logits)


@pytest.mark.parametrize("limit", [1, 20_000])
def test_a_full_disk_leaves_the_file_that_was_there(limit: int, tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    folder, file = saved("llama", tmp_path / "model", tiny_tokenizer_dir), tmp_path / "m.gguf"
    file.write_text("mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))  # bytes a file may have
    try:
        with pytest.raises(OSError, match="File too large"):
            export_gguf(folder, file, "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.gguf", "model"]
    export_gguf(folder, file, "tiny")
    assert file.stat().st_size > limit


def test_the_tokenizer_read_back_gives_the_same_tokens(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    folder = saved("llama", tmp_path / "model", tiny_tokenizer_dir)
    (folder / "lorasum.json").write_text(json.dumps({"eos_token_id": 3}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    export_gguf(folder, tmp_path / "m.gguf", "tiny")
    ours = AutoTokenizer.from_pretrained(folder)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in ("Ana: lunch at 12?\nBen: make it 1", "Grüße, 東京 🙂", "  two  spaces"):
        assert theirs(text)["input_ids"] == ours(text)["input_ids"]
    fields = GGUFReader(tmp_path / "m.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 3, "the token that ends a summary"
    assert fields["tokenizer.chat_template"].contents() == "{{ messages }}"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_type": "bloom"}, "a model of type bloom cannot be written"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, r"stretched positions \(yarn\)"),
        ({"attention_bias": True}, "biases in its layers"),
        ({"use_sliding_window": True, "sliding_window": 64}, "a sliding window of 64 tokens"),
    ],
)
def test_what_would_be_written_wrong_is_refused(
    change: dict[str, Any], why: str, tmp_path: Path, tiny_tokenizer_dir: Path
) -> None:
    config = {**CONFIGS["llama"].to_dict(), **change}
    AutoTokenizer.from_pretrained(tiny_tokenizer_dir).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=why):
        export_gguf(tmp_path, tmp_path / "m.gguf", "tiny")
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize(
    "change", [{"model": {"type": "BPE", "byte_fallback": True}}, {"normalizer": {"type": "Lowercase"}}]
)
def test_another_kind_of_tokenizer_is_refused(change: dict[str, Any], tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    folder = saved("llama", tmp_path / "model", tiny_tokenizer_dir)
    stored = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**stored, **change}))
    with pytest.raises(ModelError, match="tokenizer is of a kind"):
        export_gguf(folder, tmp_path / "m.gguf", "tiny")
