"""Tiny random models of many families: what the sweep and docs/models.md are made from.

A family is a model type of transformers and the settings that make it small. `route` is what the probe has to find:

    packed      the engine's attention, all examples of a pack in one forward pass
    own         transformers' attention, all examples of a pack in one forward pass
    single      one example for each forward pass
"""

from dataclasses import dataclass, field
from typing import Any

import torch

VOCABULARY = 512
LONGEST = 41
"""Tokens of the longest example of the sweep: longer than every window below."""
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "moe_num_experts": 4,
    "moe_k": 2,
}
_LATENT = {  # multi-head latent attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
_GROUPS = {"n_group": 1, "topk_group": 1}
_MAMBA = {  # as Bamba, Granite 4 and others call the parts of a Mamba-2 layer
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
_DELTA = {  # gated delta net
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}


@dataclass(frozen=True, slots=True)
class Family:
    """One family of models."""

    kind: str
    """transformers' model type."""
    route: str
    """packed | own | single."""
    head: str = "labels"
    """labels | rows | all: see engine.routes.Route."""
    settings: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("auto",)
    served: str = "batched"
    """batched: prompts of different lengths are answered together; alone: one at a time."""
    pieces: bool = True
    """Whether a long prompt can be read in pieces."""
    joins: bool = True
    """Whether a prompt can join others that have begun."""
    fast: bool = False
    """Whether it is part of `make test`; all are part of `make sweep`."""
    name: str = ""
    """As people know it; the model type if empty."""


FAMILIES = [
    Family("bloom", "packed", fast=True, name="BLOOM, BLOOMZ"),
    Family("gpt2", "packed", fast=True, name="GPT-2"),
    Family("gpt_neo", "own", settings={"attention_types": [[["global", "local"], 1]]}, name="GPT-Neo"),
    Family("gpt_neox", "packed", name="GPT-NeoX, Pythia"),
    Family("gptj", "own", settings={"rotary_dim": 4}, name="GPT-J"),
    Family("gpt_bigcode", "packed", name="GPT-BigCode, StarCoder"),
    Family("codegen", "own", settings={"rotary_dim": 4}, name="CodeGen"),
    Family("opt", "packed", settings={"ffn_dim": 64, "word_embed_proj_dim": 32}, name="OPT"),
    Family("xglm", "single", settings={"ffn_dim": 64, "d_model": 32, "num_layers": 2, "attention_heads": 4}),
    Family("openai-gpt", "single", pieces=False, joins=False, name="OpenAI GPT"),
    Family("biogpt", "packed", name="BioGPT"),
    Family(
        "mpt",
        "single",
        settings={"d_model": 32, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2},
        fast=True,
        name="MPT",
    ),
    Family("falcon", "single", settings={"new_decoder_architecture": False}, fast=True, name="Falcon"),
    Family("falcon", "single", settings={"alibi": True}, name="Falcon with ALiBi"),
    Family("llama", "packed", fast=True, name="Llama 1 to 3, SmolLM, TinyLlama, Yi"),
    Family("mistral", "packed", settings={"sliding_window": 8}, fast=True, name="Mistral"),
    Family("ministral", "packed"),
    Family("ministral3", "packed"),
    Family("qwen2", "packed", name="Qwen 1.5 to 2.5"),
    Family("qwen3", "packed", fast=True, name="Qwen3"),
    Family("phi", "packed", name="Phi 1 to 2"),
    Family("phi3", "packed", name="Phi 3 to 4"),
    Family("gemma", "packed", name="Gemma"),
    Family("gemma2", "own", head="rows", settings={"sliding_window": 16}, fast=True, name="Gemma 2"),
    Family(
        "gemma3_text",
        "packed",
        settings={"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        fast=True,
        name="Gemma 3 (text)",
    ),
    Family(
        "gemma3n_text",
        "packed",
        head="rows",
        settings={
            "num_kv_shared_layers": 0,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "activation_sparsity_pattern": [0.0, 0.0],
        },
        name="Gemma 3n (text)",
    ),
    Family(
        "gemma4_text",
        "packed",
        settings={"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8},
        name="Gemma 4 (text)",
    ),
    Family("vaultgemma", "own", head="rows", name="VaultGemma"),
    Family("cohere", "packed", head="rows", name="Cohere Command R"),
    Family("cohere2", "packed", head="rows", name="Cohere Command R7B"),
    Family("olmo", "packed", name="OLMo"),
    Family("olmo2", "packed", name="OLMo 2"),
    Family("olmo3", "packed", name="OLMo 3"),
    Family(
        "granite",
        "packed",
        head="rows",
        settings={"logits_scaling": 4.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0},
        fast=True,
        name="Granite 3",
    ),
    Family("stablelm", "packed", name="StableLM"),
    Family("starcoder2", "packed", name="StarCoder 2"),
    Family("persimmon", "packed", name="Persimmon"),
    Family("smollm3", "packed", name="SmolLM3"),
    Family("nemotron", "packed", name="Nemotron"),
    Family("helium", "packed", name="Helium"),
    Family("glm", "packed", name="GLM"),
    Family("glm4", "packed", name="GLM-4"),
    Family("exaone4", "packed", name="EXAONE 4"),
    Family("arcee", "packed", name="Arcee"),
    Family("apertus", "packed", name="Apertus"),
    Family("bitnet", "packed", name="BitNet"),
    Family("diffllama", "packed", name="DiffLlama"),
    Family("ernie4_5", "packed", name="ERNIE 4.5"),
    Family("hunyuan_v1_dense", "packed", name="Hunyuan"),
    Family("internlm3", "packed", name="InternLM 3"),
    Family("jais2", "packed", name="Jais 2"),
    Family("minicpm3", "packed", head="rows", settings=_LATENT, name="MiniCPM 3"),
    Family("nanochat", "packed", head="rows", name="nanochat"),
    Family("seed_oss", "packed", name="Seed-OSS"),
    Family("youtu", "packed", settings=_LATENT, name="Youtu"),
    Family("modernbert-decoder", "packed", head="rows", name="ModernBERT decoder"),
    Family("doge", "own", name="Doge"),
    Family("ctrl", "packed", settings={"dff": 64}, name="CTRL"),
    Family("mixtral", "packed", settings=_EXPERTS, fast=True, name="Mixtral"),
    Family("qwen2_moe", "packed", settings=_EXPERTS, name="Qwen2-MoE"),
    Family("qwen3_moe", "packed", settings=_EXPERTS, name="Qwen3-MoE"),
    Family("olmoe", "packed", settings=_EXPERTS, name="OLMoE"),
    Family("phimoe", "packed", settings=_EXPERTS, name="Phi-3.5-MoE"),
    Family("granitemoe", "packed", settings=_EXPERTS, name="Granite-MoE"),
    Family("granitemoeshared", "packed", settings={**_EXPERTS, "shared_intermediate_size": 16}),
    Family(
        "dbrx",
        "packed",
        settings={
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 256,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        },
        name="DBRX",
    ),
    Family(
        "deepseek_v2",
        "packed",
        settings={**_EXPERTS, **_LATENT, **_GROUPS, "first_k_dense_replace": 1},
        name="DeepSeek-V2",
    ),
    Family(
        "deepseek_v3",
        "packed",
        settings={**_EXPERTS, **_LATENT, **_GROUPS, "first_k_dense_replace": 1},
        name="DeepSeek-V3",
    ),
    Family(
        "gpt_oss",
        "single",
        settings={**_EXPERTS, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        fast=True,
        name="GPT-OSS (bf16)",
    ),
    Family("glm4_moe", "packed", settings={**_EXPERTS, **_GROUPS, "first_k_dense_replace": 1}, name="GLM-4.5"),
    Family("ernie4_5_moe", "packed", settings=_EXPERTS, name="ERNIE 4.5 MoE"),
    Family("dots1", "packed", settings={**_EXPERTS, **_GROUPS, "n_shared_experts": 1}, name="dots.llm1"),
    Family("hunyuan_v1_moe", "packed", settings={**_EXPERTS, "moe_topk": 2}, name="Hunyuan MoE"),
    Family("flex_olmo", "packed", settings=_EXPERTS, name="FlexOlmo"),
    Family("minimax_m2", "packed", settings=_EXPERTS, name="MiniMax-M2"),
    Family("jetmoe", "packed", settings={**_EXPERTS, "kv_channels": 8}, name="JetMoE"),
    Family(
        "llama4_text",
        "own",
        settings={
            **_EXPERTS,
            "intermediate_size_mlp": 64,
            "attention_chunk_size": 16,
            "layer_types": ["chunked_attention", "full_attention"],
        },
        name="Llama 4 (text)",
    ),
    Family(
        "mamba",
        "single",
        pieces=False,
        joins=False,
        settings={"state_size": 4},
        targets=("in_proj", "x_proj"),
        fast=True,
        name="Mamba",
    ),
    Family(
        "mamba2",
        "single",
        pieces=False,
        joins=False,
        settings={"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
        targets=("in_proj",),
        name="Mamba-2",
    ),
    Family(
        "falcon_mamba",
        "single",
        pieces=False,
        joins=False,
        settings={"state_size": 4},
        targets=("in_proj", "x_proj"),
        name="Falcon-Mamba",
    ),
    Family(
        "jamba",
        "single",
        pieces=False,
        settings={
            **_EXPERTS,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
        fast=True,
        name="Jamba",
    ),
    Family("bamba", "single", settings={**_MAMBA, "attn_layer_indices": [1]}, name="Bamba"),
    Family(
        "falcon_h1",
        "single",
        head="rows",
        settings={**_MAMBA, "mamba_d_ssm": 32, "mamba_n_heads": 4, "lm_head_multiplier": 0.5},
        fast=True,
        name="Falcon-H1",
    ),
    Family(
        "zamba2",
        "single",
        settings={
            "mamba_d_state": 8,
            "mamba_ngroups": 1,
            "n_mamba_heads": 8,
            "num_hidden_layers": 3,
            "num_mem_blocks": 1,
            "adapter_rank": 4,
            "layers_block_type": ["mamba", "hybrid", "mamba"],
            "chunk_size": 8,
            "use_mem_rope": True,
        },
        name="Zamba 2",
    ),
    Family(
        "nemotron_h",
        "single",
        settings={
            "hybrid_override_pattern": "M*-",
            "layers_block_type": None,
            "num_hidden_layers": 3,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
        },
        name="Nemotron-H",
    ),
    Family(
        "granitemoehybrid",
        "single",
        settings={**_EXPERTS, **_MAMBA, "shared_intermediate_size": 32, "layer_types": ["mamba", "attention"]},
        name="Granite 4",
    ),
    Family("qwen3_next", "single", settings={**_EXPERTS, **_DELTA, "linear_num_key_heads": 2}, name="Qwen3-Next"),
    Family("qwen3_5_text", "single", settings={**_DELTA, "linear_num_key_heads": 2}, name="Qwen3.5 (text)"),
    Family("lfm2", "single", settings={"layer_types": ["conv", "full_attention"]}, fast=True, name="LFM2"),
    Family(
        "lfm2_moe",
        "single",
        settings={**_EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
        name="LFM2-MoE",
    ),
    Family("olmo_hybrid", "single", settings=_DELTA, name="OLMo hybrid"),
    Family(
        "minimax",
        "single",
        served="alone",
        pieces=False,
        joins=False,
        settings={**_EXPERTS, "layer_types": ["linear_attention", "full_attention"], "block_size": 8},
        name="MiniMax",
    ),
    Family(
        "recurrent_gemma",
        "single",
        head="rows",
        pieces=False,
        joins=False,
        settings={
            "lru_width": 32,
            "attention_window_size": 16,
            "num_hidden_layers": 3,
            "block_types": ["recurrent", "recurrent", "attention"],
        },
        targets=("q_proj", "v_proj", "linear_x"),
        name="RecurrentGemma",
    ),
    Family(
        "rwkv",
        "single",
        served="alone",
        pieces=False,
        joins=False,
        settings={"attention_hidden_size": 32, "context_length": 256},
        fast=True,
        name="RWKV",
    ),
    Family(
        "xlstm",
        "single",
        head="all",
        served="alone",
        pieces=False,
        joins=False,
        settings={"num_heads": 4, "num_blocks": 2, "embedding_dim": 32, "chunk_size": 8, "qk_dim_factor": 0.5},
        targets=("q", "v"),
        name="xLSTM",
    ),
]


def family_id(family: Family) -> str:
    """A name for a test: the model type, and what tells apart two families of one type."""
    same = [other for other in FAMILIES if other.kind == family.kind]
    return family.kind if same[0] is family else f"{family.kind}-{same.index(family)}"


def random_family_model(family: Family, seed: int = 0) -> Any:
    """A tiny float32 model of the family. Its weights are larger than those of a new model, so that mistakes show."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {**_SHAPE, **family.settings}
    if family.kind == "falcon":
        del settings["head_dim"]  # follows from the others, and cannot be set
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = AutoConfig.for_model(family.kind, **settings)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()
