"""The first table of docs/models.md: what a model takes of a GPU, by the estimate that `plan` makes. No weight is read.

    python benchmarks/hardware.py

A training is planned twice: with all layers recomputed, which is the least that it takes, and with none. Sizes of the
models are those of their config.json. Nothing of this is measured on a GPU.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's
sys.path.insert(1, str(ROOT / "container_scripts"))

PAGE = ROOT / "docs" / "models.md"
_HEADER = "| model | licence | nf4 | int8 | bf16 | smallest type for int8 | to serve | smallest type to serve |\n"
_TOKENS = 2048
_EXAMPLE, _PROMPT = 256, 210  # tokens of an example, and of its prompt
_QWEN: dict[str, Any] = {"model_type": "qwen3", "vocab_size": 151_936, "head_dim": 128, "num_key_value_heads": 8}
_8B = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}


def _sized(hidden: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
    }  # fmt: skip


MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (
        "Apache-2.0",
        {
            "model_type": "llama", "vocab_size": 49_152, "num_key_value_heads": 3, "tie_word_embeddings": True,
            **_sized(576, 1536, 30, 9),
        },
    ),
    "Qwen/Qwen3-0.6B": ("Apache-2.0", {**_QWEN, **_sized(1024, 3072, 28, 16), "tie_word_embeddings": True}),
    "Qwen/Qwen3-1.7B": ("Apache-2.0", {**_QWEN, **_sized(2048, 6144, 28, 16), "tie_word_embeddings": True}),
    "Qwen/Qwen3-4B": ("Apache-2.0", {**_QWEN, **_sized(2560, 9728, 36, 32), "tie_word_embeddings": True}),
    "mistralai/Mistral-7B-Instruct-v0.3": (
        "Apache-2.0",
        {"model_type": "mistral", "vocab_size": 32_768, **_8B, "intermediate_size": 14_336, "sliding_window": None},
    ),
    "meta-llama/Llama-3.1-8B-Instruct": (
        "Llama 3.1",
        {"model_type": "llama", "vocab_size": 128_256, **_8B, "intermediate_size": 14_336},
    ),
    "Qwen/Qwen3-8B": ("Apache-2.0", {**_QWEN, **_sized(4096, 12_288, 36, 32)}),
    "Qwen/Qwen3-30B-A3B": (
        "Apache-2.0",
        {
            **_QWEN, **_sized(2048, 6144, 48, 32), "model_type": "qwen3_moe", "num_key_value_heads": 4,
            "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
        },
    ),
}  # fmt: skip
"""By the name of its repository: the licence, and what of its config.json decides."""


def rows() -> Iterator[str]:
    """A line of the table for each model."""
    for name, (licence, config) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            _write_config(base, config)
            training = {kind: _training(base, kind) for kind in ("nf4", "int8", "none")}
            shown = (f"{least:.1f} to {most:.1f}" for least, most in training.values())
            cells = (f"`{name}`", licence, *shown, _smallest(training["int8"][0]), *_serving(base))
        print(name, *cells, sep="  ", flush=True)
        yield f"| {' | '.join(cells)} |\n"


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    from transformers import AutoConfig

    known = {"max_position_embeddings": 32_768, "tie_word_embeddings": False, "dtype": "bfloat16"}
    AutoConfig.for_model(**{**known, **config}).save_pretrained(folder)


def _training(base: Path, quantization: str) -> tuple[float, float]:
    """GiB for a pack of 2,048 tokens and adapters as `init` chooses them: with all layers recomputed, and with none."""
    import torch

    from engine.arguments import Arguments
    from engine.fake_pass import skeleton
    from engine.fitting import plan_memory
    from shared.lora_targets import resolve_targets
    from shared.names import EXAMPLE_LENGTHS, PROMPT_LENGTHS

    count = _TOKENS // _EXAMPLE
    pack: Any = {EXAMPLE_LENGTHS: [_EXAMPLE] * count, PROMPT_LENGTHS: [_PROMPT] * count}
    targets = resolve_targets(skeleton(base), ("auto",))
    sizes = []
    for recompute in ("true", "false"):
        arguments = Arguments(
            quantization=quantization, gradient_checkpointing=recompute, lora_r=16, engine_base="whole"
        )  # fmt: skip
        plan = plan_memory(base, arguments, targets, [pack], torch.bfloat16, 1 << 50, device="cuda")
        sizes.append(plan.memory.total / 2**30)
    return sizes[0], sizes[1]


def _smallest(least: float) -> str:
    """The type with the smallest GPU that holds a training of so many GiB; a plan leaves a tenth of the GPU free."""
    from lorasum.config.instances import SMALLEST, facts_of

    return next(name for name in SMALLEST if facts_of(name).gpu_gib * 0.9 > least)


def _serving(base: Path) -> tuple[str, str]:
    """GiB of an endpoint that answers a dialogue of 2,048 tokens in 16 bits, and the smallest type that has them."""
    import json

    from engine.fake_pass import skeleton
    from lorasum.lifecycle.placement import Placement
    from lorasum.lifecycle.shape import Shape

    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    parameters = sum(one.numel() for one in skeleton(base).parameters())
    placed = Placement((), "huggingface", Shape.of(config, parameters), _TOKENS + 128)
    nearest = placed.nearest()
    needed = placed.room_on(nearest).needed_bytes / 2**30
    return f"{needed:.1f}", nearest


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_HEADER)
    _, end, after = rest.partition("\n\n")
    rule = "|---|---|---:|---:|---:|---|---:|---|\n"
    PAGE.write_text(f"{before}{_HEADER}{rule}{''.join(rows()).rstrip()}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
