"""ConsoleReporter: shows the progress of commands on stderr."""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lorasum.formatting import dollars, duration, loss
from lorasum.shared.events import (
    BaseEvent,
    DoneEvent,
    EvalEvent,
    Event,
    LogEvent,
    MergedEvent,
    ProgressEvent,
    SavedEvent,
    StartEvent,
    StatusEvent,
    StepEvent,
    UnknownEvent,
    WarningEvent,
    read_event,
)
from lorasum.ui.pieces import Facts, memory
from lorasum.ui.terminal import console, one_line

_LOG_WIDTH = 100  # characters
_SECONDS_BETWEEN_LINES = 2.0  # of progress, if the output is not a terminal
_SECONDS_WITHOUT_NEWS = 60.0  # until a line comes though it is less than a part further: CI ends a job that is silent
_PART_BETWEEN_LINES = 0.01  # of the whole: a log of hours has a line a minute, not thirty


class _TimeLeft(TimeRemainingColumn):
    """The time left: the job's own estimate, or without one an estimate from the bar's speed.

    A job that is resumed or found running first sends all steps that it has made before. The bar would take them for
    its speed.
    """

    def render(self, task: Task) -> Text:
        left = task.fields.get("left")
        return super().render(task) if left is None else Text(f"{duration(left)} left", style="progress.remaining")


class ConsoleReporter:
    """A reporting.Reporter on stderr. A terminal shows live bars, and other outputs get a line for each per cent
    or minute.

    It is a context manager, so that the terminal is tidied up however a command ends. With `quiet` it shows only
    warnings. With `verbose` it shows all lines of a job's log, and otherwise only the newest, below the bar.

    Args:
        complete: puts whole commands into a message that names their verbs.
    """

    def __init__(
        self,
        quiet: bool = False,
        verbose: bool = False,
        to: Console | None = None,
        complete: Callable[[str], str] = str,
    ) -> None:
        self._complete = complete
        self._quiet = quiet
        self._verbose = verbose
        self._console = to or console(stderr=True)
        # rich takes FORCE_COLOR for a terminal, and draws no bars on a dumb one
        self._live = self._console.is_terminal and self._console.file.isatty() and not self._console.is_dumb_terminal
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[float, float]] = {}  # of each label's last plain line: monotonic seconds, the part

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_bars()

    def step(self, text: str) -> None:
        if not self._quiet:
            self._console.print(Text.assemble(("· ", "dim"), one_line(self._complete(text))), soft_wrap=True)

    def warn(self, text: str) -> None:
        said = one_line(self._complete(text))
        self._console.print(Text.assemble(("warning: ", "bold yellow"), said), soft_wrap=True)

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
        if self._quiet:
            return
        if self._live:
            self._move_bar(label, done, total, detail)
        else:
            self._say_progress(label, done, total, f"{label}: {done / total if total else 1:.0%}", detail)

    def event(self, event: Event) -> None:
        if self._quiet:
            return
        match event:
            case StartEvent():
                self._stop_bars()  # of the log, which gives way to the steps
                self._console.print(_training_plan(event), soft_wrap=True)
            case StepEvent(step=step, steps=steps, eta_seconds=left):
                if self._live:
                    self._move_bar("training", step, steps, _sentence(event), left)
                else:
                    detail = "" if left is None else f"{duration(left)} left"
                    self._say_progress("training", step, steps, _sentence(event), detail)
            case LogEvent(line=line) if self._verbose:
                self._console.print(Text(one_line(line), style="dim"), soft_wrap=True)
            case LogEvent(line=line):
                if self._live:
                    self._show_log_line(line)
            case ProgressEvent(what=what):
                self.progress(what, event.done, event.total, event.detail)
            case EvalEvent():
                self._end_bar("test loss")
                self.step(_sentence(event))
            case WarningEvent(text=text):
                self.warn(text)
            case DoneEvent():
                self._stop_bars()
                self.step(_sentence(event))
            case other:
                self.step(_sentence(other))

    def _show_log_line(self, line: str) -> None:
        """Show a line that the container writes before it trains, such as what it downloads."""
        if "training" in self._tasks:
            return
        bars = self._started_bars()
        if "log" not in self._tasks:
            self._tasks["log"] = bars.add_task("log", total=None, detail="")
        bars.update(self._tasks["log"], detail=one_line(line[:_LOG_WIDTH]))

    def _move_bar(self, label: str, done: float, total: float, detail: str, left: float | None = None) -> None:
        bars = self._started_bars()
        if label not in self._tasks:
            self._tasks[label] = bars.add_task(label, detail=detail, left=left)
        bars.update(self._tasks[label], completed=done, total=total, detail=detail, left=left)
        if done >= total:
            bars.remove_task(self._tasks.pop(label))
            if not self._tasks:
                self._stop_bars()

    def _end_bar(self, label: str) -> None:
        if self._bars is not None and label in self._tasks:
            self._bars.remove_task(self._tasks.pop(label))

    def _started_bars(self) -> Progress:
        if self._bars is None:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TaskProgressColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                _TimeLeft(),
                console=self._console,
                transient=True,
            )
            self._bars.start()
        return self._bars

    def _stop_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    def _say_progress(self, label: str, done: float, total: float, head: str, detail: str) -> None:
        now, part = time.monotonic(), done / total if total else 1.0
        when, before = self._said.get(label, (-math.inf, -math.inf))
        is_further = abs(part - before) >= _PART_BETWEEN_LINES
        if done < total and now - when < (_SECONDS_BETWEEN_LINES if is_further else _SECONDS_WITHOUT_NEWS):
            return
        self._said[label] = now, part
        if done >= total:
            del self._said[label]
        self.step(f"{head} · {detail}" if detail else head)


