"""Pieces that results and progress are shown with: titles, tables, and figures as a person reads them."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lorasum.backends.records import Check
from lorasum.shared.events import StartEvent
from lorasum.shared.records import MemoryPlan
from lorasum.ui.terminal import whole_words

_BARS = " ▁▂▃▄▅▆▇█"
_LEAST = 20  # columns of a value, however narrow the terminal is
_UNBOUNDED = 10_000  # columns
_TINY = 50e6  # bytes of memory that need no explanation


def headline(verb: str, what: str, detail: str) -> Text:
    """The first line of a result: `trained chats · 4 min 37 s`."""
    return Text.assemble((f"{verb} {what}", "bold"), (f" · {detail}", "dim"))


def following(commands: Sequence[str]) -> list[Text]:
    """The commands to go on with, below a result."""
    if not commands:
        return []
    return [Text("next", style="bold"), *(Text(f"  {command}", no_wrap=True) for command in commands)]


def mark(check: Check) -> Text:
    """Whether it is right, stops the training, is unknown, or is only a warning."""
    wrong = Text("  ✗ ", "bold red") if check.stops_training else Text("  ! ", "bold yellow")
    wrong = Text("  ? ", "bold yellow") if check.unknown else wrong
    return Text("  ✓ ", "green") if check.ok else wrong


def from_here(path: str) -> str:
    """A path as it is typed in the current folder, if it is below that."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (OSError, ValueError):  # there is no current folder any more, or the path is not in it
        return path


class Facts:
    """Names and values in two columns, without the empty ones. A path or another long word is never broken in two."""

    def __init__(self, rows: Mapping[str, str | Text]) -> None:
        self._rows = {name: value for name, value in rows.items() if value}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = 4 + max((cell_len(name) for name in self._rows), default=0)
        width = max(options.max_width - indent, _LEAST)
        for name, value in self._rows.items():
            head = f"  {name}"
            for line in whole_words(value if isinstance(value, Text) else Text(value), width):
                padded = head + " " * (indent - cell_len(head))
                yield Text.assemble((padded, "dim"), line, no_wrap=True, overflow="ignore")
                head = ""


class Marked:
    """A text behind a mark. Its further lines begin where the text does."""

    def __init__(self, mark: Text, text: str) -> None:
        self._mark, self._text = mark, text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head, indent = self._mark, self._mark.cell_len
        for line in whole_words(Text(self._text), max(options.max_width - indent, _LEAST)):
            yield Text.assemble(head, line, no_wrap=True, overflow="ignore")
            head = Text(" " * indent)


class Rows:
    """A table without its empty columns. Those after the first hold numbers unless the first has a name.

    Where a terminal is too narrow for it, each row is shown as names and values, so that no name is broken in two.

    Args:
        wraps: the columns whose cells may take several lines.
        numbers: those that hold numbers, beside the rule above.
    """

    def __init__(self, *columns: str, wraps: Collection[str] = (), numbers: Collection[str] = ()) -> None:
        self._columns, self._wraps, self._numbers = columns, wraps, numbers
        self._rows: list[tuple[list[Text], str]] = []

    def add(self, *cells: str | Text, style: str = "") -> None:
        self._rows.append(([cell if isinstance(cell, Text) else Text(cell) for cell in cells], style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._least_width(console, options) <= options.max_width:
            yield self._table()
            return
        for cells, _ in self._rows:
            yield Text.assemble((self._columns[0], "dim"), " " if self._columns[0] else "", cells[0])
            yield Facts(dict(zip(self._columns[1:], cells[1:], strict=True)))

    @property
    def _filled(self) -> list[tuple[int, str]]:
        return [
            (place, name) for place, name in enumerate(self._columns) if any(cells[place] for cells, _ in self._rows)
        ]

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        filled = self._filled
        for place, column in filled:
            right = column in self._numbers or (place > 0 and not self._columns[0])
            table.add_column(column, justify="right" if right else "left", no_wrap=column not in self._wraps)
        for cells, style in self._rows:
            table.add_row(*(cells[place] for place, _ in filled), style=style)
        return table

    def _least_width(self, console: Console, options: ConsoleOptions) -> int:
        """What the table needs: its cells in one line each, or their longest words, and a space between columns."""
        unbounded, least = options.update(width=_UNBOUNDED), -1
        for place, column in self._filled:
            cells = [Text(column), *(cells[place] for cells, _ in self._rows)]
            sizes = [Measurement.get(console, unbounded, cell) for cell in cells]
            least += 2 + max(size.minimum if column in self._wraps else size.maximum for size in sizes)
        return least


def as_json(request: Mapping[str, Any]) -> Group:
    """A request as JSON that a program can read too: no line of it is wrapped or cut."""
    return Group(Text(json.dumps(request, indent=2), no_wrap=True, overflow="ignore"))


def length(tokens: int, where: str) -> str:
    """A number of tokens and the place of that example: `612 (train.jsonl:17)`."""
    return f"{tokens:,} ({where})" if where else f"{tokens:,}"


def bars(counts: Sequence[int]) -> str:
    """A histogram in one line of text."""
    most = max(counts)
    return "".join(_BARS[0] if not count else _BARS[1 + (count * (len(_BARS) - 2)) // most] for count in counts)


def memory(plan: StartEvent | MemoryPlan) -> str:
    """The memory that the training needs and that is free, and how many layers recompute to fit."""
    if plan.memory_bytes < _TINY:
        return f"less than {_TINY / 1e6:.0f} MB"
    gib = 2**30
    parts = sorted(plan.memory_parts.items(), key=lambda part: -part[1])
    named = ", ".join(f"{name} {size / gib:.1f}" for name, size in parts if size >= gib / 20)
    recomputed, layers = plan.recomputed_layers, plan.layers
    kept = f"; keeping activations of {layers - recomputed} of {layers} layers" if recomputed else ""
    packs = f"; {plan.packs_at_once} packs at once" if plan.packs_at_once > 1 else ""
    shared = f"; {plan.shared_bytes / gib:.1f} GiB of the base model shared in main memory" if plan.shared_bytes else ""
    return f"{plan.memory_bytes / gib:.1f} of {plan.memory_free_bytes / gib:.1f} GiB ({named}){kept}{packs}{shared}"
