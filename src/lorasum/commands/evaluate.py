"""Evaluate: ROUGE of the endpoint's summaries of the test dialogues, with the base model's figures beside."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lorasum import paths
from lorasum.backends.base import Backend
from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.commands.deploy import serve, withdraw
from lorasum.commands.predict import Served, batches, held_out, served, summarize
from lorasum.commands.train import price_note
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.data.records import Example
from lorasum.files import write_file, writing
from lorasum.ledger import Ledger, run_lock
from lorasum.reporting import Reporter
from lorasum.results import EvaluateResult, Rouge


def evaluate(run: RunContext, limit: int | None = None, base: bool = True) -> EvaluateResult:
    """Score the endpoint on the first `limit` test examples (all, if None).

    The base model answers the same prompts through an endpoint of its own, once: its figures are kept.

    Raises:
        LorasumError: no endpoint is in service, or the test examples are gone.
        BackendError: an endpoint did not start or did not answer.
    """
    began = time.monotonic()
    config, backend, ledger, report = run.config, run.backend, run.ledger, run.reporter
    there = served(run)
    examples = held_out(there)[:limit]
    after = _score(config, backend, there.endpoint, there.template, examples, report, "fine-tuned model")
    before = _base_score(config, backend, ledger, report, there, examples) if base else None
    return EvaluateResult(config.name, len(examples), before, after, time.monotonic() - began)


def rouge(references: Sequence[str], summaries: Sequence[str]) -> Rouge:
    """ROUGE-1, -2 and -L F1 of each summary against its reference, stemmed: means, 0 to 100."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score(target, summary) for target, summary in zip(references, summaries, strict=True)]
    return Rouge(**{kind: 100 * sum(score[kind].fmeasure for score in scores) / len(scores) for kind in kinds})


def _score(
    config: Config,
    backend: Backend,
    endpoint: EndpointRef,
    template: str,
    examples: Sequence[Example],
    report: Reporter,
    label: str,
) -> Rouge:
    summaries: list[str] = []
    for part in batches(examples, config.predict.batch_size):
        report.progress(label, len(summaries), len(examples), "summarising the test dialogues")
        summaries += summarize(config, backend, endpoint, template, [example.dialogue for example in part])
    report.progress(label, len(examples), len(examples))
    return rouge([example.summary for example in examples], summaries)


def _base_score(
    config: Config, backend: Backend, ledger: Ledger, report: Reporter, there: Served, examples: Sequence[Example]
) -> Rouge:
    """The base model's figures: kept ones, or those of an endpoint that is there for as long as it takes."""
    kept = _kept_figures(config, there, len(examples))
    if figures := _read_figures(kept):
        return figures
    run, name = config.name, f"{config.name}-base"
    spec = EndpointSpec(
        run=run,
        name=name,
        artifact=f"{there.model}@{there.model_revision}" if there.model_revision else there.model,
        code=paths.container_scripts(),
        startup_timeout=config.local.startup_timeout,
    )
    with run_lock(run):
        report.step(
            f"starting endpoint {name} for the base model's figures{price_note(backend.usd_per_hour('endpoint'))}"
        )
        try:
            endpoint = serve(config, backend, ledger, spec, {"template": there.template})
            figures = _score(config, backend, endpoint, there.template, examples, report, "base model")
        finally:
            withdraw(backend, ledger, run, name)
        _keep_figures(kept, figures)
    return figures


def _kept_figures(config: Config, there: Served, count: int) -> Path:
    """The file of the base model's figures; its name has everything they depend on."""
    generation = (config.predict.max_new_tokens, config.predict.temperature)
    key = json.dumps([there.model, there.model_revision, there.template, there.fingerprint, count, *generation])
    return paths.run_dir(config.name) / f"base_rouge_{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def _read_figures(kept: Path) -> Rouge | None:
    try:
        return Rouge(**json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # never made, or unreadable: made anew


def _keep_figures(kept: Path, figures: Rouge) -> None:
    with writing(kept, "free some disk, then evaluate again"):
        write_file(kept, json.dumps(asdict(figures)))
