"""What the engine's tests share: tiny random models of several architectures, packs of random examples."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import torch

from engine.packs import Packs

VOCABULARY = 512


def random_packs(seed: int, lengths: list[list[int]]) -> list[dict[str, list[int]]]:
    """Packs of random tokens; each inner list holds one pack's example lengths. About a third is completion."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "input_ids": torch.randint(4, VOCABULARY, (sum(pack),), generator=generator).tolist(),
            "example_lengths": pack,
            "prompt_lengths": [max(1, 2 * length // 3) for length in pack],
        }
        for pack in lengths
    ]


def in_table(packs: list[dict[str, Any]]) -> Packs:
    """Packs as the engine reads them from a dataset."""
    return Packs(pa.Table.from_pylist(packs))


def examples_of(packs: list[dict[str, list[int]]]) -> list[tuple[list[int], int]]:
    """(tokens, prompt length) of every example of `packs`."""
    out = []
    for pack in packs:
        start = 0
        for length, prompt in zip(pack["example_lengths"], pack["prompt_lengths"], strict=True):
            out.append((pack["input_ids"][start : start + length], prompt))
            start += length
    return out


def _bloom() -> Any:
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=48, n_layer=2, n_head=6))


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, **shape
        )
    )


def _qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCABULARY, num_attention_heads=4, num_key_value_heads=2, **shape))


def _mistral_with_a_short_window() -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "sliding_window": 8}
    return MistralForCausalLM(
        MistralConfig(vocab_size=VOCABULARY, num_attention_heads=4, num_key_value_heads=2, **shape)
    )


def _gemma2() -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8, "sliding_window": 16}
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=VOCABULARY, num_attention_heads=4, num_key_value_heads=2, **shape))


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "bloom": _bloom,
    "llama": _llama,
    "qwen3": _qwen3,
    "mistral": _mistral_with_a_short_window,
    "gemma2": _gemma2,
}


def random_model(architecture: str, seed: int = 0) -> Any:
    """A tiny random float32 model."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture]()


def with_adapter(model: Any, seed: int = 1, adapter: str = "fused") -> Any:
    """`model` under a LoRA adapter, A and B both random, so that it changes something; `peft` has PEFT's arithmetic."""
    from engine.arguments import Arguments
    from engine.model import add_adapter
    from shared.lora_targets import resolve_targets

    arguments = Arguments(lora_r=4, lora_alpha=8, lora_dropout=0.0, engine_adapter=adapter)
    model.requires_grad_(False)
    adapted = add_adapter(model, arguments, resolve_targets(model, ("auto",)))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return adapted
