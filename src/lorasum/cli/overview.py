"""The verbs that only look: status, logs, runs, report, env, config; and clean."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorasum.cli.backends import backend, local, recorded
from lorasum.cli.options import CONFIG, ConfigFile, Json, Overrides, Quiet, Verbose, Yes, refuse_together, settings
from lorasum.cli.verb import confirm, raise_unread, verb
from lorasum.errors import BackendError, LorasumError, OverdueError
from lorasum.ui import render

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from lorasum.backends.base import Backend
    from lorasum.config.schema import Config
    from lorasum.context import RunContext
    from lorasum.reporting import Reporter
    from lorasum.results.overview import StatusResult

app = typer.Typer()
config_app = typer.Typer(help="Print the JSON Schema, or a config with its defaults filled in.")
app.add_typer(config_app, name="config")


@app.command(epilog="lorasum status")
def status(
    config: Annotated[Path | None, CONFIG] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Set damaged records aside, and record again what is there.")
    ] = False,
    account: Annotated[bool, typer.Option("--account", help="Tell what its account runs without a record.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show ended resources that cost nothing, too.")] = False,
    watch: Annotated[
        float | None,
        typer.Option("--watch", min=1, metavar="SECONDS", help="Look again, until Ctrl-C; never exits with 3."),
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what exists, what is running and what it costs, of all runs or of one."""
    from lorasum.commands.status import status
    from lorasum.config.loader import load_config
    from lorasum.ledger.ledger import Ledger
    from lorasum.reporting import Silent
    from lorasum.system.retry import until_answered
    from lorasum.ui.reporter import ConsoleReporter

    reporter = ConsoleReporter(quiet)
    run = load_config(config, overrides or (), reporter.warn) if config else None
    chosen = _chosen(run, account)
    ledger, name = Ledger(warn=reporter.warn), run.name if run else None

    def look(warn_on: "Reporter", rebuild_on: "Backend | None" = None, reach: bool = True) -> "StatusResult":
        backends = ([local(), chosen] if reach else [local()]) if run else recorded(ledger, warn_on)
        return status(backends, ledger, name, rebuild_on, everything, chosen if account else None)

    shown = _asked_or_recorded(look, reporter, chosen if rebuild else None, None if account else name)
    render.show(shown, as_json)
    while watch:
        time.sleep(watch)
        shown = until_answered(lambda: look(Silent()), watch, reporter, for_ever=True)
        render.show_again(shown, as_json)
    _raise_alarms(shown)


def _asked_or_recorded(
    look: "Callable[..., StatusResult]", report: "Reporter", rebuild_on: "Backend | None", run: str | None
) -> "StatusResult":
    """What is there; or what is on record of a run, where nobody can be asked about it."""
    try:
        return look(report, rebuild_on)
    except BackendError as error:
        if rebuild_on or not run:
            raise
        report.warn(f"{error.message}: run {run!r} is shown as recorded")
        return look(report, reach=False)


def _chosen(run: "Config | None", account: bool) -> "Backend":
    if account and not run:
        raise LorasumError("--account needs a config, which names the account", "lorasum status CONFIG --account")
    from lorasum.reporting import Silent

    return backend(run, Silent()) if run else local()


def _raise_alarms(shown: "StatusResult") -> None:
    if alarms := "; ".join(map(str, shown.alarms)):
        raise OverdueError(alarms, "`lorasum teardown` with the run's config ends it, or with --all")
    raise_unread(shown.unread_ledgers)


@verb(app, "lorasum logs configs/quickstart.yaml -f", has_json=False)
def logs(
    run: "RunContext",
    endpoint: Annotated[bool, typer.Option("--endpoint", help="The endpoint's log, not a job's.")] = False,
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="The job; default: the newest.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new lines until it ends.")] = False,
) -> object:
    """Print the log of the newest job, of training or of a batch, or of the endpoint; with -v or to a pipe as it is."""
    from lorasum.commands.logs import logs
    from lorasum.ui.reporter import readable

    refuse_together({"--endpoint": endpoint or None, "--job": job})
    lines = logs(run, endpoint, follow, job)
    return map(readable, lines) if sys.stdout.isatty() and not settings.verbose else lines


@app.command(epilog="lorasum runs")
def runs(as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the runs with their disk space, age, cost and score."""
    from lorasum.commands.runs import runs
    from lorasum.ledger.ledger import Ledger
    from lorasum.ui.reporter import ConsoleReporter

    render.show(runs(Ledger(warn=ConsoleReporter(quiet).warn)), as_json)


@app.command(epilog="lorasum clean --older-than 30d --dry-run\n\nlorasum clean old-run --models --yes")
def clean(
    names: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs to delete from this disk.")] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="TIME", help="Delete all runs that were not changed for so long: 30d, 12h."
        ),
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Delete converted base models too; lorasum makes them again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")] = False,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Free this disk of old runs. What runs, here or in an account, is never touched."""
    from lorasum.commands.clean import clean, plan_clean
    from lorasum.ledger.ledger import Ledger
    from lorasum.results.overview import CleanResult
    from lorasum.ui.reporter import ConsoleReporter

    age = _age(older_than) if older_than is not None else None
    reporter, machine = ConsoleReporter(quiet), local()
    ledger = Ledger(warn=reporter.warn)
    planned = plan_clean(ledger, machine, names or (), age, models)
    if not dry_run and not yes:
        confirm("Delete that?", [f"delete {one}" for one in planned])
    result = CleanResult.of(planned, dry_run) if dry_run else clean(ledger, machine, reporter, planned)
    render.show(result, as_json)


def _age(text: str) -> "timedelta":
    from lorasum.config.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise LorasumError(f"--older-than {text}: it {error}", "write --older-than 30d") from error


@app.command(epilog="lorasum env")
def env(as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Print versions, device and folders, for a bug report. Secrets are left out."""
    from lorasum.commands.env import env

    render.show(env(), as_json)


@verb(
    app,
    "lorasum report configs/quickstart.yaml\n\n"
    "lorasum report configs/quickstart.yaml --compare other-run --output page.html",
)
def report(
    run: "RunContext",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="HTML", help="The page. Default: in the run's folder.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="RUN", help="Show another run, or a training job, beside it.")
    ] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="The job; default: the newest.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=0, help="Test dialogues on the page.")] = 12,
) -> object:
    """Write one HTML page about a run: scores, curves, memory, cost, samples, data, versions."""
    from lorasum.commands.report import report

    return report(run, output, compare, job, samples)


@config_app.command("schema", epilog="lorasum config schema > configs/lorasum.schema.json")
def config_schema(as_json: Json = True, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Print the JSON Schema of configs. Editors use it to complete and check keys."""
    from lorasum.config.schema import Config

    render.show(Config.model_json_schema(), as_json)


@config_app.command("show", epilog="lorasum config show configs/quickstart.yaml --set lora.r=8")
def config_show(
    config: ConfigFile,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print a config with its defaults, overrides and absolute paths. Secrets are left out."""
    from lorasum.config.loader import load_config
    from lorasum.config.secrets import redacted
    from lorasum.ui.reporter import ConsoleReporter

    shown = load_config(config, overrides or (), ConsoleReporter(quiet).warn)
    render.show(redacted(shown.model_dump(mode="json")), as_json)
