"""Merging the adapter, side by side: lorasum's streaming merge against PEFT's merge_and_unload and save_pretrained.

    python benchmarks/merge.py --shape bloom-560m

Same random BLOOM in bf16, same adapter, both from folders on disk to a folder on disk, each in a process of its own, in
turn. Seconds do not count the imports. Prints a table with ratios and writes it to benchmarks/results/.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's

from benchmarks.measuring import peak, reset_peak, run_alone, save  # noqa: E402
from benchmarks.train import SHAPES, make_model  # noqa: E402

WAYS = ("lorasum", "peft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="bloom-560m")
    parser.add_argument("--rounds", type=int, default=3, help="processes per way")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measure(arguments.child, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(arguments.shape, folder / "base")
        _make_adapter(folder)
        largest = max(shard.stat().st_size for shard in (folder / "base").glob("*.safetensors"))
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                _recycle_pages(folder / "pages", 3 * largest)
                runs[way].append(run_alone(__file__, "--child", way, "--folder", folder))
    save(
        f"merge-{arguments.shape}",
        f"Merging into {arguments.shape}, bf16, largest shard {largest / 1e6:,.0f} MB",
        ("torch", "transformers", "peft", "safetensors"),
        _table(largest, runs),
        {"runs": runs},
    )


def _recycle_pages(file: Path, size: int) -> None:
    """Write and delete a file: memory that a virtual machine touches for the first time costs seconds a gigabyte."""
    with file.open("wb") as out:
        for _ in range(size >> 20):
            out.write(bytes(1 << 20))
    file.unlink()


def _make_adapter(folder: Path) -> None:
    """An adapter on query_key_value, r 8, whose B is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="auto")
    lora = LoraConfig(r=8, lora_alpha=32, target_modules=["query_key_value"], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    adapted.save_pretrained(folder / "adapter")


def _measure(way: str, folder: Path) -> dict[str, float]:
    """Seconds, peak resident bytes, and resident bytes before it began."""
    output = folder / way
    shutil.rmtree(output, ignore_errors=True)  # a job's output folder is empty
    output.mkdir()
    merge = _lorasum if way == "lorasum" else _peft
    work = merge(folder, output)
    reset_peak()
    before = peak()
    began = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began, "peak_bytes": peak(), "before_bytes": before}


def _lorasum(folder: Path, output: Path) -> Any:
    import peft  # noqa: F401  as in a training job, which has it and transformers when it merges

    from engine.merge import merge

    return lambda: merge(folder / "base", folder / "adapter", output)


def _peft(folder: Path, output: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def work() -> None:
        base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="auto")
        PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload().save_pretrained(output)

    return work


def _table(largest: int, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    seconds = {way: statistics.median(run["seconds"] for run in runs[way]) for way in WAYS}
    peaks = {way: statistics.median(run["peak_bytes"] for run in runs[way]) for way in WAYS}
    lines = [
        "| way | seconds | against PEFT | peak memory | over the largest shard |",
        "|---|---:|---:|---:|---:|",
    ]
    for way in WAYS:
        factor = f"{seconds['peft'] / seconds[way]:.1f}×"
        over = f"{(peaks[way] - largest) / 1e6:+,.0f} MB"
        lines.append(f"| {way} | {seconds[way]:.2f} | {factor} | {peaks[way] / 1e6:,.0f} MB | {over} |")
    return lines


if __name__ == "__main__":
    main()
