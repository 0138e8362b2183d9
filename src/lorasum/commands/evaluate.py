"""Evaluate: score the tuned model's summaries of the test dialogues, and compare them with those of other models."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasum.context import RunContext
from lorasum.data.records import Example
from lorasum.errors import LorasumError
from lorasum.formatting import counted
from lorasum.ledger.resources import Origin
from lorasum.lifecycle import base_answers, base_endpoint
from lorasum.lifecycle.answers import fill
from lorasum.lifecycle.base_answers import AGAIN
from lorasum.lifecycle.costs import price_note
from lorasum.lifecycle.lookup import changed_data
from lorasum.lifecycle.model_metrics import judged, load_consistency
from lorasum.lifecycle.summarizer import Summarizer, in_service
from lorasum.lock import run_lock, waits_for
from lorasum.results.serving import EvaluateResult
from lorasum.scoring import evaluation_files
from lorasum.scoring.baselines import lead, longest_utterance
from lorasum.scoring.evaluation import (
    BASE,
    LEAD,
    LONGEST,
    TUNED,
    ScoredSummary,
    compare,
    mean_scores,
    score_summaries,
    worst,
)
from lorasum.scoring.text import language_of
from lorasum.scoring.thresholds import missed
from lorasum.system.files import make_folder, writing

_LOCK = "evaluation.lock"
"""One evaluation of a run at a time: they share the base model's endpoint."""
_SHOWN = 10  # of the worst summaries


def evaluate(
    run: RunContext,
    limit: int | None = None,
    base: bool | None = None,
    other: str | None = None,
    concurrency: int = 1,
    at_least: Mapping[str, float] | None = None,
    confirm: Callable[[str], None] | None = None,
) -> EvaluateResult:
    """Score the endpoint's summaries of the first `limit` test dialogues (all, if None).

    They are compared with the dialogues' first three sentences and longest utterance, with the base model, and with
    another run. The base model is asked in its own chat format, if it has one, at the end of the training job or
    through an endpoint of its own. Summaries are kept, so that none is asked for twice.

    Args:
        base: whether to compare with the base model. None does so if that starts no paid endpoint: the training job
            has left the base model's summaries, they are kept from before, or an endpoint costs nothing.
        other: name of another run that was evaluated on the same dialogues.
        concurrency: number of requests at once.
        at_least: the lowest allowed value of a figure, by its name.
        confirm: is shown what a paid endpoint for the base model costs, before it is started, and raises to end here.

    Raises:
        LorasumError: no endpoint is in service, the test examples are gone, or the other run has no such summaries.
        BackendError: an endpoint did not start or did not answer.
    """
    began = time.monotonic()
    consistency = load_consistency(run.config.evaluate, run.reporter, at_least or {})
    summarizer = in_service(run)
    _warn_of_changed_data(run, summarizer.origin)
    asked = _Asked(run, summarizer.held_out()[:limit], concurrency, confirm)
    with run_lock(run.name, None, lambda: run.reporter.step(waits_for(run.name, _LOCK)), _LOCK):
        summaries = _all_summaries(asked, summarizer, base, other)
    language, scored = _scored(asked.examples, summaries, run.config.evaluate.language, consistency)
    result = _result(run, summarizer, language, scored, at_least or {}, began)
    with writing(Path(result.summaries), AGAIN):
        evaluation_files.write_result(result)
    return result


def _warn_of_changed_data(run: RunContext, trained: Origin) -> None:
    """Say so if the data is another now. Only the dataset of the training tells which dialogues were held out of it."""
    if changed := changed_data(run, trained):
        run.reporter.warn(
            f"scored on dataset {trained.fingerprint}, with which the served model was trained; changed since then: "
            f"{changed}. To score on what is there now, prepare, train and deploy it"
        )


