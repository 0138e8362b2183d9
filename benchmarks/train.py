"""Training, side by side: lorasum's engine against the recipe AWS and Hugging Face published in 2023, rewritten.

    python benchmarks/train.py --shape wide-512 --loss completion --ablation
    python benchmarks/train.py --shape bloomz-7b1 --chunk-length 2048 --memory-limit-gib 15 --ablation    # on a GPU

Same random BLOOM, same packs, same device. Every recipe runs in a process of its own, in turn (A B A B), so that each
starts clean and the machine's moods fall on all. Prints a table with ratios, and where a step of lorasum's goes, and
writes both to benchmarks/results/.

published: bitsandbytes LLM.int8, everything else float32, eager attention over the whole chunk, full logits, gradient
    checkpointing, Adafactor, batch 1 (notebook 24_train_bloom_peft_lora, run_clm.py).
lorasum: the engine's defaults for the device. The others: the engine with one part replaced.
useful: floating-point operations a second that the training needs, whatever else a recipe does: the layers forward and
    back to their inputs, attention inside examples, the head on tokens with a label. In per cent of what a large matrix
    product reaches on the device in lorasum's compute type.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's
sys.path.insert(1, str(ROOT / "container_scripts"))

from benchmarks.measuring import has_gpu, peak, reset_peak, run_alone, save  # noqa: E402

SHAPES = {  # hidden size, layers, heads; the vocabulary is always BLOOM's
    "wide-512": (512, 8, 8),
    "bloom-560m": (1024, 24, 16),
    "bloomz-7b1": (4096, 30, 32),
}
VOCABULARY = 250_880
ABLATIONS = {  # the engine without one of its parts: fields of engine.arguments.Arguments
    "head on all tokens": {"engine_head": "all"},
    "PEFT's adapter": {"engine_adapter": "peft"},
    "float32": {"compute_dtype": "float32"},
    "LLM.int8": {"engine_linear": "llm.int8"},
    "int8 activations": {"engine_linear": "int8"},
    "all recomputed": {"gradient_checkpointing": "true"},
    "FlexAttention": {"engine_attention": "flex"},
}
RECIPES = ("lorasum", "published", *ABLATIONS)
GPU_ONLY = ("FlexAttention",)
WARM_UP = 2  # steps not counted
PROFILED = 12  # rows of the profile


def main() -> None:
    arguments = _parse()
    if arguments.child:
        print(json.dumps(_measure(arguments)))
        return
    recipes = ["lorasum", "published"]
    if arguments.ablation:
        recipes += [name for name in ABLATIONS if (has_gpu() or name not in GPU_ONLY) and not _is_default(name)]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        make_model(arguments.shape, model)
        runs: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in recipes}
        for round_ in range(arguments.rounds):
            for recipe in recipes:
                runs[recipe].append(_run_child(arguments, recipe, model, profile=recipe == "lorasum" and not round_))
                print(f"round {round_ + 1}, {recipe}: {runs[recipe][-1]}", file=sys.stderr)
    save(
        f"train-{arguments.shape}-{arguments.loss}",
        f"{arguments.shape}, loss on {arguments.loss}, packs of {arguments.chunk_length:,} tokens",
        ("torch", "transformers", "peft", "bitsandbytes"),
        [*_table(runs), "", *_profile_table(runs["lorasum"][0])],
        {"memory_limit_gib": arguments.memory_limit_gib, "runs": runs},
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="wide-512")
    parser.add_argument("--loss", choices=("completion", "all"), default="completion")
    parser.add_argument("--chunk-length", type=int, default=1024, help="tokens of a pack")
    parser.add_argument("--steps", type=int, default=6, help="counted optimizer steps, one pack each")
    parser.add_argument("--rounds", type=int, default=2, help="processes per recipe")
    parser.add_argument("--ablation", action="store_true", help="also the engine without each of its parts")
    parser.add_argument("--memory-limit-gib", type=float, help="cap of the GPU allocator")
    parser.add_argument("--child", choices=RECIPES, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _is_default(recipe: str) -> bool:
    """Whether the device's own arithmetic is float32 already."""
    return recipe == "float32" and "float32" in str(_dtype("lorasum"))


def _dtype(recipe: str) -> Any:
    from engine.model import pick_device, pick_dtype

    return pick_dtype(_settings(recipe).compute_dtype, pick_device())[0]


