"""Shows the results of the verbs of an endpoint: deploy, predict, evaluate, teardown; and of run."""

from collections.abc import Mapping
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lorasum.formatting import clock, counted, dollars, duration
from lorasum.results.serving import (
    BatchPrediction,
    DeployPlan,
    DeployResult,
    EvaluateResult,
    JudgeFigures,
    Prediction,
    RunResult,
    TeardownResult,
)
from lorasum.scoring.bootstrap import Interval
from lorasum.scoring.evaluation import TUNED, Comparison, Scores
from lorasum.system import paths
from lorasum.ui.body import body
from lorasum.ui.pieces import Facts, Marked, Rows, as_json, from_here, headline

_WORST_SHOWN = 3  # summaries; their file has all
_LINES_SHOWN, _CHARACTERS_SHOWN = 4, 200  # of a dialogue
_FAILURES_SHOWN = 20  # rows; --json has them all


@body.register
def _(result: DeployResult) -> RenderableType:
    itself = "it ends by itself" if result.ends_itself else "it does NOT end by itself: `lorasum teardown` deletes it"
    rows = {
        "endpoint": result.endpoint,
        "address": result.location,
        "serves": result.artifact,
        "of job": result.job,
        "adapters": ", ".join(result.adapters),
        "runs": f"{_until(result.expires_at, result.max_usd)}; {itself}" if result.expires_at else "",
    }
    title = "already in service" if result.reused else duration(result.seconds)
    return Group(headline("deployed", result.run, title), Facts(rows))


def _until(end: datetime, max_usd: float | None) -> str:
    """`until 18:40 CET, at most $8.12`."""
    return f"until {clock(end, datetime.now(UTC))}{f', at most {dollars(max_usd)}' if max_usd else ''}"


@body.register
def _(result: DeployPlan) -> RenderableType:
    return as_json(result.requests)


@body.register
def _(result: Prediction) -> RenderableType:
    table = Table(box=box.ROUNDED, show_lines=True, expand=True)
    table.add_column("dialogue", ratio=2, overflow="fold")
    table.add_column("reference", ratio=1, overflow="fold")
    table.add_column("summary", ratio=1, overflow="fold", style="bold")
    table.add_row(Text(result.dialogue), Text(result.reference or ""), Text(result.summary))
    return table


@body.register
def _(result: BatchPrediction) -> RenderableType:
    rows = {"from": from_here(result.input), "to": from_here(result.output)}
    rows |= {f"line {failure.line}": failure.reason for failure in result.failures[:_FAILURES_SHOWN]}
    answered = result.rows - len(result.failures)
    return Group(headline("summarised", counted(answered, "dialogue"), duration(result.seconds)), Facts(rows))


@body.register
def _(result: EvaluateResult) -> RenderableType:
    return Group(*_worst(result), *_scores(result))  # the scores last: they are on the screen at the end


def _scores(result: EvaluateResult) -> list[RenderableType]:
    """The scores of all models, and the comparisons with the tuned model."""
    table = Rows("", "ROUGE-1", "ROUGE-2", "ROUGE-L", "chrF", "supported")
    for name, scores in result.scores.items():
        figures = [_figure(one, result.examples) for one in (scores.rouge1, scores.rouge2, scores.rougeL, scores.chrf)]
        table.add(name, *figures, f"{scores.faithful.mean:.0%}", style="bold" if name == TUNED else "")
    title = f"{counted(result.examples, 'test dialogue')} in {result.language}, {duration(result.seconds)}"
    lines = [Marked(Text("  "), _comparison(one, result.examples)) for one in result.comparisons]
    rows = {"entailed": _entailed(result.scores), "all summaries": result.summaries, "judge": _judge(result.judge)}
    return [headline("evaluated", result.run, title), table, *lines, Facts(rows)]


