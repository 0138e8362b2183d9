"""Shows the results of verbs to people: one function for each record of results.py."""

import json
from collections.abc import Sequence
from functools import singledispatch

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lorasum.results import (
    BatchPrediction,
    DeployResult,
    EvaluateResult,
    ExampleResult,
    InitResult,
    JudgeFigures,
    PlanResult,
    Prediction,
    PrepareResult,
    RenderedExample,
    ResourceStatus,
    RunResult,
    RunsResult,
    StatusResult,
    TeardownResult,
    TrainPlan,
    TrainResult,
    TrainStarted,
)
from lorasum.scoring.certainty import Interval
from lorasum.scoring.evaluation import Comparison
from lorasum.ui.pieces import bars, dollars, duration, facts, headline, length, loss, new_table

_LINES_SHOWN = 4  # of a dialogue
_FAILURES_SHOWN = 20  # rows; --json has them all


@singledispatch
def body(result: object) -> RenderableType:
    """What a person sees of a verb's result."""
    raise TypeError(f"nothing shows a {type(result).__name__}")


@body.register
def _(result: InitResult) -> RenderableType:
    seen = result.data
    rows = {
        "data": f"{seen.examples:,} dialogues with summaries in {', '.join(seen.files[:3])}, language {seen.language}",
        "columns": f"{seen.dialogue_column} → {seen.summary_column}",
        "left out": f"{sum(seen.unusable.values()):,} rows; {seen.first_unusable}" if seen.unusable else "",
        "longest": f"{seen.longest_dialogue:,} characters, and a summary of {seen.longest_summary:,}",
        "max_length": f"{result.max_length:,} tokens",
        "model": f"{result.model}, {result.backend}",
    }
    return Group(headline("wrote", result.config, f"run {result.run}"), facts(rows), *_next(result.next))


@body.register
def _(result: ExampleResult) -> RenderableType:
    files = Text("\n".join(f"  {file}" for file in result.files))
    return Group(headline("wrote", result.example, f"{len(result.files)} files"), files, *_next(result.next))


def _next(commands: Sequence[str]) -> list[Text]:
    return [Text("next", style="bold"), *(Text(f"  {command}") for command in commands)]


@body.register
def _(result: PrepareResult) -> RenderableType:
    manifest = result.manifest
    table = new_table("", *manifest.splits)
    for row, values in {
        "examples": [f"{split.examples:,}" for split in manifest.splits.values()],
        "packs": [f"{split.packs:,}" for split in manifest.splits.values()],
        "tokens": [f"{split.tokens:,}" for split in manifest.splits.values()],
        "summary tokens": [f"{split.completion_tokens:,}" for split in manifest.splits.values()],
        "longest example": [length(split.longest_example, split.longest_at) for split in manifest.splits.values()],
        "shortest example": [length(split.shortest_example, split.shortest_at) for split in manifest.splits.values()],
        "packs filled": [f"{split.fill:.0%}" for split in manifest.splits.values()],
    }.items():
        table.add_row(row, *values)
    rows = {
        "dataset": result.dataset,
        "tokenizer": manifest.tokenizer,
        "left out": ", ".join(f"{count} {reason}" for reason, count in manifest.dropped.items() if count),
    }
    rows |= {"rows left out are in": result.rejected or "", "report": result.report or ""}
    same = f"nothing has changed: same sources, template, tokenizer and settings as {manifest.fingerprint}"
    title = same if result.reused else duration(result.seconds)
    pictures = [
        Text.assemble((f"  {name:<6}", "bold"), bars(split.histogram), f" 0 to {split.longest_example:,} tokens")
        for name, split in manifest.splits.items()
        if split.histogram
    ]
    shown = [part for number, example in enumerate(result.shown, 1) for part in _example(number, example)]
    return Group(headline("prepared", result.run, title), table, *pictures, facts(rows), *shown)


