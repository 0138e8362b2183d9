"""Training, side by side: lorasum's engine against the recipe AWS and Hugging Face published in 2023, written anew.

    python benchmarks/train.py --shape wide-512 --loss completion
    python benchmarks/train.py --shape bloomz-7b1 --memory-limit-gib 15          # on a GPU

Same random BLOOM, same packs, same device. Every recipe runs in a process of its own, in turn (A B A B), so that each
starts clean and the machine's moods fall on all. Prints a table with ratios and writes it to benchmarks/results/.

published: bitsandbytes LLM.int8, everything else float32, eager attention over the whole chunk, full logits, gradient
    checkpointing, Adafactor, batch 1 (notebook 24_train_bloom_peft_lora, run_clm.py).
lorasum: the engine's defaults for the device. lorasum-float32: the same with float32 arithmetic.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "container_scripts"))

SHAPES = {  # hidden size, layers, heads; the vocabulary is always BLOOM's
    "wide-512": (512, 8, 8),
    "bloom-560m": (1024, 24, 16),
    "bloomz-7b1": (4096, 30, 32),
}
VOCABULARY = 250_880
ABLATIONS = {  # the engine without one of its parts: flags of engine.arguments
    "lorasum, head on all tokens": {"engine_head": "all"},
    "lorasum, bitsandbytes' int8": {"engine_linear": "llm.int8"},
    "lorasum, all recomputed": {"gradient_checkpointing": "true"},
}
RECIPES = ("lorasum", "lorasum-float32", "published", *ABLATIONS)
WARM_UP = 2  # steps not counted


def main() -> None:
    arguments = _parse()
    if arguments.child:
        print(json.dumps(_measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        make_model(arguments.shape, model)
        arguments.recipes += list(ABLATIONS) if arguments.ablation else []
        runs: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in arguments.recipes}
        for round_ in range(arguments.rounds):
            for recipe in arguments.recipes:
                runs[recipe].append(_run_child(arguments, recipe, model))
                print(f"round {round_ + 1}, {recipe}: {runs[recipe][-1]}", file=sys.stderr)
    report = _report(arguments, runs)
    print(report["table"])
    results = ROOT / "benchmarks" / "results"
    name = f"train-{arguments.shape}-{arguments.loss}-{report['device_kind']}"
    (results / f"{name}.json").write_text(json.dumps(report | {"runs": runs}, indent=2) + "\n", encoding="utf-8")
    (results / f"{name}.md").write_text(report["table"] + "\n", encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="wide-512")
    parser.add_argument("--loss", choices=("completion", "all"), default="completion")
    parser.add_argument("--chunk-length", type=int, default=1024, help="tokens of a pack")
    parser.add_argument("--steps", type=int, default=6, help="counted optimizer steps, one pack each")
    parser.add_argument("--rounds", type=int, default=2, help="processes per recipe")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES[:3]))
    parser.add_argument("--ablation", action="store_true", help="also the engine without each of its parts")
    parser.add_argument("--memory-limit-gib", type=float, help="cap of the GPU allocator")
    parser.add_argument("--child", choices=RECIPES, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


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


def _run_child(arguments: argparse.Namespace, recipe: str, model: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", recipe, "--model", str(model), "--shape", arguments.shape]
    command += [
        "--loss",
        arguments.loss,
        "--chunk-length",
        str(arguments.chunk_length),
        "--steps",
        str(arguments.steps),
    ]
    if arguments.memory_limit_gib:
        command += ["--memory-limit-gib", str(arguments.memory_limit_gib)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": f"exit status {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One recipe: tokens/s over the counted steps, the training's peak memory (not the loading's), the losses."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cuda = torch.cuda.is_available()
    if cuda and arguments.memory_limit_gib:
        share = arguments.memory_limit_gib * 2**30 / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0))
    packs = _packs(arguments.chunk_length, WARM_UP + arguments.steps)
    step = _published(arguments) if arguments.child == "published" else _lorasum(arguments)
    losses, times = [], []
    estimated = _estimate(arguments, packs) if cuda and arguments.child != "published" else None
    reset_peak(cuda)
    for pack in packs:
        began = time.perf_counter()
        losses.append(step(pack))
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return {
        "tokens_per_second": arguments.chunk_length / statistics.median(times[WARM_UP:]),
        "peak_bytes": peak(cuda),
        "losses": losses,
        "estimated_bytes": estimated,
    }


def _estimate(arguments: argparse.Namespace, packs: list[dict[str, list[int]]]) -> int:
    """What engine.memory says before anything is loaded: bytes of tensors, which is what a GPU's allocator counts."""
    import torch

    from engine.memory import estimate
    from engine.model import pick_dtype

    requested = "float32" if arguments.child == "lorasum-float32" else "auto"
    dtype, _ = pick_dtype(requested, torch.device("cuda"))
    pack = packs[0]
    rows = sum(pack["example_lengths"]) - (sum(pack["prompt_lengths"]) if arguments.loss == "completion" else 0)
    settings = _settings(arguments.child)
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
    from engine.memory import recompute
    from engine.model import add_adapter, load_base, pick_device, pick_dtype
    from engine.trainer import PackedLoss

    settings = _settings(arguments.child)
    device = pick_device()
    requested = "float32" if arguments.child == "lorasum-float32" else "auto"
    dtype, _ = pick_dtype(requested, device)
    torch.manual_seed(0)
    model = add_adapter(load_base(arguments.model, settings, dtype, device), settings, ["query_key_value"]).train()
    layers = recompute(model.get_base_model(), 0)
    if settings.gradient_checkpointing == "true":
        recompute(model.get_base_model(), layers)
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


def reset_peak(cuda: bool) -> None:
    if cuda:
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM


def peak(cuda: bool) -> int:
    """Bytes: the allocator's peak on a GPU, the resident set's elsewhere."""
    if cuda:
        import torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _report(arguments: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if cuda else f"{processor()}, {torch.get_num_threads()} threads"
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "bitsandbytes")}
    speeds, peaks = {}, {}
    for recipe, results in runs.items():
        whole = [result for result in results if "failed" not in result]
        speeds[recipe] = statistics.median(r["tokens_per_second"] for r in whole) if whole else None
        peaks[recipe] = statistics.median(r["peak_bytes"] for r in whole) if whole else None
    lines = [
        f"### {arguments.shape}, loss on {arguments.loss}, packs of {arguments.chunk_length:,} tokens",
        "",
        f"{device} · {datetime.now(UTC):%Y-%m-%d} · " + ", ".join(f"{n} {v}" for n, v in versions.items()),
        "",
        "| recipe | tokens/s | against published | peak memory | against published | estimated | loss, last step |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for recipe, speed in speeds.items():
        peak, slow, large = peaks[recipe], speeds.get("published"), peaks.get("published")
        if speed is None or peak is None:
            lines.append(f"| {recipe} | failed | | | | | |")
            continue
        last = runs[recipe][-1]["losses"][-1]
        faster = f"{speed / slow:.2f}×" if slow else "–"
        smaller = f"{peak / large:.2f}×" if large else "–"
        known = runs[recipe][-1]["estimated_bytes"]
        guess = f"{known / 2**30:.2f} GiB" if known else "–"
        lines.append(
            f"| {recipe} | {speed:,.0f} | {faster} | {peak / 2**30:.2f} GiB | {smaller} | {guess} | {last:.4f} |"
        )
    return {
        "device": device,
        "device_kind": "gpu" if cuda else "cpu",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": versions,
        "arguments": {k: v for k, v in vars(arguments).items() if k not in ("child", "model")},
        "table": "\n".join(lines),
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