def _entailed(scores: Mapping[str, Scores]) -> str:
    """How probably the dialogues entail the summaries of each model: `fine-tuned 0.81 (0.77 to 0.85)`; mostly empty."""
    asked = {name: one.consistency for name, one in scores.items() if one.consistency is not None}
    return ", ".join(f"{name} {one.mean:.2f} ({one.low:.2f} to {one.high:.2f})" for name, one in asked.items())


def _figure(one: Interval, dialogues: int) -> str:
    """One dialogue says nothing about how sure a mean is."""
    return f"{one.mean:.1f} ±{(one.high - one.low) / 2:.1f}" if dialogues > 1 else f"{one.mean:.1f}"


def _comparison(comparison: Comparison, dialogues: int) -> str:
    """A line such as: ROUGE-L against base model: better by 21.0 (17.9 to 24.2), p < 0.001"""
    difference = comparison.rougeL
    about = f"ROUGE-L against {comparison.other}: "
    if difference.is_real:
        return f"{about}{difference}"
    needed = difference.dialogues_needed
    many = f"; about {needed:,} would show one of this size" if needed and needed > dialogues else ""
    return f"{about}no difference that {counted(dialogues, 'dialogue')} can show{many}"


def _judge(judge: JudgeFigures | None) -> str:
    if judge is None:
        return ""
    if not judge.judged:
        return f"{judge.model} has judged nothing"
    marks = f"faithfulness {judge.faithfulness:.1f}, coverage {judge.coverage:.1f}, conciseness {judge.conciseness:.1f}"
    compared = judge.better_than_base + judge.worse_than_base + judge.as_good_as_base
    better, worse = judge.better_than_base, judge.worse_than_base
    against = f"; better than the base model in {better} of {compared}, worse in {worse}" if compared else ""
    cost = f", {dollars(judge.usd)}" if judge.usd else ""
    return f"{marks} of 5 over {judge.judged} summaries by {judge.model}{against}{cost}"


def _worst(result: EvaluateResult) -> list[RenderableType]:
    """The worst summaries, each with what is wrong with it."""
    table = Table(box=box.ROUNDED, show_lines=True, expand=True, title="the worst summaries", title_style="dim")
    table.add_column("dialogue", ratio=2, overflow="fold")
    table.add_column("reference", ratio=2, overflow="fold")
    table.add_column("summary", ratio=2, overflow="fold", style="bold")
    table.add_column("ROUGE-L, and unsupported facts", ratio=2, overflow="fold")
    for one in result.worst[:_WORST_SHOWN]:
        first = "\n".join(one.dialogue.splitlines()[:_LINES_SHOWN])[:_CHARACTERS_SHOWN]
        more = "\n…" if first != one.dialogue else ""
        reasons = [f"{one.scores.rougeL:.1f}", *(f"{finding.kind} {finding.text}" for finding in one.findings)]
        table.add_row(Text(first + more), Text(one.references[0]), Text(one.summary), Text("\n".join(reasons)))
    return [table] if result.worst else []


@body.register
def _(result: TeardownResult) -> RenderableType:
    lines = [Text.assemble(("  removed ", "green"), str(one)) for one in result.removed]
    lines += [Text.assemble(("  deleted ", "green"), place) for place in result.deleted]
    lines += [Text.assemble(("  still there ", "bold red"), str(one)) for one in result.remaining]
    if result.run is None and not lines:
        return Text(f"nothing was running that is on record in {paths.home()}")
    title = "something is left" if result.remaining else "nothing is running" if lines else "nothing was running"
    return Group(headline("torn down", result.run or "all runs", title), *lines)


@body.register
def _(result: RunResult) -> RenderableType:
    parts: list[RenderableType] = []
    for part in (result.prepare, result.train, result.deploy):
        parts += [body(part), ""]
    parts += [*_scores(result.evaluate), "", body(result.predict), ""]
    parts += [body(result.teardown), ""] if result.teardown is not None else []
    left = "the endpoint is up until `lorasum teardown`" if result.teardown is None else ""
    return Group(*parts, headline("done", result.run, ", ".join(filter(None, [duration(result.seconds), left]))))
