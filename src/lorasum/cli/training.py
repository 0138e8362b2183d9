"""The verbs up to a trained model: init, prepare, plan, train, sweep."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorasum.cli.options import Json, Quiet, Sets, Verbose, Yes
from lorasum.cli.verb import confirm_spending, verb
from lorasum.config.backend_names import BackendName
from lorasum.errors import LorasumError
from lorasum.ui import render

if TYPE_CHECKING:
    from lorasum.commands.init import InitOptions
    from lorasum.context import RunContext

app = typer.Typer()


@app.command(epilog="lorasum init chats.csv\n\nlorasum init --example quickstart")
def init(
    data: Annotated[
        list[str] | None, typer.Argument(metavar="DATA", help="Files or folders of chats with their summaries.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The config to write. Default: run.yaml.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ID", help="Base model: a hub id or a folder.")
    ] = None,
    backend: Annotated[BackendName | None, typer.Option("--backend", help="Where to train and serve.")] = None,
    dialogue: Annotated[
        str | None, typer.Option("--dialogue", metavar="COLUMN", help="The column of the dialogue.")
    ] = None,
    summary: Annotated[
        str | None, typer.Option("--summary", metavar="COLUMN", help="The column of the summary.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", metavar="DATA", help="A file or folder to test on.")] = None,
    example: Annotated[
        str | None,
        typer.Option("--example", metavar="NAME", help="Write an example: quickstart, sagemaker, qwen, bloomz."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="YAML", help="Translate an axolotl or LLaMA-Factory config.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look at your chats and write a config for them; or write one of the examples."""
    from lorasum.commands.init import InitOptions

    options = InitOptions(name, model, backend, dialogue, summary, test)
    render.show(_written_config(data or (), options, example, source, output, force), as_json)


def _written_config(
    data: Sequence[str],
    options: "InitOptions",
    example: str | None,
    source: Path | None,
    output: Path | None,
    force: bool,
) -> object:
    """What came of the one of three ways that was asked for: an example, somebody's config, or a look at the data."""
    from lorasum.commands.init import init, write_example
    from lorasum.commands.init_from import init_from

    config = output or Path("run.yaml")
    if example is not None:
        _takes_only("--example", "--output, --force and --json", data, *astuple(options))
        return write_example(example, output, force)
    if source is not None:
        _takes_only("--from", "--output, --name, --force and --json", data, *astuple(replace(options, name=None)))
        return init_from(source, config, options.name, force)
    ask = render.ask if render.can_ask() else None
    return init(data, config, options, force, ask)


def _takes_only(option: str, taken: str, *others: object) -> None:
    if any(others):
        raise LorasumError(f"{option} takes only {taken}", "leave the other options out")


@verb(
    app,
    "lorasum prepare configs/quickstart.yaml --show 3\n\n"
    "lorasum prepare configs/quickstart.yaml --set data.train=chats/ --set data.test_fraction=0.1 --redact",
)
def prepare(
    run: "RunContext",
    show: Annotated[int, typer.Option("--show", min=0, help="Print this many examples as the model sees them.")] = 0,
    redact: Annotated[
        bool,
        typer.Option("--redact", help="Replace emails, phone and card numbers: data.redact=true."),
        Sets("data.redact=true"),
    ] = False,
) -> object:
    """Check the chats, tokenise them and pack them into a dataset."""
    from lorasum.commands.prepare import prepare

    return prepare(run, show)


@verb(app, "lorasum plan configs/bloomz.yaml")
def plan(run: "RunContext") -> object:
    """Show what a run needs and costs, and whether it can start. Starts nothing."""
    from lorasum.commands.plan import plan

    return plan(run)


@verb(app, "lorasum train configs/quickstart.yaml --set training.epochs=2")
def train(
    run: "RunContext",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the job and start nothing.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start the job and do not follow it.")] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="Train again if the finished job used other scripts, image or settings."),
    ] = False,
    yes: Yes = False,
) -> object:
    """Fine-tune the model on the prepared dataset: LoRA, merged at the end."""
    from lorasum.commands.train import plan_training, start_training, to_be_spent, train

    if dry_run:
        return plan_training(run)
    confirm_spending(yes, lambda: to_be_spent(run, again))
    return start_training(run, again) if no_wait else train(run, again)


@verb(app, "lorasum sweep run.yaml --dry-run\n\nlorasum sweep run.yaml --set sweep.trials=20")
def sweep(
    run: "RunContext",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials and their results so far; start nothing.")
    ] = False,
    yes: Yes = False,
) -> object:
    """Train with several values of the config's `sweep.keys`, stop those that fall behind, and name the best."""
    from lorasum.commands.sweep import plan_sweep, sweep, to_be_spent

    if dry_run:
        return plan_sweep(run)
    confirm_spending(yes, lambda: to_be_spent(run))
    return sweep(run)