def make_model(shape: str, folder: Path) -> None:
    """A random BLOOM in bf16 safetensors."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    hidden, layers, heads = SHAPES[shape]
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=hidden, n_layer=layers, n_head=heads, dtype="bfloat16")
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16)
        model = BloomForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)


def _packs(chunk_length: int, count: int) -> list[dict[str, list[int]]]:
    """Packs of random tokens: examples of 90 to 350 tokens, the last fifth of each its completion."""
    import random

    draw = random.Random(0)
    packs = []
    for _ in range(count):
        lengths: list[int] = []
        while sum(lengths) < chunk_length:
            lengths.append(min(draw.randint(90, 350), chunk_length - sum(lengths)))
        if lengths[-1] < 5:
            lengths[-2:] = [sum(lengths[-2:])]
        packs.append(
            {
                "input_ids": [draw.randrange(VOCABULARY) for _ in range(chunk_length)],
                "example_lengths": lengths,
                "prompt_lengths": [4 * length // 5 for length in lengths],
            }
        )
    return packs


def _run_child(arguments: argparse.Namespace, recipe: str, model: Path, profile: bool) -> dict[str, Any]:
    options = ["--child", recipe, "--model", model, "--shape", arguments.shape, "--loss", arguments.loss]
    options += ["--chunk-length", arguments.chunk_length, "--steps", arguments.steps]
    if arguments.memory_limit_gib:
        options += ["--memory-limit-gib", arguments.memory_limit_gib]
    return run_alone(__file__, *options, *(["--profile"] if profile else []))


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One recipe: tokens/s over the counted steps, the training's peak memory (not the loading's), the losses."""
    import torch
    import transformers

    from engine.operations import product_speed

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cuda = has_gpu()
    if cuda and arguments.memory_limit_gib:
        share = arguments.memory_limit_gib * 2**30 / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0))
    packs = _packs(arguments.chunk_length, WARM_UP + arguments.steps)
    limit = product_speed(_dtype("lorasum"), "cuda" if cuda else "cpu")
    step = _published(arguments) if arguments.child == "published" else _lorasum(arguments)
    losses, times = [], []
    estimated = _estimate(arguments, packs) if cuda and arguments.child != "published" else None
    reset_peak()
    for pack in packs:
        began = time.perf_counter()
        losses.append(step(pack))
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times[WARM_UP:])
    useful = statistics.mean(_useful(arguments.shape, pack, arguments.loss) for pack in packs[WARM_UP:])
    return {
        "tokens_per_second": arguments.chunk_length / seconds,
        "peak_bytes": peak(),
        "losses": losses,
        "estimated_bytes": estimated,
        "useful_flops_per_second": useful / seconds,
        "matrix_product_flops_per_second": limit,
        "profile": _profile(step, packs[-1]) if arguments.profile else None,
    }


