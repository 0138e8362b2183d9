"""One base model for all processes of a machine, side by side with one for each: memory, time, and the same losses.

    python benchmarks/base.py --processes 2                                  # a random Llama of 0.5 billion parameters
    python benchmarks/base.py --processes 2 --shape qwen3_moe                 # a random Qwen3-MoE of 0.5 billion
    python benchmarks/base.py --processes 1 --model path --length 2048       # on a GPU: from main memory, or on the GPU

Whole and shared run in turn (A B A B), each time in new processes. On a CPU the memory of a process is its proportional
set size, in which what several processes hold together is divided among them; at most while it loads, and while it
trains. On a GPU it is what its tensors take there. CPU seconds are those of all processes, loading left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
sys.path.insert(1, str(ROOT / "container_scripts"))

from benchmarks.measuring import has_gpu, peak, reset_peak, save  # noqa: E402

from shared.names import RENDEZVOUS  # noqa: E402

SHAPES = {
    "llama": {"hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 16},
    "qwen3_moe": {"hidden_size": 1024, "moe_intermediate_size": 512, "num_hidden_layers": 8, "num_experts": 32},
}
HEADS = {"num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 128}
VOCABULARY = 8192
WAYS = ("whole", "shared")
_EVERY = 0.1  # seconds between two looks at the memory


def main() -> None:
    arguments = _parse()
    if arguments.child:
        print(json.dumps(_measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.model:
            arguments.model = Path(folder) / "model"
            _random_model(arguments.shape, arguments.model)
        runs = [(way, _together(way, arguments, folder)) for _ in range(arguments.repeats) for way in WAYS]
    rows = {way: _median([run for which, run in runs if which == way]) for way in WAYS}
    columns: dict[str, Callable[[dict[str, float]], str]] = {
        "loading, s": lambda row: f"{row['loading']:.1f}",
        "a step, s": lambda row: f"{row['step']:.2f}",
        "CPU s of a step": lambda row: f"{row['cpu']:.2f}",
        "GB at most, loading": lambda row: f"{row['while_loading'] / 1e9:.2f}",
        "GB at most, training": lambda row: f"{row['while_training'] / 1e9:.2f}",
        "last loss": lambda row: f"{row['loss']:.6f}",
    }
    body = [f"| base model | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    body += [f"| {way} | {' | '.join(shown(row) for shown in columns.values())} |" for way, row in rows.items()]
    name = "base" if arguments.shape == "llama" else f"base-{arguments.shape}"
    asked = f"{arguments.processes} processes, {arguments.quantization}, {arguments.length} tokens each in a step"
    save(name, f"Base model: {asked}", ("torch", "transformers", "peft", "bitsandbytes"), body, {"rows": rows})


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a base model; default: a random one")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="llama", help="of the random model")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quantization", choices=("int8", "nf4", "none"), default="int8")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _random_model(shape: str, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(shape, vocab_size=VOCABULARY, **HEADS, **SHAPES[shape])
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def _together(way: str, arguments: argparse.Namespace, folder: str) -> dict[str, float]:
    """One training by all processes; of each figure the largest, and of CPU seconds the sum."""
    command = [sys.executable, __file__, "--child", way]
    for name in ("model", "processes", "quantization", "length", "steps"):
        command += [f"--{name}", str(getattr(arguments, name))]
    common = {"WORLD_SIZE": str(arguments.processes), "LOCAL_WORLD_SIZE": str(arguments.processes)}
    common |= {RENDEZVOUS: f"file://{folder}/{time.monotonic_ns()}"}
    common |= {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // arguments.processes, 1))}
    environments = [os.environ | common | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(arguments.processes)]
    children = [subprocess.Popen(command, env=each, stdout=subprocess.PIPE, text=True) for each in environments]
    told = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    return {name: (sum if name == "cpu" else max)(each[name] for each in told) for name in told[0]}


def _median(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


class _Watch:
    """Looks at this process's memory again and again. `most` is what it was at most since the last call."""

    def __init__(self) -> None:
        self._most = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            self._most = max(self._most, *(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")))
            time.sleep(_EVERY)

    def most(self) -> int:
        most, self._most = (peak() if has_gpu() else self._most), 0
        reset_peak()
        return most


def _measure(arguments: argparse.Namespace) -> dict[str, float]:
    """What one process tells of its part."""
    import torch

    from engine.arguments import Arguments
    from engine.base_memory import shareable
    from engine.batches import collate, on_device
    from engine.distributed import join
    from engine.fake_pass import skeleton
    from engine.gradients import Gradients
    from engine.host_weights import SharedBase
    from engine.model import add_adapter, load_base, pick_device, pick_dtype
    from engine.packed_loss import PackedLoss
    from engine.process_memory import give_back
    from shared.lora_targets import resolve_targets

    group, watch, started = join(os.environ), _Watch(), time.monotonic()
    settings, device = Arguments(quantization=arguments.quantization, lora_dropout=0.0), pick_device()
    dtype, outline = pick_dtype("auto", device)[0], skeleton(arguments.model)
    shared = SharedBase(shareable(outline), device, group) if arguments.child == "shared" else None
    torch.manual_seed(0)
    model = load_base(arguments.model, settings, dtype, device, shared)
    model = add_adapter(model, settings, resolve_targets(model, ("all-linear",))).train()
    give_back()
    loading, while_loading = time.monotonic() - started, watch.most()
    loss_of = PackedLoss(model, arguments.length, settings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients, optimizer = Gradients(trained, group.size), torch.optim.AdamW(trained, lr=1e-3, fused=True)
    ids = [(7 * place + 31 * group.rank) % 5000 + 5 for place in range(arguments.length)]
    pack = {"input_ids": ids, "example_lengths": [len(ids)], "prompt_lengths": [len(ids) // 2]}
    batch, seconds, cpu = on_device(collate([pack]), device), [], 0.0
    for _ in range(arguments.steps):
        began, used = time.monotonic(), time.process_time()
        gradients.clear()
        total, count = loss_of(batch)
        loss = total / count / group.size
        loss.backward()
        gradients.tell(group.rank, loss)
        group.add_up(gradients.buffer)
        losses = group.read(gradients.told)
        optimizer.step()
        seconds.append(time.monotonic() - began)
        cpu += (time.process_time() - used) / arguments.steps
    figures = {"loading": loading, "step": min(seconds), "cpu": cpu, "loss": sum(losses)}
    return figures | {"while_loading": while_loading, "while_training": watch.most()}


if __name__ == "__main__":
    main()