def _example(number: int, example: RenderedExample) -> list[RenderableType]:
    """An example as the model sees it. The prompt is dimmed, and the trained completion is coloured."""
    head = Text(f"\nexample {number} · {example.tokens:,} tokens", style="bold")
    return [head, Text.assemble((example.prompt, "dim"), (example.completion, "green"))]


@body.register
def _(result: TrainResult) -> RenderableType:
    rows = {
        "job": result.job,
        "loss": f"{loss(result.train_loss)} training, {loss(result.eval_loss)} test",
        "weights": f"of step {result.kept_step:,}" if result.kept_step else "",
        "tokens": f"{result.tokens:,} at {result.tokens_per_second:,.0f} tokens/s",
        "artifact": result.artifact,
    }
    title = "already done" if result.reused else duration(result.seconds)
    return Group(headline("trained", result.run, title), facts(rows))


@body.register
def _(result: TrainPlan) -> RenderableType:
    rows = {
        "job": result.job,
        "entry point": result.entry_point,
        "model": result.model,
        "dataset": result.dataset,
        **{f"--{name}": value for name, value in result.hyperparameters.items()},
    }
    title = headline("would train", result.run, "nothing was started")
    if result.request is None:
        return Group(title, facts(rows))
    return Group(title, Text(json.dumps(result.request, indent=2)))


@body.register
def _(result: PlanResult) -> RenderableType:
    hour, serving = result.usd_per_hour, result.endpoint_usd_per_hour
    work = f"{result.packs:,} packs, {result.steps:,} steps, {result.tokens:,} tokens in all"
    measured = f"{duration(result.seconds or 0)} for the steps, at the speed of {result.seconds_from}"
    rows = {
        "job": result.job,
        "work": work if result.prepared else "unknown: run `lorasum prepare` first",
        "time": measured if result.seconds is not None else "unknown: no such job has been measured yet",
        "training": _job_price(result),
        "spot": "cheaper, at a price that is not listed" if hour else "",
        "endpoint": _endpoint_price(serving),
        "memory": "estimated by the job itself, before it loads the model",
    }
    lines = [
        Text.assemble(
            ("  ✓ ", "green") if check.ok else ("  ✗ ", "bold red"),
            f"{check.what}: {check.found}",
            f" → {check.fix}" if check.fix else "",
        )
        for check in result.checks
    ]
    return Group(headline("plan of", result.run, "nothing was started"), facts(rows), *lines)


def _job_price(result: PlanResult) -> str:
    """What the job costs: by the hour, as measured, and at most."""
    hour = result.usd_per_hour
    if hour == 0:
        return "free"
    if hour is None:
        return "unknown"
    parts = [f"{dollars(hour)} an hour"]
    if result.seconds is not None:
        parts.append(f"{dollars(hour * result.seconds / 3600)} for the steps")
    if result.longest_seconds is not None:
        most = dollars(hour * result.longest_seconds / 3600)
        parts.append(f"{most} at most, when it is stopped after {duration(result.longest_seconds)}")
    return ", ".join(parts)


def _endpoint_price(hour: float | None) -> str:
    """What one instance of an endpoint costs by the hour, the day and the month."""
    if not hour:
        return "unknown" if hour is None else "free"
    return f"{dollars(hour)} an hour, {dollars(hour * 24)} a day, {dollars(hour * 24 * 30)} in 30 days"


@body.register
def _(result: TrainStarted) -> RenderableType:
    rows = {"job": result.job, "address": result.location, "status": result.status}
    return Group(headline("training", result.run, "the same command follows it"), facts(rows))


@body.register
def _(result: DeployResult) -> RenderableType:
    rows = {"endpoint": result.endpoint, "address": result.location, "serves": result.artifact, "of job": result.job}
    itself = "it goes by itself" if result.ends_itself else "it does NOT go by itself: `lorasum teardown` deletes it"
    rows |= {"runs": f"{result.until}; {itself}"} if result.until else {}
    title = "already in service" if result.reused else duration(result.seconds)
    return Group(headline("deployed", result.run, title), facts(rows))


