"""Prints results to stdout, and errors and questions to stderr. Only this module and reporter.py print anything."""

import json
import math
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Group
from rich.prompt import Confirm, Prompt
from rich.text import Text

from lorasum.errors import ConfigError, LorasumError
from lorasum.system.files import STDOUT
from lorasum.ui.terminal import console, one_line, visible


def show(result: object, as_json: bool = False, then: Sequence[str] = ()) -> None:
    """Print the result of a command, for people or as JSON. JSON is ASCII without colours on every terminal.

    For people, the commands of `then` stand below it, to go on with.

    A single summary is printed as plain text, so that it can be piped into another program.
    """
    # Here, so that `lorasum --help` does not wait for all records.
    from lorasum.results.serving import BatchPrediction, Prediction
    from lorasum.ui import overview, pieces, serving, sharing, training  # noqa: F401  they register what is shown of each
    from lorasum.ui.body import body

    if isinstance(result, Iterator):
        _show_items(result, as_json)
    elif isinstance(result, BatchPrediction) and result.output == str(STDOUT):
        with redirect_stdout(sys.stderr):
            show(replace(result, output="stdout"), as_json)
    elif as_json:
        text(json.dumps(_plain(result), indent=2, allow_nan=False))
    elif isinstance(result, Prediction) and result.reference is None:
        text(result.summary)
    elif isinstance(result, Mapping):
        import yaml

        text(yaml.safe_dump(dict(result), sort_keys=False, allow_unicode=True).rstrip())
    else:
        shown = Group(body(result), *pieces.following(then))
        console().print(shown, crop=False, overflow="ignore")  # neither JSON nor a path is cut or broken in two


def _show_items(items: Iterator[object], as_json: bool) -> None:
    """Print what a command yields, one item at a time, where a program waits for it."""
    from lorasum.results.serving import Piece

    item: object = None
    try:
        for item in items:
            _show_item(item, as_json)
            sys.stdout.flush()
    except BaseException:
        if isinstance(item, Piece) and not as_json:
            print(flush=True)  # the error has a line of its own
        raise


def _show_item(item: object, as_json: bool) -> None:
    """Print one of the items that a command yields: a line of a log, or what belongs to a streamed summary."""
    from lorasum.results.serving import Piece, Prediction

    if as_json:
        text(json.dumps(_plain(item), allow_nan=False))
    elif isinstance(item, Piece):
        print(visible(item.piece) if sys.stdout.isatty() else item.piece, end="")
    elif isinstance(item, Prediction):
        print()
        if item.reference is not None:
            show(item)
    else:
        text(str(item))


def show_again(result: object, as_json: bool = False) -> None:
    """Print a result in the place of the last one on a terminal, or else behind it."""
    if sys.stdout.isatty():
        console().clear()
    show(result, as_json)
    sys.stdout.flush()


def text(line: str) -> None:
    """Print a result that is text: unchanged to a pipe or file, with visible control characters to a terminal."""
    print(visible(line) if sys.stdout.isatty() else line)


def say(line: str) -> None:
    """Print one line on stderr."""
    console(stderr=True).print(Text(one_line(line)), soft_wrap=True)


def error(problem: LorasumError, verbose: bool = False) -> None:
    """Say what went wrong, one line for each wrong field of a config, and what to do about it."""
    lines = problem.problems if isinstance(problem, ConfigError) and len(problem.problems) > 1 else ()
    _say_error(problem.message, problem.hint, lines, verbose)


def unexpected(problem: Exception, verbose: bool) -> None:
    """Say that lorasum has a bug, with the traceback if `verbose`."""
    reason = " ".join(str(problem).split()) or "no message"
    hint = "this is a bug: report it with the traceback above" if verbose else "run it again with -v, and report it"
    _say_error(f"unexpected {type(problem).__name__}: {reason}", hint, (), verbose)


def _say_error(message: str, hint: str, lines: tuple[str, ...], verbose: bool) -> None:
    out = console(stderr=True)
    if verbose:
        out.print(Text(_own_traceback()), soft_wrap=True)
    out.print(Text.assemble(("error: ", "bold red"), one_line(message)), soft_wrap=True)
    for line in lines:
        out.print(Text(f"  {one_line(line)}"), soft_wrap=True)
    if hint:
        out.print(Text.assemble(("hint: ", "bold"), one_line(hint)), soft_wrap=True)


def _own_traceback() -> str:
    """The traceback of the error at hand, without the frames of the library that parses the command line."""
    error = sys.exception()
    if error is None:
        return ""
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(
        [one for one in told.stack if "typer" not in Path(one.filename).parts]
    )
    return "".join(told.format())


def can_ask() -> bool:
    """Whether somebody sees a question, which goes to stderr, and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, lines: list[str]) -> bool:
    """Show `lines` and ask on stderr. The default answer is no."""
    out = console(stderr=True)
    for line in lines:
        out.print(Text(f"  {one_line(line)}"), soft_wrap=True)
    with _an_end_is_no_answer():
        return Confirm.ask(question, console=out, default=False)


def ask(question: str, default: str) -> str:
    """Ask for a text on the terminal, on stderr; Enter takes the default."""
    with _an_end_is_no_answer():
        return Prompt.ask(Text(one_line(question)), console=console(stderr=True), default=default)


@contextmanager
def _an_end_is_no_answer() -> Iterator[None]:
    """Ctrl-D, or a terminal that goes away, aborts the command."""
    try:
        yield
    except EOFError as end:
        raise typer.Abort from end


def _plain(value: Any) -> Any:
    """`value` in JSON's types: records and mappings become objects, and NaN becomes null."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
