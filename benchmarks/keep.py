"""Which weights to keep: those of the last step, of the lowest test loss, or of the highest ROUGE-L.

    python benchmarks/keep.py --data dialogsum.dev.jsonl --train 400 --choose 50 --report 50 --epochs 4

The quickstart's model, adapter and learning rate, trained on the first `--train` rows of a JSON Lines file, whose keys
are dialogue and summary. The next `--choose` rows are the test split: after each epoch they give the test loss, and the
ROUGE-L of the summaries that the model writes of them. The next `--report` rows choose nothing; the weights that each
rule would keep summarise them, and these summaries are scored. One training serves all rules, because an evaluation
changes nothing about it. The last column has the same summaries' ROUGE-L by rouge-score, whose words are [a-z0-9].

Writes a table and all figures, and none of the data, to benchmarks/results/.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not benchmarks/, whose train.py would hide the engine's
sys.path.insert(1, str(ROOT / "container_scripts"))

from benchmarks.measuring import save  # noqa: E402

from shared.events import EvalEvent, Event, StartEvent, StepEvent  # noqa: E402
from shared.records import DatasetFacts, from_json  # noqa: E402

METRIC = "rougeL"


class Kept:
    """Stands for engine.metrics.Metrics: notes evaluations, each with the adapter as it was."""

    def __init__(self) -> None:
        self.model: Any = None
        self.evaluations: list[EvalEvent] = []
        self.adapters: dict[int, dict[str, Any]] = {}
        self.tokens_per_second = 0.0

    def emit(self, event: Event) -> None:
        from peft import get_peft_model_state_dict

        if isinstance(event, EvalEvent):
            self.evaluations.append(event)
            self.adapters[event.step] = {
                name: weight.clone() for name, weight in get_peft_model_state_dict(self.model).items()
            }
        if isinstance(event, StepEvent):
            self.tokens_per_second = event.tokens_per_second
        if not isinstance(event, StartEvent):
            print(event, file=sys.stderr)


def main() -> None:
    arguments = _parse()
    rows = [json.loads(line) for line in arguments.data.read_text(encoding="utf-8").splitlines()]
    sizes = [arguments.train, arguments.choose, arguments.report]
    if sum(sizes) > len(rows):
        sys.exit(f"error: {arguments.data} has {len(rows)} rows, and {sum(sizes)} are asked for")
    with tempfile.TemporaryDirectory() as made:
        os.environ["LORASUM_HOME"] = str(arguments.home or Path(made) / "home")
        files = {}
        for name, count in zip(("train", "choose", "report"), sizes, strict=True):
            part, rows = rows[:count], rows[count:]
            files[name] = Path(made) / name / "test.jsonl"
            files[name].parent.mkdir()
            texts = [json.dumps({"dialogue": row["dialogue"], "summary": row["summary"]}) for row in part]
            files[name].write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        _report(arguments, _measure(arguments, files))


def _measure(arguments: argparse.Namespace, files: dict[str, Path]) -> dict[str, Any]:
    """Train, and let each rule's weights summarise the rows that are reported on."""
    from peft import set_peft_model_state_dict

    import loading
    from engine.arguments import Folders, parse_arguments
    from engine.checkpoint import Checkpoints
    from engine.distributed import ALONE
    from engine.packs import load_split
    from engine.scorer import make_scorer
    from engine.setup import Setup
    from engine.stopping import StopSignal
    from engine.trainer import train_adapter
    from lorasum.backends.local.job_folder import arguments as as_flags
    from lorasum.config.loader import load_config
    from lorasum.lifecycle.planning import planned_job
    from lorasum.reporting import Silent

    overrides = [f"data.train={files['train']}", f"data.test={files['choose']}", f"training.evaluate={METRIC}"]
    overrides += ["data.max_length=1024"]  # as some dialogues need
    overrides += [f"training.epochs={arguments.epochs}", f"training.evaluate_dialogues={arguments.choose}"]
    config = load_config(ROOT / "configs" / "quickstart.yaml", overrides)
    ledger = _prepare(config)
    spec = planned_job(config, ledger, Silent()).spec
    flags = parse_arguments(as_flags(files["train"].parent, spec))
    dataset = from_json(DatasetFacts, (spec.dataset / "manifest.json").read_bytes())
    splits = load_split(spec.dataset, "train"), load_split(spec.dataset, "test")
    folders = Folders(spec.dataset, spec.model.path, *[files["train"].parent] * 3)
    loaded = loading.load(flags, folders, dataset, splits, None, ALONE)
    kept = Kept()
    kept.model = loaded.model
    choosing, reporting = (
        make_scorer(flags, loaded.packed_loss, loaded.base, folder, dataset)
        for folder in (spec.dataset, files["report"].parent)
    )
    checkpoints = Checkpoints(flags.checkpoint_dir, flags, dataset.fingerprint)
    checkpoints.claim()
    setup = Setup(loaded.model, loaded.packed_loss, *splits, loaded.plan, loaded.dtype, choosing)
    outcome = train_adapter(setup, kept, StopSignal(), checkpoints, None)  # type: ignore[arg-type]

    steps = _kept_steps(kept.evaluations)
    references = [[json.loads(line)["summary"]] for line in files["report"].read_text("utf-8").splitlines()]
    scores = {}
    for step in sorted(set(steps.values())):
        set_peft_model_state_dict(loaded.model, kept.adapters[step])
        began = time.monotonic()
        summaries = reporting.summaries(lambda: False) or []
        print(f"step {step}: summarised in {time.monotonic() - began:.0f} s", file=sys.stderr)
        scores[step] = _scores(references, summaries)
    return {
        "rows": {"train": arguments.train, "choose": arguments.choose, "report": arguments.report},
        "epochs": arguments.epochs,
        "train_tokens": dataset.splits["train"].tokens,
        "evaluations": [asdict(event) for event in kept.evaluations],
        "kept": steps,
        "training_seconds": outcome.seconds,
        "generation_seconds": outcome.generation_seconds,
        "scores": scores,
    }