@body.register
def _(result: Prediction) -> RenderableType:
    table = Table(box=box.ROUNDED, show_lines=True, expand=True)
    table.add_column("dialogue", ratio=2)
    table.add_column("reference", ratio=1)
    table.add_column("summary", ratio=1, style="bold")
    table.add_row(Text(result.dialogue), Text(result.reference or ""), Text(result.summary))
    return table


@body.register
def _(result: BatchPrediction) -> RenderableType:
    rows = {"from": result.input, "to": result.output}
    rows |= {f"line {failure.line}": failure.reason for failure in result.failures[:_FAILURES_SHOWN]}
    answered = result.rows - len(result.failures)
    return Group(headline("summarised", f"{answered:,} dialogues", duration(result.seconds)), facts(rows))


@body.register
def _(result: EvaluateResult) -> RenderableType:
    return Group(*_scores(result), *_worst(result))


def _scores(result: EvaluateResult) -> list[RenderableType]:
    """The scores of all models, and the comparisons with the tuned model."""
    table = new_table("", "ROUGE-1", "ROUGE-2", "ROUGE-L", "chrF", "without findings")
    for name, scores in result.scores.items():
        figures = [_figure(one) for one in (scores.rouge1, scores.rouge2, scores.rougeL, scores.chrf)]
        table.add_row(name, *figures, f"{scores.faithful.mean:.0%}", style="bold" if name == "fine-tuned" else "")
    title = f"{result.examples} test dialogues in {result.language}, {duration(result.seconds)}"
    lines = [Text(f"  {_comparison(one, result.examples)}") for one in result.comparisons]
    rows = {"all summaries": result.summaries} | _judge(result.judge)
    return [headline("evaluated", result.run, title), table, *lines, facts(rows)]


def _figure(one: Interval) -> str:
    return f"{one.mean:.1f} ±{(one.high - one.low) / 2:.1f}"


def _comparison(comparison: Comparison, dialogues: int) -> str:
    """A line such as: ROUGE-L against base model: better by 21.0 (17.9 to 24.2), p < 0.001"""
    found = comparison.rougeL
    about = f"ROUGE-L against {comparison.other}: "
    if found.is_real:
        p_value = f"p = {found.p_value:.3f}" if found.p_value >= 0.001 else "p < 0.001"
        verdict = "better" if found.mean > 0 else "worse"
        low, high = sorted((abs(found.low), abs(found.high)))
        return f"{about}{verdict} by {abs(found.mean):.1f} ({low:.1f} to {high:.1f}), {p_value}"
    needed = found.dialogues_needed
    many = f"; about {needed:,} would show one of this size" if needed and needed > dialogues else ""
    return f"{about}no difference that {dialogues} dialogues can show{many}"


def _judge(judge: JudgeFigures | None) -> dict[str, str]:
    if judge is None:
        return {}
    marks = f"faithfulness {judge.faithfulness:.1f}, coverage {judge.coverage:.1f}, conciseness {judge.conciseness:.1f}"
    compared = judge.better_than_base + judge.worse_than_base + judge.as_good_as_base
    against = f"; better than the base model in {judge.better_than_base} of {compared}" if compared else ""
    against += f", worse in {judge.worse_than_base}" if compared else ""
    cost = f", {dollars(judge.usd)}" if judge.usd else ""
    return {"judge": f"{marks} of 5 over {judge.judged} summaries by {judge.model}{against}{cost}"}


def _worst(result: EvaluateResult) -> list[RenderableType]:
    """The worst summaries, each with what is wrong with it."""
    table = Table(box=box.ROUNDED, show_lines=True, expand=True, title="look at these first", title_style="dim")
    table.add_column("dialogue", ratio=2)
    table.add_column("reference", ratio=2)
    table.add_column("summary", ratio=2, style="bold")
    table.add_column("ROUGE-L, and what the dialogue does not say", ratio=2)
    for one in result.worst:
        first = "\n".join(one.dialogue.splitlines()[:_LINES_SHOWN])
        more = "\n…" if first != one.dialogue else ""
        reasons = [f"{one.scores.rougeL:.1f}", *(f"{finding.kind} {finding.text}" for finding in one.findings)]
        table.add_row(Text(first + more), Text(one.references[0]), Text(one.summary), Text("\n".join(reasons)))
    return [table] if result.worst else []


