"""The page of a run, or of two side by side: scores, samples, curves, memory, cost, data, configuration, versions."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from lorasum.formatting import duration, gigabytes, loss
from lorasum.pages.charts import Series, intervals, line_chart, parts_of, smoothed
from lorasum.pages.data_page import data_picture
from lorasum.pages.facts import RunFacts, samples
from lorasum.pages.rendering import TableRow, render
from lorasum.pages.run_figures import (
    environment,
    key_figures,
    memory_figures,
    planned_and_actual,
    settings,
    training_figures,
    usd,
)
from lorasum.scoring.bootstrap import Interval
from lorasum.scoring.evaluation import TUNED, Comparison, Scores, compare
from lorasum.scoring.faithfulness import Finding
from lorasum.shared.events import EvalEvent, StepEvent

_SCORES: Mapping[str, str] = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "chrf": "chrF",
    "faithful": "no unsupported facts",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title. A line of its legend is a name, the number of a colour, and the kind of mark."""

    title: str
    chart: Markup
    legend: tuple[tuple[str, int, str], ...] = ()
    note: str = ""


def run_page(runs: Sequence[RunFacts], config: str = "", shown: int = 12) -> str:
    """The page of one run, or of two, as text.

    Args:
        config: the first run's config as YAML, without secrets; empty if it is not known.
        shown: how many dialogues stand on the page; with 0 no text of the data does.
    """
    flagged, spread = samples(runs, shown) if runs[0].scored else ([], [])
    return render(
        "run.html",
        " and ".join(run.name for run in runs),
        runs=runs,
        cards=_cards(runs[0]) if len(runs) == 1 else [],
        verdict=_verdict(runs),
        head=("", *(run.name for run in runs)),
        figures=_rows(runs, key_figures if len(runs) > 1 else training_figures),
        score_head=("", *_score_names(runs).values()),
        scores=_scores(runs),
        score_chart=_score_chart(runs),
        comparisons=[line for run in runs for line in _comparisons(run, len(runs) > 1)],
        samples=[
            (title, found) for title, found in (("Unsupported facts", flagged), ("From best to worst", spread)) if found
        ],
        marked=marked,
        curves=_curves(runs),
        memory=_memory(runs),
        memory_rows=_rows(runs, memory_figures),
        plan=_rows(runs, planned_and_actual),
        data=[(run.name, data_picture(run.manifest)) for run in runs if run.manifest],
        settings=_rows(runs, settings),
        config=config,
        environment=_rows(runs, environment),
    )


def marked(summary: str, findings: Iterable[Finding]) -> Markup:
    """A summary with everything marked that its dialogue does not support."""
    texts = {finding.text: finding.reason for finding in findings}
    texts |= {text.rpartition(": ")[2]: reason for text, reason in texts.items() if text not in summary}
    there = sorted((text for text in texts if text and text in summary), key=len, reverse=True)
    if not there:
        return escape(summary)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in there))
    parts, at = [], 0
    for match in pattern.finditer(summary):
        parts.append(escape(summary[at : match.start()]))
        parts.append(Markup('<mark title="{}">{}</mark>').format(texts[match[0]], match[0]))
        at = match.end()
    return Markup().join([*parts, escape(summary[at:])])


def _of(runs: Sequence[RunFacts]) -> list[str]:
    """What is added to the name of a figure to say whose it is."""
    return [f", {run.name}" for run in runs] if len(runs) > 1 else [""]


def _rows(runs: Sequence[RunFacts], figures: Callable[[RunFacts], Mapping[str, str]]) -> list[TableRow]:
    """A row for each figure that a run has; settings that differ are marked."""
    found = [figures(run) for run in runs]
    names = list(dict.fromkeys(name for one in found for name, value in one.items() if value))
    rows = [(name, *(one.get(name) or "–" for one in found)) for name in names]
    return [TableRow(row, "differs" if figures is settings and len({*row[1:]}) > 1 else "") for row in rows]


def _cards(run: RunFacts) -> list[tuple[str, str]]:
    """The figures at the top of the page, with what they are."""
    done, evaluation = run.done, run.evaluation
    scores = evaluation.scores.get(TUNED) if evaluation else None
    cards = []
    if scores:
        cards.append((f"{scores.rougeL.mean:.1f}", f"ROUGE-L, {scores.rougeL.low:.1f} to {scores.rougeL.high:.1f}"))
        cards.append((f"{scores.faithful.mean:.0%}", "of the summaries have no unsupported facts"))
    if done:
        cards.append((loss(done.eval_loss), "loss on the test split"))
        speed = f", {done.tokens_per_second:,.0f} tokens/s" if done.tokens_per_second else ""
        cards.append((duration(done.seconds), f"of training{speed}"))
    cards.append((usd(run.usd), "for the training job"))
    return cards


def _verdict(runs: Sequence[RunFacts]) -> str:
    """The page in one sentence."""
    if len(runs) > 1:
        first, second = runs
        theirs = {one.dialogue: one for one in second.scored}
        both = [(one, theirs[one.dialogue]) for one in first.scored if one.dialogue in theirs]
        if not both:
            return "The two runs were not evaluated on the same dialogues, so their scores are not compared."
        found = compare(second.name, [ours for ours, _ in both], [other for _, other in both])
        return f"On the {len(both)} dialogues that both were evaluated on: {first.name} against {_said(found)}"
    run = runs[0]
    if run.evaluation is None:
        return "It has not been evaluated."
    said = "; against the ".join(_said(one) for one in run.evaluation.comparisons)
    return f"Over {run.evaluation.examples} test dialogues, against the {said}." if said else ""


def _said(comparison: Comparison) -> str:
    """`base model: ROUGE-L better by 12.1 (9.4 to 14.7)`."""
    found = comparison.rougeL
    return f"{comparison.other}: ROUGE-L {found if found.is_real else 'shows no difference'}"