def _useful(shape: str, pack: dict[str, list[int]], loss: str) -> float:
    """Floating-point operations of one step that no recipe can do without: 2 per weight and token, forward and back."""
    hidden, layers, _ = SHAPES[shape]
    lengths = pack["example_lengths"]
    labelled = sum(lengths) - (sum(pack["prompt_lengths"]) if loss == "completion" else len(lengths))
    body = 12 * hidden**2 * layers * sum(lengths)
    visible = sum(length * (length + 1) // 2 for length in lengths)  # pairs of a query and a key
    attention = 2 * hidden * layers * visible  # two products forward, four back
    head = VOCABULARY * hidden * labelled
    return 4 * body + 6 * attention + 4 * head


def _profile(step: Any, pack: dict[str, list[int]]) -> list[tuple[str, float, int]]:
    """Where a step's time goes: operation, its share of the device's time, its calls."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if has_gpu() else [])]) as recorded:
        step(pack)
    events = recorded.key_averages()
    spent = {e.key: (e.self_device_time_total if has_gpu() else e.self_cpu_time_total, e.count) for e in events}
    whole = sum(microseconds for microseconds, _ in spent.values())
    largest = sorted(spent.items(), key=lambda item: -item[1][0])[:PROFILED]
    return [(name, microseconds / whole, count) for name, (microseconds, count) in largest]


def _estimate(arguments: argparse.Namespace, packs: list[dict[str, list[int]]]) -> int:
    """What engine.memory says before anything is loaded: bytes of tensors, which is what a GPU's allocator counts."""
    from engine.memory import estimate

    pack = packs[0]
    rows = sum(pack["example_lengths"]) - (sum(pack["prompt_lengths"]) if arguments.loss == "completion" else 0)
    settings, dtype = _settings(arguments.child), _dtype(arguments.child)
    whole = settings.gradient_checkpointing == "true"
    needed, _ = estimate(arguments.model, settings, ["query_key_value"], pack["example_lengths"], rows, dtype, whole)
    return needed.total


def _settings(recipe: str) -> Any:
    """The engine's arguments for a recipe."""
    from engine.arguments import Arguments

    without: dict[str, Any] = ABLATIONS.get(recipe, {})
    return Arguments(lora_targets=("query_key_value",), lora_dropout=0.0, **without)


def _lorasum(arguments: argparse.Namespace) -> Any:
    """The engine's own parts, as engine.trainer.fit puts them together; AdamW."""
    import torch

    from engine.batches import collate
    from engine.memory import recompute_layers
    from engine.model import add_adapter, load_base, pick_device
    from engine.packed_loss import PackedLoss

    settings, device, dtype = _settings(arguments.child), pick_device(), _dtype(arguments.child)
    torch.manual_seed(0)
    model = add_adapter(load_base(arguments.model, settings, dtype, device), settings, ["query_key_value"]).train()
    layers = recompute_layers(model.get_base_model(), 0)
    if settings.gradient_checkpointing == "true":
        recompute_layers(model.get_base_model(), layers)
    loss_of = PackedLoss(model, arguments.chunk_length, settings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, fused=True)

    def step(pack: dict[str, list[int]]) -> float:
        batch = collate([pack], arguments.loss)
        moved = {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
        total, count = loss_of(moved)
        loss = total / count
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _published(arguments: argparse.Namespace) -> Any:
    """prepare_model_for_int8_training as it was, PEFT, full logits, Adafactor; a chunk is one sequence."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import Adafactor, AutoModelForCausalLM, BitsAndBytesConfig

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(
        arguments.model,
        dtype=torch.float16 if device == "cuda" else torch.float32,
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        device_map={"": device},
        attn_implementation="eager",
    )
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)
    lora = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.0, target_modules=["query_key_value"], task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = Adafactor(trained, lr=2e-4, scale_parameter=False, relative_step=False)

    def step(pack: dict[str, list[int]]) -> float:
        ids = torch.tensor([pack["input_ids"]], device=device)
        labels = ids.clone()
        start = 0
        for length, prompt in zip(pack["example_lengths"], pack["prompt_lengths"], strict=True):
            labels[:, start : start + (prompt if arguments.loss == "completion" else 0)] = -100
            start += length
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _table(all_runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line of Markdown for each recipe: medians over its processes."""
    lines = [
        "| recipe | tokens/s | against published | useful | peak memory | against published | estimated | last loss |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    whole = {recipe: [run for run in results if "failed" not in run] for recipe, results in all_runs.items()}
    medians = {
        recipe: [statistics.median(run[key] for run in results) for key in ("tokens_per_second", "peak_bytes")]
        for recipe, results in whole.items()
        if results
    }
    limit = statistics.median(run["matrix_product_flops_per_second"] for runs in whole.values() for run in runs)
    for recipe, results in whole.items():
        if not results:
            lines.append(f"| {recipe} | failed | | | | | | |")
            continue
        speed, held = medians[recipe]
        slow, large = medians.get("published", (0, 0))
        known = results[-1]["estimated_bytes"]
        useful = statistics.median(run["useful_flops_per_second"] for run in results)
        cells = [
            recipe if recipe in ("lorasum", "published") else f"lorasum, {recipe}",
            f"{speed:,.0f}",
            f"{speed / slow:.2f}×" if slow else "–",
            f"{useful / limit:.0%}",
            f"{held / 2**30:.2f} GiB",
            f"{held / large:.2f}×" if large else "–",
            f"{known / 2**30:.2f} GiB" if known else "–",
            f"{results[-1]['losses'][-1]:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", f"Useful operations in per cent of a large matrix product's {limit / 1e12:.2f} TFLOP/s."]


def _profile_table(run: dict[str, Any]) -> list[str]:
    if not run.get("profile"):
        return []
    lines = ["| where a step of lorasum's goes | share | calls |", "|---|---:|---:|"]
    return lines + [f"| {name} | {share:.1%} | {count} |" for name, share, count in run["profile"]]


if __name__ == "__main__":
    main()
