"""The verbs of an endpoint: deploy, predict, evaluate, teardown; and run, which is all verbs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorasum.cli.backends import recorded
from lorasum.cli.options import (
    CONFIG,
    Concurrency,
    Json,
    Overrides,
    Quiet,
    Sets,
    Verbose,
    Yes,
    check_stdin_is_free,
    refuse_together,
    settings,
)
from lorasum.cli.verb import asks, confirm, confirm_spending, perform, raise_failure, raise_unread, verb
from lorasum.errors import LorasumError
from lorasum.ui import render

if TYPE_CHECKING:
    from lorasum.context import RunContext

app = typer.Typer()


@verb(app, "lorasum deploy configs/quickstart.yaml --for 4h")
def deploy(
    run: "RunContext",
    job: Annotated[
        str | None, typer.Option("--job", metavar="NAME", help="The training job to serve; default: this config's.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="Delete the endpoint after this time: 90m, 4h, 2d. Sets deploy.expires_after; on SageMaker it takes "
            "sagemaker.scheduler_role.",
        ),
        Sets("deploy.expires_after={}"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the endpoint and start nothing.")] = False,
    yes: Yes = False,
) -> object:
    """Put the fine-tuned model behind an endpoint. On SageMaker it is billed by the hour until `teardown` or --for."""
    from lorasum.commands.deploy import deploy, plan_deploy, to_be_spent

    if dry_run:
        return plan_deploy(run, job)
    confirm_spending(yes, lambda: to_be_spent(run, job))
    return deploy(run, job)


@verb(
    app,
    "lorasum predict configs/quickstart.yaml --sample\n\n"
    "lorasum predict configs/quickstart.yaml --stream < chat.txt\n\n"
    "lorasum predict configs/quickstart.yaml --input chats.jsonl --output summaries.jsonl --batch",
)
def predict(
    run: "RunContext",
    text: Annotated[str | None, typer.Option("--text", metavar="DIALOGUE", help="The dialogue.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A text or a chat app's export; - reads stdin.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", metavar="ROWS", help="Many dialogues; - reads stdin.")
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--output", metavar="ROWS", help="Their summaries: .jsonl, .csv, .tsv or .parquet; - is stdout."),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests at once, for --input.")] = 1,
    batch: Annotated[
        bool, typer.Option("--batch", help="Summarise --input in a job of its own, without an endpoint.")
    ] = False,
    yes: Yes = False,
    sample: Annotated[bool, typer.Option("--sample", help="A random test dialogue, with its reference.")] = False,
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="RUN", help="Which of deploy.adapters answers; default: this.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print one summary while it is generated.")] = False,
) -> object:
    """Summarise one dialogue (--text, --file, --sample or stdin), or all rows of a file (--input)."""
    from lorasum.cli.dialogue import given_dialogue
    from lorasum.commands import predict as one
    from lorasum.commands.predict_file import predict_file

    refuse_together({"--stream": stream or None, "--input": source})
    refuse_together({"--text": text, "--file": file, "--input": source, "--sample": sample or None})
    source, target = _rows(source, target)
    if batch:
        return _predict_batch(run, source, target, adapter, yes)
    if source and target:
        return predict_file(run, source, target, concurrency, adapter)
    dialogue = None if sample else given_dialogue(text, file, run)
    return (one.stream if stream else one.predict)(run, dialogue, adapter)


def _rows(source: Path | None, target: Path | None) -> tuple[Path | None, Path | None]:
    """--input and --output, which go together; - is stdin and stdout."""
    from lorasum.system.files import STDIN, STDOUT, or_stdin

    if (source is None) != (target is None):
        raise LorasumError("--input and --output go together", "give both, or --text, --file or --sample")
    source = or_stdin(source) if source else None
    if source == STDIN:
        check_stdin_is_free("the rows")
        settings.stdin = "the rows"
    return source, STDOUT if target == Path("-") else target


def _predict_batch(
    run: "RunContext", source: Path | None, target: Path | None, adapter: str | None, yes: bool
) -> object:
    from lorasum.commands.predict_batch import predict_batch, to_be_spent

    refuse_together({"--batch": True, "--adapter": adapter})
    if not source or not target:
        raise LorasumError("--batch goes with --input and --output", "give both")
    confirm_spending(yes, lambda: to_be_spent(run))
    return predict_batch(run, source, target)


@verb(
    app,
    "lorasum evaluate configs/quickstart.yaml --limit 20\n\n"
    "lorasum evaluate configs/quickstart.yaml --fail-under rougeL=30 --fail-under faithful=0.9",
)
def evaluate(
    run: "RunContext",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Score only the first test dialogues.")] = None,
    base: Annotated[
        bool | None,
        typer.Option(
            "--base/--no-base",
            help="Compare with the base model. Default: yes, unless it needs a second paid endpoint.",
        ),
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="RUN", help="Compare with another run's summaries.")
    ] = None,
    concurrency: Concurrency = 1,
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", metavar="FIGURE=LEAST", help="Exit with 4 if it is lower: rouge1=40. Repeatable."),
    ] = None,
    yes: Yes = False,
) -> object:
    """Score the endpoint's summaries of the test dialogues, and compare them with the base model's."""
    from lorasum.commands.evaluate import evaluate
    from lorasum.scoring.thresholds import thresholds

    least = thresholds(fail_under or ())
    return evaluate(run, limit, base, compare, concurrency, least, lambda cost: confirm_spending(yes, lambda: cost))


@app.command(epilog="lorasum teardown configs/quickstart.yaml --yes\n\nlorasum teardown --all")
def teardown(
    config: Annotated[Path | None, CONFIG] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run on record; needs no config.")] = False,
    yes: Yes = False,
    data: Annotated[bool, typer.Option("--data", help="Delete the prepared datasets too.")] = False,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="Delete the trained models too.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Stop everything that the run has running, and check that nothing is left."""
    if everything and (config or data or artifacts or overrides):
        raise LorasumError("--all takes only --yes, --json and --quiet", "it stops what runs, and deletes no files")
    if everything:
        _tear_all_down(yes, as_json, quiet)
    elif config is None:
        raise LorasumError("no run is named", "give --config, or --all for every run on record")
    else:
        given = {"yes": yes, "data": data, "artifacts": artifacts}
        perform(_tear_down, given, config, overrides or [], as_json, quiet)


