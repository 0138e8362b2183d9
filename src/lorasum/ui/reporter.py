"""What commands say while they work, on stderr: models.Reporter for people."""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from lorasum.backends.records import TrainEvent
from lorasum.ui.render import console, dollars, duration, facts, loss

_LOG_WIDTH = 100  # characters
_SECONDS_BETWEEN_LINES = 2.0  # of progress, where there is no terminal to redraw


class ConsoleReporter:
    """models.Reporter on stderr: live bars on a terminal, a line every two seconds at most elsewhere.

    A context manager, so that the terminal is left tidy however a command ends. `quiet` leaves warnings only, and
    `verbose` shows the lines of a job's log, which otherwise stand under the bar, the newest only.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False, to: Console | None = None) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._console = to or console(stderr=True)
        self._live = self._console.is_terminal and self._console.file.isatty()  # FORCE_COLOR makes no terminal
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}  # when each label had its last plain line, monotonic seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_bars()

    def step(self, text: str) -> None:
        if not self._quiet:
            self._console.print(Text.assemble(("· ", "dim"), text), soft_wrap=True)

    def warn(self, text: str) -> None:
        self._console.print(Text.assemble(("warning: ", "bold yellow"), text), soft_wrap=True)

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
        if self._quiet:
            return
        if self._live:
            self._move_bar(label, done, total, detail)
        else:
            self._say_progress(label, done, total, f"{label}: {done / total if total else 1:.0%}", detail)

    def event(self, event: TrainEvent) -> None:
        if self._quiet:
            return
        value = event.values.get
        match event.kind:
            case "start":
                self._stop_bars()  # the log's: from here on there are steps
                self._console.print(_training_plan(event.values), soft_wrap=True)
            case "step":
                done, total = int(value("step", 0)), int(value("steps", 0))
                detail = f"loss {loss(value('loss'))} · {value('tokens_per_second', 0):,.0f} tokens/s"
                if self._live:
                    self._move_bar("training", done, total, detail)
                else:
                    detail += f" · {duration(value('eta_seconds', 0))} left"
                    self._say_progress("training", done, total, f"step {done}/{total}", detail)
            case "status":
                cost = f", {dollars(value('usd'))}" if value("usd") else ""
                self.step(f"{value('status')}: {duration(value('billable_seconds', 0))} billed{cost}")
            case "log" if self._verbose:
                self._console.print(Text(str(value("line")), style="dim"), soft_wrap=True)
            case "log":
                if self._live:
                    self._show_log_line(str(value("line")))
            case "eval":
                self.step(f"step {value('step')}: loss on the test split {loss(value('eval_loss'))}")
            case "saved":
                self.step(f"saved the {value('path')}")
            case "merged":
                size = f"{value('bytes', 0) / 1e6:,.0f} MB"
                self.step(f"merged the adapter into the model: {size} in {duration(value('seconds', 0))}")
            case "done":
                self._stop_bars()
                self.step(f"trained on {value('tokens', 0):,} tokens in {duration(value('seconds', 0))}")
            case other:
                self.step(" ".join([other, *(f"{key}={value}" for key, value in event.values.items())]))

    def _show_log_line(self, line: str) -> None:
        """What the container says before it trains: downloading, installing, loading."""
        if "training" in self._tasks:
            return
        bars = self._started_bars()
        if "log" not in self._tasks:
            self._tasks["log"] = bars.add_task("log", total=None, detail="")
        bars.update(self._tasks["log"], detail=line[:_LOG_WIDTH])

    def _move_bar(self, label: str, done: float, total: float, detail: str) -> None:
        bars = self._started_bars()
        if label not in self._tasks:
            self._tasks[label] = bars.add_task(label, detail=detail)
        bars.update(self._tasks[label], completed=done, total=total, detail=detail)
        if done >= total:
            bars.remove_task(self._tasks.pop(label))
            if not self._tasks:
                self._stop_bars()

    def _started_bars(self) -> Progress:
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TaskProgressColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                TimeRemainingColumn(),
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
        now = time.monotonic()
        if done < total and now - self._said.get(label, -math.inf) < _SECONDS_BETWEEN_LINES:
            return
        self._said[label] = now
        if done >= total:
            del self._said[label]
        self.step(f"{head} · {detail}" if detail else head)


def _training_plan(values: Mapping[str, Any]) -> RenderableType:
    """What the training script found out before its first step, as a small block."""
    value = values.get
    parameters, trainable = value("parameters", 0), value("trainable_parameters", 0)
    share = f", {_count(trainable)} of them trained ({trainable / parameters:.2%})" if parameters else ""
    reason = f": {value('dtype_reason')}" if value("dtype_reason") else ""
    rows = {
        "device": f"{value('device')}, {value('compute_dtype')}{reason}",
        "parameters": f"{_count(parameters)}{share}",
        "adapter on": ", ".join(value("lora_targets", [])),
        "data": f"{value('packs', 0):,} packs, {value('tokens', 0):,} tokens, loss on {value('loss_on')}",
        "steps": f"{value('steps', 0):,}, each of {value('tokens_per_step', 0):,.0f} tokens",
        "epochs": f"{value('epochs', 0):g}",
        "memory": _memory(values),
        "resumed": f"from step {value('resumed_from_step')}" if value("resumed_from_step") else "",
    }
    return Group(Text("training plan", style="bold"), facts(rows))


def _memory(values: Mapping[str, Any]) -> str:
    """What the training needs, of what there is, and what it does to make do with it."""
    if "memory_bytes" not in values:
        return ""
    gib = 2**30
    parts = sorted(values["memory_parts"].items(), key=lambda part: -part[1])
    named = ", ".join(f"{name} {size / gib:.1f}" for name, size in parts if size >= gib / 20)
    layers, recomputed = values["layers"], values["recomputed_layers"]
    kept = f"; keeping activations of {layers - recomputed} of {layers} layers" if recomputed else ""
    packs = f"; {values['packs_at_once']} packs at once" if values["packs_at_once"] > 1 else ""
    total, free = values["memory_bytes"] / gib, values["memory_free_bytes"] / gib
    return f"{total:.1f} of {free:.1f} GiB ({named}){kept}{packs}"


def _count(number: float) -> str:
    """134,515,008 as 134.5 M; small counts in full."""
    for unit, name in ((1e9, "billion"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number:,.0f}"
