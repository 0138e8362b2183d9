"""Pieces that results and progress are shown with: titles, tables, and figures as a person reads them."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

_BARS = " ▁▂▃▄▅▆▇█"


def headline(verb: str, what: str, detail: str) -> Text:
    """The first line of a result: `trained chats · 4 min 37 s`."""
    return Text.assemble((f"{verb} {what}", "bold"), (f" · {detail}", "dim"))


def new_table(first: str, *columns: str) -> Table:
    """A table whose columns after the first hold right-aligned numbers, or text if the first column has a name."""
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


def length(tokens: int, where: str) -> str:
    """A number of tokens and the place of that example: `612 (train.jsonl:17)`."""
    return f"{tokens:,} ({where})" if where else f"{tokens:,}"


def bars(counts: Sequence[int]) -> str:
    """A histogram in one line of text."""
    most = max(counts)
    return "".join(_BARS[0] if not count else _BARS[1 + (count * (len(_BARS) - 2)) // most] for count in counts)