def readable(line: str) -> str:
    """A line of a job's log, with an event as a sentence in place of its JSON."""
    event = read_event(line)
    return line if event is None else _sentence(event)


def _sentence(event: Event) -> str:
    """One line about an event."""
    match event:
        case StepEvent(step=step, steps=steps):
            return f"step {step}/{steps} · loss {loss(event.loss)} · {event.tokens_per_second:,.0f} tokens/s"
        case StartEvent():
            return f"training on {event.device}: {event.steps:,} steps, each of {event.tokens_per_step:,} tokens"
        case ProgressEvent():
            return f"{event.what}: {event.done} of {event.total} {event.detail}".rstrip()
        case WarningEvent(text=text):
            return f"warning: {text}"
        case LogEvent(line=line):
            return line
        case EvalEvent():
            said = f"step {event.step}: loss on the test split {loss(event.eval_loss)}"
            if event.score is None:
                return said
            return f"{said}, {event.scored_by} {event.score:.1f}, generating took {duration(event.generation_seconds)}"
        case SavedEvent():
            return f"saved the {event.path}"
        case MergedEvent():
            return f"merged the adapter into the model: {event.bytes / 1e6:,.0f} MB in {duration(event.seconds)}"
        case BaseEvent(summaries=summaries, dialogues=dialogues):
            why = f" ({event.why_not_all})" if event.why_not_all else ""
            took = duration(event.seconds)
            return f"the base model summarised {summaries:,} of {dialogues:,} test dialogues in {took}{why}"
        case DoneEvent():
            return f"trained on {event.tokens:,} tokens in {duration(event.seconds)}"
        case StatusEvent():
            cost = f", {dollars(event.usd)}" if event.usd else ""
            return f"{event.status}: {duration(event.billable_seconds)} billed{cost}"
        case UnknownEvent():
            return " ".join([event.kind, *(f"{key}={value}" for key, value in event.values.items())])


def _training_plan(plan: StartEvent) -> RenderableType:
    """The plan of the training, as a small block. The script sends it before its first step."""
    trained = plan.trainable_parameters
    share = f", {_count(trained)} of them trained ({trained / plan.parameters:.2%})" if plan.parameters else ""
    processes = f", in each of {plan.processes} processes" if plan.processes > 1 else ""
    reason = f": {plan.dtype_reason}" if plan.dtype_reason else ""
    rows = {
        "device": f"{plan.device}{processes}, {plan.compute_dtype}{reason}",
        "parameters": f"{_count(plan.parameters)}{share}",
        "base": "; ".join(filter(None, [_base(plan), _shared(plan)])),
        "adapter on": ", ".join(plan.lora_targets),
        "data": f"{plan.packs:,} packs, {plan.tokens:,} tokens, loss on {plan.loss_on}",
        "steps": f"{plan.steps:,}, each of {plan.tokens_per_step:,} tokens",
        "epochs": f"{plan.epochs:.3g}",
        "examples": _examples(plan),
        "memory": memory(plan) if plan.memory_bytes else "",
        "resumed": f"from step {plan.resumed_from_step}" if plan.resumed_from_step else "",
    }
    return Group(Text("training plan", style="bold"), Facts(rows))


def _base(plan: StartEvent) -> str:
    """The types of the base model's layers, as counted after loading."""
    if plan.quantization in ("", "none") or not plan.quantized_layers + plan.whole_layers:
        return ""
    return f"{plan.quantized_layers} linear layers in {plan.quantization}, {plan.whole_layers} in {plan.compute_dtype}"


def _shared(plan: StartEvent) -> str:
    """Where the base model is, if processes do not hold all of it on their devices."""
    if not plan.shared_bytes:
        return ""
    return f"shared by {plan.processes} processes" if plan.processes > 1 else "in main memory, fetched for each product"


def _examples(plan: StartEvent) -> str:
    """Why this model trains more slowly than others; empty if it does not."""
    if plan.one_example_at_a_time:
        return f"this architecture is trained one example at a time: {plan.not_the_fastest_because}"
    if plan.not_the_fastest_because:
        return f"this architecture keeps the attention of transformers: {plan.not_the_fastest_because}"
    return ""


def _count(number: float) -> str:
    """134,515,008 as 134.5 M; small counts in full."""
    for unit, name in ((1e9, "billion"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number:,.0f}"
