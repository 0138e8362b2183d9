"""Evaluate: ROUGE of the endpoint's summaries of the test dialogues, with the base model's figures beside."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lorasum import paths
from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.context import RunContext
from lorasum.data.records import Example
from lorasum.files import write_file, writing
from lorasum.lifecycle import endpoints
from lorasum.lifecycle.costs import price_note
from lorasum.lifecycle.lock import HeldRun
from lorasum.lifecycle.serving import Summarizer
from lorasum.reporting import Reporter
from lorasum.resources import Origin
from lorasum.results import EvaluateResult, Rouge

_BASE = "--base"
"""Ends the name of the base model's endpoint. No run's name has two hyphens in a row, so no run can have this name."""


def evaluate(run: RunContext, limit: int | None = None, base: bool | None = None) -> EvaluateResult:
    """Score the endpoint on the first `limit` test examples (all, if None).

    The base model answers the same prompts through an endpoint of its own, once: its figures are kept.

    Args:
        base: whether to show the base model's figures. None shows them where they cost nothing: on the user's own
            machine, or once they are kept.

    Raises:
        LorasumError: no endpoint is in service, or the test examples are gone.
        BackendError: an endpoint did not start or did not answer.
    """
    began = time.monotonic()
    summarizer = run.summarizer()
    examples = summarizer.held_out()[:limit]
    after = _score(summarizer, examples, run.reporter, "fine-tuned model")
    before = None if base is False else _base_score(run, summarizer.origin, examples, whatever_it_costs=bool(base))
    return EvaluateResult(run.name, len(examples), before, after, time.monotonic() - began)


def rouge(references: Sequence[str], summaries: Sequence[str]) -> Rouge:
    """ROUGE-1, -2 and -L F1 of each summary against its reference, stemmed: means, 0 to 100."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score(target, summary) for target, summary in zip(references, summaries, strict=True)]
    return Rouge(**{kind: 100 * sum(score[kind].fmeasure for score in scores) / len(scores) for kind in kinds})


def _score(summarizer: Summarizer, examples: Sequence[Example], reporter: Reporter, label: str) -> Rouge:
    summaries: list[str] = []
    reporter.progress(label, 0, len(examples), "summarising the test dialogues")
    for part in summarizer.summarize_all([example.dialogue for example in examples]):
        summaries += part
        reporter.progress(label, len(summaries), len(examples), "summarising the test dialogues")
    return rouge([example.summary for example in examples], summaries)


def _base_score(run: RunContext, origin: Origin, examples: Sequence[Example], whatever_it_costs: bool) -> Rouge | None:
    """The base model's figures: kept ones, or those of an endpoint that is there for as long as it takes."""
    kept = _kept_figures(run, origin, len(examples))
    if figures := _read_figures(kept):
        return figures
    price = run.backend.usd_per_hour("endpoint")
    if price != 0 and not whatever_it_costs:
        run.reporter.step(
            f"the base model's figures are left out: they take a second endpoint{price_note(price)}; "
            "`lorasum evaluate --base` starts it, and deletes it again"
        )
        return None
    with run.hold() as held:
        if figures := _read_figures(kept):  # another process has just found them out
            return figures
        figures = _ask_base(run, held, origin, examples)
        _keep_figures(kept, figures)
    return figures


def _ask_base(run: RunContext, held: HeldRun, origin: Origin, examples: Sequence[Example]) -> Rouge:
    """Start the base model's endpoint, score it, and delete it whatever happens."""
    name = f"{run.name}{_BASE}"
    spec = EndpointSpec(
        run=run.name,
        name=name,
        artifact=f"{origin.model}@{origin.model_revision}" if origin.model_revision else origin.model,
        code=paths.container_scripts(),
        startup_timeout=run.config.local.startup_timeout,
    )
    price = price_note(run.backend.usd_per_hour("endpoint"))
    run.reporter.step(f"starting endpoint {name} for the base model's figures{price}")

    def asked(endpoint: EndpointRef) -> Summarizer:
        return Summarizer(run.backend, endpoint, origin, run.config.predict)

    try:
        template_only = Origin(template=origin.template)
        endpoint = endpoints.start(held, spec, template_only, lambda ref: asked(ref).summarize([endpoints.PROBE]))
        return _score(asked(endpoint), examples, run.reporter, "base model")
    finally:
        endpoints.delete(held, name)


def _kept_figures(run: RunContext, origin: Origin, count: int) -> Path:
    """The file of the base model's figures; its name has everything they depend on."""
    generation = (run.config.predict.max_new_tokens, run.config.predict.temperature)
    key = json.dumps([origin.model, origin.model_revision, origin.template, origin.fingerprint, count, *generation])
    return paths.run_dir(run.name) / f"base_rouge_{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def _read_figures(kept: Path) -> Rouge | None:
    try:
        return Rouge(**json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # never made, or unreadable: made anew


def _keep_figures(kept: Path, figures: Rouge) -> None:
    with writing(kept, "free some disk, then evaluate again"):
        write_file(kept, json.dumps(asdict(figures)))
