"""The verbs that only look: status, logs, runs, config."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorasum.cli.backends import backend, local
from lorasum.cli.options import CONFIG, ConfigFile, Json, Overrides, Quiet, Verbose
from lorasum.cli.verb import verb
from lorasum.errors import OverdueError
from lorasum.ui import render

if TYPE_CHECKING:
    from lorasum.context import RunContext

app = typer.Typer()
config_app = typer.Typer(help="Show all keys of configs, or a config as it is used.")
app.add_typer(config_app, name="config")


@app.command(epilog="lorasum status")
def status(
    config: Annotated[Path | None, CONFIG] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Set damaged records aside, and record anew what is there.")
    ] = False,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what exists, what is running and what it costs, of all runs or of one."""
    from lorasum.commands.status import status
    from lorasum.config.loader import load_config
    from lorasum.ledger import Ledger
    from lorasum.reporting import Silent
    from lorasum.ui.reporter import ConsoleReporter

    # Only a config says in which account and region to look. Without one, resources are shown as recorded.
    run = load_config(config, overrides or (), ConsoleReporter(quiet).warn) if config else None
    chosen = backend(run, Silent()) if run else local()
    backends, name = {"local": local(), chosen.name: chosen}, run.name if run else None
    shown = status(backends, Ledger(warn=render.say), name, chosen if rebuild else None)
    render.show(shown, as_json)
    if shown.alarms:
        hint = "`lorasum teardown` with the run's config ends it" + ("" if run else "; with --config, status asks AWS")
        raise OverdueError("; ".join(shown.alarms), hint)


@verb(app, "lorasum logs -c configs/quickstart.yaml -f", has_json=False)
def logs(
    run: "RunContext",
    endpoint: Annotated[bool, typer.Option("--endpoint", help="The endpoint's log, not the training job's.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new lines until it ends.")] = False,
) -> object:
    """Print the log of the newest training job or of the endpoint."""
    from lorasum.commands.logs import logs

    return logs(run, endpoint, follow)


@app.command(epilog="lorasum runs")
def runs(as_json: Json = False, verbose: Verbose = False) -> None:
    """List the runs with their disk space, age, cost and score."""
    from lorasum.commands.runs import runs
    from lorasum.ledger import Ledger

    render.show(runs(Ledger(warn=render.say)), as_json)


@config_app.command("schema", epilog="lorasum config schema > configs/lorasum.schema.json")
def config_schema(verbose: Verbose = False) -> None:
    """Print the JSON Schema of configs. Editors use it to complete and check keys."""
    from lorasum.config.schema import Config

    render.show(Config.model_json_schema(), as_json=True)


@config_app.command("show", epilog="lorasum config show -c configs/quickstart.yaml --set lora.r=8")
def config_show(
    config: ConfigFile, overrides: Overrides = None, as_json: Json = False, verbose: Verbose = False
) -> None:
    """Print a config as it is used, with defaults, overrides and absolute paths. Secrets are left out."""
    from lorasum.config.loader import load_config
    from lorasum.config.secrets import redacted
    from lorasum.ui.reporter import ConsoleReporter

    shown = load_config(config, overrides or (), ConsoleReporter().warn)
    render.show(redacted(shown.model_dump(mode="json")), as_json)