def _prepare(config: Any) -> Any:
    from lorasum.backends.local.backend import LocalBackend
    from lorasum.commands.prepare import prepare
    from lorasum.context import RunContext
    from lorasum.ledger.ledger import Ledger
    from lorasum.reporting import Silent

    ledger = Ledger()
    prepare(RunContext(config, LocalBackend, ledger, Silent()))
    return ledger


def _kept_steps(evaluations: Sequence[EvalEvent]) -> dict[str, int]:
    """The step that each rule keeps."""
    return {
        "last step": evaluations[-1].step,
        "lowest test loss": min(evaluations, key=lambda event: event.eval_loss or 0).step,
        "highest ROUGE-L": max(evaluations, key=lambda event: event.score or 0).step,
    }


def _scores(references: Sequence[Sequence[str]], summaries: Sequence[str]) -> dict[str, list[float]]:
    """ROUGE of each summary: ours, and ROUGE-L by rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    from lorasum.scoring.text import text_scores

    ours = text_scores(references, summaries, "en")
    theirs = RougeScorer([METRIC], use_stemmer=True)
    return {
        **{name: [getattr(one, name) for one in ours] for name in ("rouge1", "rouge2", METRIC)},
        "rouge-score": [
            100 * theirs.score(targets[0], summary)[METRIC].fmeasure
            for targets, summary in zip(references, summaries, strict=True)
        ],
    }


def _report(arguments: argparse.Namespace, figures: dict[str, Any]) -> None:
    from lorasum.scoring.bootstrap import difference, interval

    body = ["| after step | test loss | ROUGE-L of the choosing rows |", "|---:|---:|---:|"]
    body += [f"| {one['step']} | {one['eval_loss']:.3f} | {one['score']:.1f} |" for one in figures["evaluations"]]
    body += ["", "| kept | step | ROUGE-1 | ROUGE-2 | ROUGE-L (95%) | against the last step | by rouge-score |"]
    body += ["|---|---:|---:|---:|---:|---:|---:|"]
    last = figures["scores"][figures["kept"]["last step"]]
    for rule, step in figures["kept"].items():
        scores = figures["scores"][step]
        means = {name: sum(values) / len(values) for name, values in scores.items()}
        sure, against = interval(scores[METRIC]), difference(scores[METRIC], last[METRIC])
        compared = "" if scores is last else f"{against.mean:+.1f} ({against.low:+.1f} to {against.high:+.1f})"
        body += [
            f"| {rule} | {step} | {means['rouge1']:.1f} | {means['rouge2']:.1f} "
            f"| {sure.mean:.1f} ({sure.low:.1f} to {sure.high:.1f}) | {compared} | {means['rouge-score']:.1f} |"
        ]
    apart = max(
        abs(a - b)
        for scores in figures["scores"].values()
        for a, b in zip(scores[METRIC], scores["rouge-score"], strict=True)
    )
    seconds, generating = figures["training_seconds"], figures["generation_seconds"]
    body += [
        "",
        f"{figures['epochs']:g} epochs of {arguments.train} dialogues ({figures['train_tokens']:,} tokens); "
        f"{arguments.choose} dialogues choose, {arguments.report} others are reported on. Training and test loss took "
        f"{seconds:.0f} s, generating for {len(figures['evaluations'])} evaluations {generating:.0f} s. Ours and "
        f"rouge-score's ROUGE-L of one summary differ by {apart:.2g} at most.",
    ]
    title = f"Weights to keep: {arguments.data.stem}, SmolLM2-135M int8, learning rate of the quickstart"
    libraries = ("torch", "transformers", "peft", "bitsandbytes", "rouge-score")
    save(f"keep-{arguments.data.stem.split('.')[0]}", title, libraries, body, figures)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__ and __doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines with dialogue and summary")
    parser.add_argument("--train", type=int, default=400, help="rows to train on")
    parser.add_argument("--choose", type=int, default=50, help="rows to evaluate on after each epoch")
    parser.add_argument("--report", type=int, default=50, help="rows to report on")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--home", type=Path, help="lorasum's home, to find the converted model in it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