def _comparisons(run: RunFacts, named: bool) -> list[str]:
    if run.evaluation is None:
        return []
    lines = [f"{run.name} against the {_said(one)}." for one in run.evaluation.comparisons if named]
    if (judge := run.evaluation.judge) is not None and not judge.judged:  # its marks are no numbers
        lines.append(f"{judge.model} has judged nothing.")
    elif judge is not None:
        lines.append(
            f"{judge.model} judged {judge.judged} summaries: faithfulness {judge.faithfulness:.1f}, coverage "
            f"{judge.coverage:.1f}, conciseness {judge.conciseness:.1f} of 5."
        )
    return lines


def _score_names(runs: Sequence[RunFacts]) -> Mapping[str, str]:
    """The scores that are shown: consistency, which a second model judges, only where one was asked."""
    asked = any(scores.consistency for run in runs if run.evaluation for scores in run.evaluation.scores.values())
    return {**_SCORES, "consistency": "consistent"} if asked else _SCORES


def _scored_rows(runs: Sequence[RunFacts]) -> list[tuple[str, int, bool, Scores]]:
    """What was scored: its name, its run's number, whether it is a tuned model, and its scores.

    What has the same scores in both runs, as the dialogues' first sentences have, stands there once.
    """
    found: dict[tuple[str, Scores], tuple[str, int]] = {}
    for place, (run, of) in enumerate(zip(runs, _of(runs), strict=True)):
        for name, scores in run.evaluation.scores.items() if run.evaluation else ():
            seen = (name, scores) in found
            found[name, scores] = (name if seen else f"{name}{of}", found[name, scores][1] if seen else place)
    return [(label, place, name == TUNED, scores) for (name, scores), (label, place) in found.items()]


def _scores(runs: Sequence[RunFacts]) -> list[TableRow]:
    names = _score_names(runs)
    return [
        TableRow((label, *(_score(key, getattr(scores, key)) for key in names)), "chosen" if tuned else "")
        for label, _, tuned, scores in _scored_rows(runs)
    ]


def _score(key: str, one: Interval | None) -> str:
    if one is None:
        return "–"
    return (
        f"{one.mean:.0%}" if key in ("faithful", "consistency") else f"{one.mean:.1f} ±{(one.high - one.low) / 2:.1f}"
    )


def _score_chart(runs: Sequence[RunFacts]) -> Figure:
    rows = [(name, scores.rougeL, place) for name, place, _, scores in _scored_rows(runs)]
    label = "ROUGE-L with 95% intervals. " + "; ".join(f"{name}: {one}" for name, one, _ in rows)
    drawn = [(name, one.low, one.mean, one.high, place) for name, one, place in rows]
    return Figure("ROUGE-L, with 95% intervals", intervals(label, drawn) if drawn else Markup())


def _curves(runs: Sequence[RunFacts]) -> list[Figure]:
    losses: list[Series] = []
    legend: list[tuple[str, int, str]] = []
    for place, (run, of) in enumerate(zip(runs, _of(runs), strict=True)):
        raw = run.curve(StepEvent, lambda step: step.loss)
        losses += [
            Series(f"each step{of}", raw, place, "faint"),
            Series(f"training{of}", smoothed(raw), place),
            Series(f"test split{of}", run.curve(EvalEvent, lambda event: event.eval_loss), place, "dots"),
        ]
        legend += [(f"training, smoothed{of}", place, "line"), (f"test split{of}", place, "dots")]
    label = "Loss by step. " + "; ".join(
        f"{one.name}: from {one.points[0][1]:.3f} to {one.points[-1][1]:.3f}"
        for one in losses
        if one.points and one.kind != "faint"
    )
    found = [Figure("Loss", line_chart(label, "step", losses), tuple(legend))]
    names = tuple((run.name, place, "line") for place, run in enumerate(runs)) if len(runs) > 1 else ()
    others: dict[str, Callable[[StepEvent], float | None]] = {
        "Learning rate": lambda step: step.learning_rate,
        "Tokens per second, mean so far": lambda step: step.tokens_per_second,
    }
    for title, figure in others.items():
        series = [Series(run.name, run.curve(StepEvent, figure), place) for place, run in enumerate(runs)]
        said = [f"{one.name}: {one.points[-1][1]:.3g} at the end" for one in series if one.points]
        chart = line_chart(f"{title} by step. {'; '.join(said)}", "step", series, from_zero=True)
        found.append(Figure(title, chart, names))
    scored = [
        Series(run.name, run.curve(EvalEvent, lambda event: event.score), place, "dots")
        for place, run in enumerate(runs)
    ]
    by = next((run.done.scored_by for run in runs if run.done and run.done.scored_by), "score")
    last = "; ".join(f"{one.name}: {one.points[-1][1]:.1f} at the end" for one in scored if one.points)
    chart = line_chart(f"{by} of generated summaries by step. {last}", "step", scored)
    found.append(Figure(f"{by} of test dialogues, while training", chart, names))
    return [one for one in found if one.chart]


def _memory(runs: Sequence[RunFacts]) -> Figure:
    rows = [(run.name, {**run.start.memory_parts}) for run in runs if run.start and run.start.memory_parts]
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    ordered = [(name, {part: float(parts.get(part, 0)) for part in names}) for name, parts in rows]
    label = "Memory by part, as estimated before the start. " + "; ".join(
        f"{run}: " + ", ".join(f"{part} {gigabytes(size)}" for part, size in parts.items()) for run, parts in ordered
    )
    legend = tuple((name, place % 6, "part") for place, name in enumerate(names))
    return Figure("Memory, as estimated before the start", parts_of(label, ordered, gigabytes), legend)