def _tear_down(run: "RunContext", yes: bool, data: bool, artifacts: bool) -> object:
    from lorasum.commands.teardown import plan_teardown, teardown

    if not yes:
        confirm("Do that?", plan_teardown(run, data=data, artifacts=artifacts))
    return teardown(run, data=data, artifacts=artifacts)


def _tear_all_down(yes: bool, as_json: bool, quiet: bool) -> None:
    from lorasum.commands.teardown import plan_all, teardown_all
    from lorasum.ledger.ledger import Ledger
    from lorasum.ui.reporter import ConsoleReporter

    with ConsoleReporter(quiet) as report:
        ledger = Ledger(warn=report.warn)
        backends = recorded(ledger, report)
        if not yes:
            confirm("Do that?", plan_all(ledger, backends, report))
        result = teardown_all(ledger, backends, report)
    render.show(result, as_json)
    raise_failure(result)
    raise_unread(ledger.unread())


@verb(app, "lorasum run configs/quickstart.yaml\n\nlorasum run configs/bloomz.yaml --yes")
def run(
    run: "RunContext",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the endpoint up.")] = False,
    yes: Yes = False,
) -> object:
    """Run all verbs: prepare, train, deploy, evaluate, predict a sample, teardown."""
    from lorasum.commands.run import run as run_all

    return run_all(run, keep, (lambda costs: confirm("Spend that?", costs)) if asks(yes) else None)
