"""What people see. Results go to stdout, everything else to stderr; nothing prints but this module and reporter.py."""

import json
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import singledispatch
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from lorasum.errors import ConfigError, LorasumError
from lorasum.results import (
    BatchPrediction,
    DeployResult,
    EvaluateResult,
    JudgeFigures,
    Prediction,
    PrepareResult,
    RenderedExample,
    ResourceStatus,
    RunResult,
    StatusResult,
    TeardownResult,
    TrainPlan,
    TrainResult,
    TrainStarted,
)
from lorasum.scoring.certainty import Interval
from lorasum.scoring.evaluation import Comparison
from lorasum.ui.terminal import console, one_line, visible

_BARS = " ▁▂▃▄▅▆▇█"
_LINES_SHOWN = 4  # of a dialogue
_FAILURES_SHOWN = 20  # rows; --json has them all


def show(result: object, as_json: bool = False) -> None:
    """Print what a command returned: for people, or as JSON that stays ASCII and free of colour whatever the terminal.

    A lone summary is printed as it is, so that it can be piped on.
    """
    if as_json:
        text(json.dumps(_plain(result), indent=2, allow_nan=False))
    elif isinstance(result, Prediction) and result.reference is None:
        text(result.summary)
    elif isinstance(result, Mapping):
        import yaml

        text(yaml.safe_dump(dict(result), sort_keys=False, allow_unicode=True).rstrip())
    else:
        console().print(_body(result))


def text(line: str) -> None:
    """Print a result that is text already: to the letter where a program reads it, made visible on a terminal."""
    print(visible(line) if sys.stdout.isatty() else line)


def say(line: str) -> None:
    """Print one line on stderr."""
    console(stderr=True).print(Text(one_line(line)), soft_wrap=True)


def error(problem: LorasumError, verbose: bool = False) -> None:
    """Say what went wrong, one line for each wrong field of a config, and what to do about it."""
    lines = problem.problems if isinstance(problem, ConfigError) and len(problem.problems) > 1 else ()
    _say_error(problem.message, problem.hint, lines, verbose)


def unexpected(problem: Exception, verbose: bool) -> None:
    """Say that lorasum itself is wrong, with the traceback if `verbose`."""
    reason = " ".join(str(problem).split()) or "no message"
    hint = "this is a bug: report it with the traceback above" if verbose else "run it again with -v, and report it"
    _say_error(f"unexpected {type(problem).__name__}: {reason}", hint, (), verbose)


def _say_error(message: str, hint: str, lines: tuple[str, ...], verbose: bool) -> None:
    out = console(stderr=True)
    if verbose:
        out.print(Text(traceback.format_exc()), soft_wrap=True)
    out.print(Text.assemble(("error: ", "bold red"), one_line(message)), soft_wrap=True)
    for line in lines:
        out.print(Text(f"  {one_line(line)}"), soft_wrap=True)
    if hint:
        out.print(Text.assemble(("hint: ", "bold"), one_line(hint)), soft_wrap=True)


def confirm(question: str, lines: list[str]) -> bool:
    """Ask on the terminal, on stderr, showing `lines` first; no is the default."""
    out = console(stderr=True)
    for line in lines:
        out.print(Text(f"  {one_line(line)}"), soft_wrap=True)
    return Confirm.ask(question, console=out, default=False)


@singledispatch
def _body(result: object) -> RenderableType:
    raise TypeError(f"nothing shows a {type(result).__name__}")