@body.register
def _(result: TeardownResult) -> RenderableType:
    lines = [Text.assemble(("  removed ", "green"), line) for line in result.removed]
    lines += [Text.assemble(("  still there ", "bold red"), line) for line in result.remaining]
    title = "something is left" if result.remaining else "nothing is running" if lines else "nothing was running"
    return Group(headline("torn down", result.run, title), *lines)


@body.register
def _(result: StatusResult) -> RenderableType:
    if not result.resources:
        return Text("nothing was created yet")
    costs = any(resource.usd_per_hour != 0 for resource in result.resources)
    ends = any(resource.is_open and resource.detail.get("expires_at") for resource in result.resources)
    more = [*(["ends (UTC)"] if ends else []), *(["$/h", "cost"] if costs else [])]
    table = new_table("run", "what", "name", "state", "backend", "since (UTC)", *more)
    for resource in result.resources:
        end = [_end(resource)] if ends else []
        table.add_row(*_status_row(resource), *end, *(_costs(resource) if costs else ()))
    return table


def _end(resource: ResourceStatus) -> Text:
    """When an endpoint's time is over; red where it is and the endpoint is still there."""
    end = resource.detail.get("expires_at")
    if not resource.is_open or not end:
        return Text()
    return Text(_minute(str(end)), style="bold red" if resource.alarm else "")


def _costs(resource: ResourceStatus) -> tuple[str, str]:
    """The price an hour and the cost so far of a running or warm resource; only the cost of an ended one."""
    if not resource.is_open:
        return "", dollars(resource.usd)
    return dollars(resource.usd_per_hour), f"{dollars(resource.usd)} so far"


def _status_row(resource: ResourceStatus) -> list[RenderableType]:
    styles = {"live": "bold green", "failed": "red", "intended": "yellow", "unreadable": "bold red"}
    state = Text(resource.state, style="bold red" if resource.alarm else styles.get(resource.state, "dim"))
    if resource.state in ("unreadable", "gone") and resource.reason:
        state.append(f": {resource.reason}")
    if resource.kept_warm:
        state.append(", kept warm", style="bold green")
    since = _minute(resource.updated_at)
    return [resource.run, resource.kind.replace("_", " "), resource.name, state, resource.backend, since]


def _minute(time: str) -> str:
    """An ISO 8601 time in UTC as month-day hour:minute."""
    return time[5:16].replace("T", " ")


@body.register
def _(result: RunsResult) -> RenderableType:
    if not result.runs:
        return Text("nothing was created yet")
    table = new_table("run", "changed (UTC)", "state", "disk", "cost", "ROUGE-L")
    for one in result.runs:
        state = Text("live", style="bold green") if one.live else Text("ended", style="dim")
        score = "–" if one.rouge_l is None else f"{one.rouge_l:.1f}"
        changed = one.changed_at[:16].replace("T", " ")
        table.add_row(one.run, changed, state, f"{one.bytes / 1e9:,.2f} GB", dollars(one.usd), score)
    return table


@body.register
def _(result: RunResult) -> RenderableType:
    parts: list[RenderableType] = []
    for part in (result.prepare, result.train, result.deploy):
        parts += [body(part), ""]
    parts += [*_scores(result.evaluate), "", body(result.sample), ""]
    parts += [body(result.teardown), ""] if result.teardown is not None else []
    left = "the endpoint is still up" if result.teardown is None else ""
    return Group(
        *parts, headline("done", result.prepare.run, ", ".join(filter(None, [duration(result.seconds), left])))
    )