def _result(
    run: RunContext,
    summarizer: Summarizer,
    language: str,
    scored: Mapping[str, Sequence[ScoredSummary]],
    at_least: Mapping[str, float],
    began: float,
) -> EvaluateResult:
    """What the scores come to, after the tuned model's summaries are written and a judge, if there is one, is asked."""
    tuned = scored[TUNED]
    scores = {name: mean_scores(ones) for name, ones in scored.items()}
    key = base_answers.answers_key(summarizer.origin, summarizer.artifact, run.config.predict)
    file = evaluation_files.scored_file(run.name, key)
    with writing(file, AGAIN):
        evaluation_files.write_scored(file, tuned)
    return EvaluateResult(
        run=run.name,
        examples=len(tuned),
        language=language,
        scores=scores,
        comparisons=tuple(compare(name, tuned, ones) for name, ones in scored.items() if name != TUNED),
        worst=tuple(worst(tuned, _SHOWN)),
        summaries=str(file),
        judge=judged(run.config.evaluate, run.reporter, file.parent, tuned, scored.get(BASE)),
        missed=missed(scores[TUNED], at_least),
        seconds=time.monotonic() - began,
        artifact=summarizer.artifact,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What all models are asked: to summarise the same dialogues, in so many requests at once.

    Attributes:
        confirm: that of `evaluate`.
    """

    run: RunContext
    examples: Sequence[Example]
    concurrency: int
    confirm: Callable[[str], None] | None

    def summaries(self, summarizer: Summarizer, label: str) -> list[str]:
        """One summary for each example. It is empty if the endpoint refuses the dialogue."""
        run, dialogues = self.run, [example.dialogue for example in self.examples]
        file = base_answers.answers_file(run, summarizer.origin, summarizer.artifact, label)
        with writing(file, AGAIN):
            make_folder(file.parent)
            answered = fill(file, summarizer, dialogues, self.concurrency, run.reporter, label)
        if refused := [answer.error for answer in answered if answer.error is not None]:
            count = f"{len(refused)} of {len(dialogues)} dialogues"
            run.reporter.warn(f"{count} were refused and count as empty summaries: {refused[0]}")
        return [answer.summary for answer in answered]


def _all_summaries(asked: _Asked, summarizer: Summarizer, base: bool | None, other: str | None) -> dict[str, list[str]]:
    """Summaries of the examples, by the name of what wrote them. The endpoint is asked last."""
    dialogues = [example.dialogue for example in asked.examples]
    summaries = {LEAD: list(map(lead, dialogues)), LONGEST: list(map(longest_utterance, dialogues))}
    if base is not False and (of_base := _base_summaries(asked, summarizer.origin, even_if_paid=bool(base))):
        summaries[BASE] = of_base
    base_endpoint.remove_leftover(asked.run)
    if other is not None:
        summaries[other] = _other_summaries(other, dialogues)
    return {**summaries, TUNED: asked.summaries(summarizer, TUNED)}


def _scored(
    examples: Sequence[Example],
    summaries: Mapping[str, Sequence[str]],
    language: str,
    consistency: Callable[[str, str], float] | None,
) -> tuple[str, dict[str, list[ScoredSummary]]]:
    """The language of the reference summaries, and all summaries with their scores, by the model that wrote them.

    Args:
        language: ISO 639-1 code; "auto" detects it.
    """
    dialogues, references = [one.dialogue for one in examples], [one.references for one in examples]
    if language == "auto":
        language = language_of([text for texts in references for text in texts])
    return language, {
        name: score_summaries(dialogues, references, texts, language, consistency) for name, texts in summaries.items()
    }


def _base_summaries(asked: _Asked, trained: Origin, even_if_paid: bool) -> list[str] | None:
    """The base model's summaries: those that are kept, or those of an endpoint that is started for them and deleted."""
    run, places = asked.run, range(len(asked.examples))
    origin = base_answers.base_origin(trained, run.config.evaluate)
    if origin != trained:
        run.reporter.step("the base model is asked in its own chat format, the tuned one as it was trained")
    known = base_answers.kept_answers(run, origin, len(places), base_endpoint.served_job(run))
    missing = [place for place in places if place not in known]
    if not missing:
        return [known[place].summary for place in places]
    price = run.backend.usd_per_hour("endpoint")
    if price != 0 and not even_if_paid:
        _say_it_is_left_out(run, price, missing[0])
        return None
    spec = base_endpoint.spec_of(run, base_answers.model_of(origin))
    if asked.confirm and price != 0:
        until = f"until it has summarised {counted(len(missing), 'dialogue')}"
        asked.confirm(f"start endpoint {spec.name} for the base model{price_note(price)}, {until}")
    return base_endpoint.ask(run, spec, origin, price, lambda summarizer: asked.summaries(summarizer, BASE))


def _say_it_is_left_out(run: RunContext, price: float | None, known: int) -> None:
    second = f"a second endpoint{price_note(price)}"
    some = f"; `--limit {known}` compares those that the training job had it summarise" if known else ""
    run.reporter.step(f"the base model is left out: it takes {second}; `lorasum evaluate --base` asks it{some}")


def _other_summaries(other: str, dialogues: Sequence[str]) -> list[str]:
    """The summaries of the newest evaluation of another run on the same dialogues."""
    summaries = evaluation_files.newest_summaries(other, dialogues)
    if summaries is None:
        raise LorasumError(
            f"run {other!r} has no evaluation on the same {len(dialogues)} test dialogues",
            "run `lorasum evaluate` with that run's config first, on the same test data",
        )
    return summaries