@_body.register
def _(result: PrepareResult) -> RenderableType:
    manifest = result.manifest
    table = _table("", *manifest.splits)
    for row, values in {
        "examples": [f"{split.examples:,}" for split in manifest.splits.values()],
        "packs": [f"{split.packs:,}" for split in manifest.splits.values()],
        "tokens": [f"{split.tokens:,}" for split in manifest.splits.values()],
        "summary tokens": [f"{split.completion_tokens:,}" for split in manifest.splits.values()],
        "longest example": [_length(split.longest_example, split.longest_at) for split in manifest.splits.values()],
        "shortest example": [_length(split.shortest_example, split.shortest_at) for split in manifest.splits.values()],
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
        Text.assemble((f"  {name:<6}", "bold"), _bars(split.histogram), f" 0 to {split.longest_example:,} tokens")
        for name, split in manifest.splits.items()
        if split.histogram
    ]
    shown = [part for number, example in enumerate(result.shown, 1) for part in _example(number, example)]
    return Group(_title("prepared", result.run, title), table, *pictures, facts(rows), *shown)


def _length(tokens: int, where: str) -> str:
    return f"{tokens:,} ({where})" if where else f"{tokens:,}"


def _bars(counts: Sequence[int]) -> str:
    """A histogram in one line of text."""
    most = max(counts)
    return "".join(_BARS[0] if not count else _BARS[1 + (count * (len(_BARS) - 2)) // most] for count in counts)


def _example(number: int, example: RenderedExample) -> list[RenderableType]:
    """An example as the model sees it: the prompt dimmed, what it learns in colour."""
    head = Text(f"\nexample {number} · {example.tokens:,} tokens", style="bold")
    return [head, Text.assemble((example.prompt, "dim"), (example.completion, "green"))]


@_body.register
def _(result: TrainResult) -> RenderableType:
    rows = {
        "job": result.job,
        "loss": f"{loss(result.train_loss)} training, {loss(result.eval_loss)} test",
        "tokens": f"{result.tokens:,} at {result.tokens_per_second:,.0f} tokens/s",
        "artifact": result.artifact,
    }
    title = "already done" if result.reused else duration(result.seconds)
    return Group(_title("trained", result.run, title), facts(rows))


@_body.register
def _(result: TrainPlan) -> RenderableType:
    rows = {
        "job": result.job,
        "entry point": result.entry_point,
        "model": result.model,
        "dataset": result.dataset,
        **{f"--{name}": value for name, value in result.hyperparameters.items()},
    }
    title = _title("would train", result.run, "nothing was started")
    if result.request is None:
        return Group(title, facts(rows))
    return Group(title, Text(json.dumps(result.request, indent=2)))


@_body.register
def _(result: TrainStarted) -> RenderableType:
    rows = {"job": result.job, "address": result.location, "status": result.status}
    return Group(_title("training", result.run, "the same command follows it"), facts(rows))


@_body.register
def _(result: DeployResult) -> RenderableType:
    rows = {"endpoint": result.endpoint, "address": result.location, "serves": result.artifact, "of job": result.job}
    title = "already in service" if result.reused else duration(result.seconds)
    return Group(_title("deployed", result.run, title), facts(rows))


@_body.register
def _(result: Prediction) -> RenderableType:
    table = Table(box=box.ROUNDED, show_lines=True, expand=True)
    table.add_column("dialogue", ratio=2)
    table.add_column("reference", ratio=1)
    table.add_column("summary", ratio=1, style="bold")
    table.add_row(Text(result.dialogue), Text(result.reference or ""), Text(result.summary))
    return table


@_body.register
def _(result: BatchPrediction) -> RenderableType:
    rows = {"from": result.input, "to": result.output}
    rows |= {f"line {failure.line}": failure.reason for failure in result.failures[:_FAILURES_SHOWN]}
    answered = result.rows - len(result.failures)
    return Group(_title("summarised", f"{answered:,} dialogues", duration(result.seconds)), facts(rows))


@_body.register
def _(result: EvaluateResult) -> RenderableType:
    return Group(*_scores(result), *_worst(result))


def _scores(result: EvaluateResult) -> list[RenderableType]:
    """The figures of everything that was scored, and how the tuned model compares."""
    table = _table("", "ROUGE-1", "ROUGE-2", "ROUGE-L", "chrF", "without findings")
    for name, scores in result.scores.items():
        figures = [_figure(one) for one in (scores.rouge1, scores.rouge2, scores.rougeL, scores.chrf)]
        table.add_row(name, *figures, f"{scores.faithful.mean:.0%}", style="bold" if name == "fine-tuned" else "")
    title = f"{result.examples} test dialogues in {result.language}, {duration(result.seconds)}"
    lines = [Text(f"  {_comparison(one, result.examples)}") for one in result.comparisons]
    rows = {"all summaries": result.summaries} | _judge(result.judge)
    return [_title("evaluated", result.run, title), table, *lines, facts(rows)]


def _figure(one: Interval) -> str:
    return f"{one.mean:.1f} ±{(one.high - one.low) / 2:.1f}"


def _comparison(comparison: Comparison, dialogues: int) -> str:
    """Such as: ROUGE-L against base model: better by 21.0 (17.9 to 24.2), p < 0.001"""
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
    """The summaries to look at first, with the reason."""
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


@_body.register
def _(result: TeardownResult) -> RenderableType:
    lines = [Text.assemble(("  removed ", "green"), line) for line in result.removed]
    lines += [Text.assemble(("  still there ", "bold red"), line) for line in result.remaining]
    title = "something is left" if result.remaining else "nothing is running" if lines else "nothing was running"
    return Group(_title("torn down", result.run, title), *lines)


@_body.register
def _(result: StatusResult) -> RenderableType:
    if not result.resources:
        return Text("nothing was created yet")
    costs = any(resource.usd_per_hour != 0 for resource in result.resources)
    table = _table("run", "what", "name", "state", "backend", "since (UTC)", *(["$/h", "cost"] if costs else []))
    for resource in result.resources:
        table.add_row(*_status_row(resource), *(_costs(resource) if costs else ()))
    return table


def _costs(resource: ResourceStatus) -> tuple[str, str]:
    """What it costs an hour and so far, while it runs or is kept; what it cost, afterwards."""
    if not resource.is_open:
        return "", dollars(resource.usd)
    return dollars(resource.usd_per_hour), f"{dollars(resource.usd)} so far"


def _status_row(resource: ResourceStatus) -> list[RenderableType]:
    styles = {"live": "bold green", "failed": "red", "intended": "yellow", "unreadable": "bold red"}
    state = Text(resource.state, style=styles.get(resource.state, "dim"))
    if resource.state == "unreadable":
        state.append(f": {resource.reason}")
    if resource.kept_warm:
        state.append(", kept warm", style="bold green")
    since = resource.updated_at[5:16].replace("T", " ")  # month-day hour:minute
    return [resource.run, resource.kind.replace("_", " "), resource.name, state, resource.backend, since]


@_body.register
def _(result: RunResult) -> RenderableType:
    parts: list[RenderableType] = []
    for part in (result.prepare, result.train, result.deploy):
        parts += [_body(part), ""]
    parts += [*_scores(result.evaluate), "", _body(result.sample), ""]
    parts += [_body(result.teardown), ""] if result.teardown is not None else []
    left = "the endpoint is still up" if result.teardown is None else ""
    return Group(*parts, _title("done", result.prepare.run, ", ".join(filter(None, [duration(result.seconds), left]))))


def _title(verb: str, what: str, detail: str) -> Text:
    return Text.assemble((f"{verb} {what}", "bold"), (f" · {detail}", "dim"))


def _table(first: str, *columns: str) -> Table:
    """A table of right-aligned numbers after a first column, or of text where the first column has a name."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="left" if first else "right", overflow="fold")
    return table


def facts(rows: Mapping[str, str]) -> Table:
    """Names and values in two columns, without the empty ones."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            grid.add_row(f"  {name}", Text(value))
    return grid


def loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def dollars(amount: float | None) -> str:
    if amount is None:
        return "unknown"
    return "<$0.01" if 0 < amount < 0.005 else f"${amount:,.2f}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _plain(value: Any) -> Any:
    """`value` as JSON has it: records and mappings as objects, a number that is not one as null."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
