"""The decorator that makes a function a verb of one run, with the options that all those verbs have."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import typer

from lorasum.cli.backends import backend
from lorasum.cli.interrupts import interrupts
from lorasum.cli.options import ConfigFile, Json, Overrides, Quiet, Sets, Verbose, settings
from lorasum.errors import BackendError, LorasumError, OutageError, OverdueError, ScoreError
from lorasum.ui import render


def verb(
    app: typer.Typer, example: str, has_json: bool = True
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Make a function a verb: `train(run, dry_run)` becomes `lorasum train`. What the function returns is printed.

    The function takes the run and its own options. Typer is shown a signature in which the options of all verbs stand
    in place of the run: --config first, and --set, --json, --quiet and --verbose last. The run is made of them.

    Args:
        app: what the verb is registered at.
        example: a call of the verb, or several with an empty line between them, for the end of its help.
        has_json: whether the result can be printed as JSON.
    """

    def register(function: Callable[..., object]) -> Callable[..., object]:
        _run, *own = inspect.signature(function).parameters.values()
        json = [("as_json", Json, False)] if has_json else []
        last = [("overrides", Overrides, None), *json, ("quiet", Quiet, False), ("verbose", Verbose, False)]
        options = [
            _option("config", ConfigFile, inspect.Parameter.empty),
            *(option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in own),
            *(_option(*one) for one in last),
        ]

        def call(
            config: Path, overrides: list[str] | None, quiet: bool, verbose: bool, as_json: bool = False, **given: Any
        ) -> None:
            perform(function, given, config, overrides or [], as_json, quiet, _overrides(own, given))

        call.__doc__, call.__name__ = function.__doc__, function.__name__
        call.__annotations__ = {option.name: option.annotation for option in options}
        call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # what Typer reads
        app.command(epilog=example, options_metavar="CONFIG [OPTIONS]")(call)
        return function

    return register


def _option(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _overrides(options: list[inspect.Parameter], given: dict[str, Any]) -> list[str]:
    """What the options that are marked with `Sets` set, where they were given."""
    return [
        mark.override.format(given[option.name])
        for option in options
        for mark in get_args(option.annotation)
        if isinstance(mark, Sets) and given[option.name] != option.default
    ]


def perform(
    function: Callable[..., object],
    given: Mapping[str, object],
    config: Path,
    overrides: list[str],
    as_json: bool,
    quiet: bool,
    of_options: Sequence[str] = (),
) -> None:
    """Load the config, call the verb and show what it returns.

    Args:
        of_options: overrides that options stand for, such as --for. The commands that are shown next leave them out.

    Raises:
        LorasumError: the result tells of a failure. It is shown all the same.
    """
    from lorasum.config.loader import is_piped, load_config
    from lorasum.context import RunContext
    from lorasum.ledger.ledger import Ledger
    from lorasum.lifecycle.leftovers import telling_what_runs
    from lorasum.system.files import STDIN, or_stdin
    from lorasum.ui.next_steps import Given
    from lorasum.ui.reporter import ConsoleReporter

    typed = Given(config, overrides)
    interrupts.removes = "lorasum teardown --all" if is_piped(config) else typed.command("teardown")
    settings.stdin = "the config" if or_stdin(config) == STDIN else ""
    report = ConsoleReporter(quiet, settings.verbose, complete=typed.completed)
    loaded = load_config(config, [*overrides, *of_options], report.warn)
    run = RunContext(loaded, lambda: backend(loaded, report), Ledger(warn=report.warn), report)
    with telling_what_runs(run):
        try:
            with report:
                result = function(run, **given)
            render.show(result, as_json, typed.next_of(result))
            raise_failure(result)
        except LorasumError as error:
            error.hint = typed.completed(error.hint)
            raise


def raise_failure(result: object) -> None:
    """Raise what a result tells of: rows have no summary, a figure is too low, something is left, or cannot start."""
    from lorasum.results.serving import BatchPrediction, EvaluateResult, RunResult, TeardownResult
    from lorasum.results.training import PlanResult

    checks = result.checks if isinstance(result, PlanResult) else ()
    failed = [check for check in checks if check.stops_training and not check.ok]
    if wrong := [check for check in failed if not check.unknown]:
        raise BackendError(f"this cannot start: {'; '.join(check.found for check in wrong)}", wrong[0].fix)
    if failed:
        raise OutageError(f"nobody knows whether this can start: {failed[0].found}", failed[0].fix)
    torn = result.teardown if isinstance(result, RunResult) else result
    if isinstance(result, BatchPrediction) and result.failures:
        first = result.failures[0]
        raise LorasumError(
            f"{len(result.failures)} of {result.rows} rows have no summary, line {first.line} first: {first.reason}",
            "in the output they have `error` instead of `summary`; --json lists them all",
        )
    if isinstance(result, EvaluateResult) and result.missed:
        raise ScoreError(
            f"the model is not good enough: {'; '.join(map(str, result.missed))}", f"look at {result.summaries}"
        )
    if isinstance(torn, TeardownResult) and torn.remaining:
        elsewhere = "with credentials of its account removes it, or `lorasum teardown` with the run's config"
        again = "run `lorasum teardown` again" if torn.run else f"the same command {elsewhere}"
        raise BackendError(f"still there: {'; '.join(map(str, torn.remaining))}", again)


def raise_unread(ledgers: Sequence[str]) -> None:
    """Raise that something may run of which only ledgers tell that cannot be read, if there are any."""
    if ledgers:
        raise OverdueError(
            f"what was recorded in {', '.join(ledgers)} may still run, and nobody knows what that is",
            "`lorasum status --rebuild` with each config records what runs; then delete what is damaged",
        )


def confirm_spending(yes: bool, to_be_spent: Callable[[], str]) -> None:
    """On a terminal, ask before money is spent, if any is; a script is not asked.

    The verb looks at all of it again, now with the run's lock: an answer may take hours, in which somebody else may
    have started or deleted what it is about.

    Raises:
        LorasumError: somebody is at the terminal who would not see the question, because stderr goes elsewhere, or
            could not answer, because stdin is read for something else.
    """
    if asks(yes) and (what := to_be_spent()):
        confirm("Start it?", [what])


def asks(yes: bool) -> bool:
    """Whether somebody is to be asked: they are at the terminal, where stdin may be a config or rows from a pipe."""
    return not yes and (sys.stdin.isatty() or (bool(settings.stdin) and sys.stderr.isatty()))


def confirm(question: str, lines: list[str]) -> None:
    """Show `lines` and ask whether to do that. Abort unless the answer is yes; ask nothing if there are no lines.

    Raises:
        LorasumError: nobody can be asked.
    """
    if not lines:
        return
    if settings.stdin:
        raise LorasumError(f"this asks for your consent, and stdin is {settings.stdin}", "pass --yes")
    if not render.can_ask():
        raise LorasumError("this asks for your consent, and there is no terminal to ask on", "pass --yes")
    if not render.confirm(question, lines):
        raise typer.Abort
