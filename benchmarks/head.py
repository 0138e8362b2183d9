"""The loss at BLOOM's vocabulary, side by side: lorasum's head on labelled rows against other ways to the same number.

    python benchmarks/head.py --shape wide-512
    python benchmarks/head.py --shape bloomz-7b1          # on a GPU, with `pip install liger-kernel cut-cross-entropy`

Forward and backward to the hidden states, the head frozen; random hidden states and weights, a fifth of the tokens with
a label. Every way runs in a process of its own, in turn. All but the first two are given the labelled rows only.
Prints a table and writes it to benchmarks/results/.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's
sys.path.insert(1, str(ROOT / "container_scripts"))

from benchmarks.measuring import has_gpu, peak, reset_peak, run_alone, save  # noqa: E402
from benchmarks.train import SHAPES, VOCABULARY  # noqa: E402

WAYS = ("lorasum", "all tokens", "labelled rows", "PyTorch's chunks", "Liger", "cut cross-entropy")
NEEDS = {"Liger": "liger_kernel", "cut cross-entropy": "cut_cross_entropy"}  # packages with kernels for a GPU
LABELLED = 5  # of so many tokens, one has a label
WARM_UP = 2  # calls not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="wide-512")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--calls", type=int, default=5, help="counted, per process")
    parser.add_argument("--rounds", type=int, default=2, help="processes per way")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measure(arguments)))
        return
    options = ["--shape", arguments.shape, "--tokens", arguments.tokens, "--calls", arguments.calls]
    possible = [way for way in WAYS if way not in NEEDS or (has_gpu() and find_spec(NEEDS[way]))]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in possible}
    for _ in range(arguments.rounds):
        for way in possible:
            runs[way].append(run_alone(__file__, *options, "--child", way))
            print(f"{way}: {runs[way][-1]}", file=sys.stderr)
    libraries = ["torch", *(NEEDS[way].replace("_", "-") for way in possible if way in NEEDS)]
    title = f"The loss of {arguments.tokens:,} tokens, one in {LABELLED} with a label, at {arguments.shape}'s head"
    save(f"head-{arguments.shape}", title, libraries, _table(runs), {"runs": runs})


def _measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a call, its peak memory above what stands before it, and how far its gradient is off."""
    import torch

    device, dtype = ("cuda", torch.bfloat16) if has_gpu() else ("cpu", torch.float32)
    torch.manual_seed(0)
    width = SHAPES[arguments.shape][0]
    head = torch.nn.Linear(width, VOCABULARY, bias=False, device=device, dtype=dtype).requires_grad_(False)
    hidden = torch.randn(1, arguments.tokens, width, device=device, dtype=dtype, requires_grad=True)
    labels = torch.randint(VOCABULARY, (1, arguments.tokens))
    labels[0, torch.arange(arguments.tokens) % LABELLED > 0] = -100
    rows = torch.nonzero(labels[0, 1:] != -100).squeeze(1).to(device)
    labels = labels.to(device)
    call = _way(arguments.child, head, labels, rows)
    times = []
    reset_peak()
    before = peak()
    for _ in range(WARM_UP + arguments.calls):
        hidden.grad = None
        began = time.perf_counter()
        loss = call(hidden)
        loss.backward()
        if has_gpu():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    held = peak() - before
    exact = hidden.detach().float().requires_grad_()
    _way("lorasum", head.float(), labels, rows)(exact).backward()
    assert hidden.grad is not None
    assert exact.grad is not None
    error = (hidden.grad.float() - exact.grad).abs().max() / exact.grad.abs().max()
    seconds = statistics.median(times[WARM_UP:])
    return {"seconds": seconds, "peak_bytes": held, "loss": loss.item(), "gradient_error": error.item()}


def _way(name: str, head: Any, labels: Any, rows: Any) -> Callable[[Any], Any]:
    """hidden states (1, tokens, hidden) → the mean loss of the labelled tokens."""
    import torch
    from torch.nn import functional

    targets = labels[0, rows + 1]
    if name == "lorasum":
        from engine.loss import head_loss

        return lambda hidden: head_loss(hidden, head, labels, rows) / len(rows)
    if name == "all tokens":
        return lambda hidden: functional.cross_entropy(head(hidden)[0, :-1].float(), labels[0, 1:])
    if name == "labelled rows":
        return lambda hidden: functional.cross_entropy(head(hidden[0, rows]).float(), targets)
    if name == "PyTorch's chunks":
        chunks = torch.nn.LinearCrossEntropyOptions()
        return lambda hidden: functional.linear_cross_entropy(hidden[0, rows], head.weight, targets, options=chunks)
    if name == "Liger":
        from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        return lambda hidden: liger(head.weight, hidden[0, rows], targets)
    from cut_cross_entropy import linear_cross_entropy

    return lambda hidden: linear_cross_entropy(hidden[0, rows], head.weight, targets, filter_eps=None)


def _table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [
        "| way | milliseconds | against lorasum | memory | against lorasum | loss | gradient off by |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    ours = {key: statistics.median(run[key] for run in runs["lorasum"]) for key in ("seconds", "peak_bytes")}
    for way, results in runs.items():
        whole = [run for run in results if "failed" not in run]
        if not whole:
            lines.append(f"| {way} | failed | | | | | |")
            continue
        seconds, held = (statistics.median(run[key] for run in whole) for key in ("seconds", "peak_bytes"))
        lines.append(
            f"| {way} | {seconds * 1e3:,.0f} | {seconds / ours['seconds']:.2f}× | {held / 2**20:,.0f} MiB "
            f"| {held / ours['peak_bytes']:.2f}× | {whole[-1]['loss']:.5f} | {whole[-1]['gradient_error']:.1e} |"
        )
    return lines + [f"| {way} | not measured: it needs a GPU | | | | | |" for way in WAYS if way not in runs]


if __name__ == "__main__":
    main()
