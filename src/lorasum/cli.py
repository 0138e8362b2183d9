"""The command line: options, and the one place where an error becomes a message and an exit code.

What takes time to import is imported where it is used, so that `lorasum --help` is immediate.
"""

import errno
import io
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
import typer.main

from lorasum import __version__, streams
from lorasum.arguments import as_meant
from lorasum.errors import BackendError, LorasumError, OverdueError, ScoreError
from lorasum.interrupts import INTERRUPTED, Interrupts
from lorasum.ui import render

if TYPE_CHECKING:
    from lorasum.backends.base import Backend
    from lorasum.config.schema import Config
    from lorasum.context import RunContext
    from lorasum.reporting import Reporter

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, pretty_exceptions_show_locals=False)
config_app = typer.Typer(help="Show all keys of configs, or a config as it is used.")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_interrupts = Interrupts()
_verbose = False  # set by -v before or after the verb, read by the error handler


def _set_verbose(value: bool) -> None:
    global _verbose
    _verbose = _verbose or value


def _print_version(value: bool) -> None:
    if value:
        render.text(f"lorasum {__version__}")
        raise typer.Exit


Place = Literal["local", "sagemaker"]
_CONFIG = typer.Option("--config", "-c", metavar="FILE", help="The YAML file of the run.", show_default=False)
ConfigFile = Annotated[Path, _CONFIG]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key: training.epochs=1. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings, errors and the result.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show tracebacks and jobs' logs.", callback=_set_verbose)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to questions.")]


def main() -> None:
    """Run the command line and exit: 0, 1 unexpected, 2 something to put right, 130 interrupted, 141 reader gone."""
    streams.open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an emoji in a summary must not fail in a C locale
    _interrupts.install()
    os.environ.setdefault(
        "TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"
    )  # no warning that torch is missing: the client needs none
    try:
        code = _exit_code(sys.argv[1:] or ["--help"])
    except OSError:  # stderr cannot be written either: the error cannot be shown
        code = LorasumError.exit_code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # it was reported above, unless the reader left; Python would report it again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    _interrupts.uninstall()
    sys.exit(code)


def _exit_code(arguments: list[str]) -> int:
    """Run one command, print its error if it fails, and return the exit code. Typer's own handler is not used."""
    command = typer.main.get_group(app)
    try:
        with command.make_context("lorasum", as_meant(arguments, command.commands)) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        render.say("nothing was changed")
        return 1
    except typer.TyperException as error:  # usage
        command_context = getattr(error, "ctx", None)
        hint = f"see {command_context.command_path if command_context else 'lorasum'} --help"
        render.error(LorasumError(error.format_message(), hint))
        return error.exit_code
    except LorasumError as error:
        render.error(error, _verbose)
        return error.exit_code
    except KeyboardInterrupt:
        render.say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # as in `lorasum status | head -1`
        return 141
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:  # a stream, no file of ours
            reason = os.strerror(error.errno or 0)
            render.error(
                LorasumError(f"cannot write what was to be printed: {reason}", "free some disk space"), _verbose
            )
            return LorasumError.exit_code
        render.unexpected(error, _verbose)
        return 1


def backend(config: "Config", report: "Reporter") -> "Backend":
    """The backend that a config names. Only this function knows all backends."""
    if config.backend == "sagemaker":
        from lorasum.backends.sagemaker.backend import SageMakerBackend

        return SageMakerBackend(config.sagemaker, report)
    from lorasum.backends.local.backend import LocalBackend

    return LocalBackend()


def _run(
    file: Path, overrides: list[str] | None, as_json: bool, quiet: bool, command: Callable[["RunContext"], object]
) -> None:
    """Load the config, run `command` and show what it returns.

    Raises:
        LorasumError: a teardown left something running, or rows were refused. The result is shown all the same.
    """
    from lorasum.config.loader import load_config
    from lorasum.context import RunContext
    from lorasum.ledger import Ledger
    from lorasum.results import BatchPrediction, EvaluateResult, RunResult, TeardownResult
    from lorasum.ui.reporter import ConsoleReporter

    _interrupts.removes = shlex.join(["lorasum", "teardown", "--config", str(file)])
    with ConsoleReporter(quiet, _verbose) as report:
        loaded = load_config(file, overrides or (), report.warn)
        result = command(RunContext(loaded, lambda: backend(loaded, report), Ledger(warn=report.warn), report))
    render.show(result, as_json)
    torn = result.teardown if isinstance(result, RunResult) else result
    if isinstance(result, BatchPrediction) and result.failures:
        first = result.failures[0]
        raise LorasumError(
            f"{len(result.failures)} of {result.rows} rows were refused, line {first.line} first: {first.reason}",
            "in the output they have `error` instead of `summary`; --json lists them all",
        )
    if isinstance(result, EvaluateResult) and result.missed:
        raise ScoreError(f"the model is not good enough: {'; '.join(result.missed)}", f"look at {result.summaries}")
    if isinstance(torn, TeardownResult) and torn.remaining:
        raise BackendError(f"still there: {'; '.join(torn.remaining)}", "run `lorasum teardown` again")


@app.callback(
    epilog="Start with: lorasum init chats.csv, or: lorasum init --example quickstart",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def lorasum(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Verbose = False,
) -> None:
    """From chat logs to a fine-tuned summariser behind an endpoint, and back to zero cost."""


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
    place: Annotated[Place | None, typer.Option("--backend", help="Where to train and serve.")] = None,
    dialogue: Annotated[
        str | None, typer.Option("--dialogue", metavar="COLUMN", help="The column of the dialogue.")
    ] = None,
    summary: Annotated[
        str | None, typer.Option("--summary", metavar="COLUMN", help="The column of the summary.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", metavar="DATA", help="A file or folder to test on.")] = None,
    example: Annotated[
        str | None, typer.Option("--example", metavar="NAME", help="Write an example: quickstart, qwen or bloomz.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a config for your chats, chosen by a look at them; or one of the examples."""
    from lorasum.commands.init import Wishes, init, write_example

    if example is not None:
        if data or any((name, model, place, dialogue, summary, test)):
            raise LorasumError("--example takes only --output, --force and --json", "leave the others out")
        render.show(write_example(example, output, force), as_json)
        return
    wishes = Wishes(name, model, place, dialogue, summary, test)
    ask = render.ask if sys.stdin.isatty() and sys.stderr.isatty() else None
    render.show(init(data or (), output or Path("run.yaml"), wishes, force, ask), as_json)


@app.command(
    epilog="lorasum prepare -c configs/quickstart.yaml --show 3\n\n"
    "lorasum prepare -c configs/quickstart.yaml --set data.train=chats/ --set data.test_fraction=0.1 --redact"
)
def prepare(
    config: ConfigFile,
    show: Annotated[int, typer.Option("--show", min=0, help="Print this many examples as the model sees them.")] = 0,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace emails, phone and card numbers: data.redact=true.")
    ] = False,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check the chats, tokenise them and pack them into a dataset."""
    from lorasum.commands.prepare import prepare

    overrides = [*(overrides or ()), *(["data.redact=true"] if redact else [])]
    _run(config, overrides, as_json, quiet, lambda context: prepare(context, show))


@app.command(epilog="lorasum plan -c configs/bloomz.yaml")
def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a run takes and costs, and whether it can start. Starts nothing."""
    from lorasum.commands.plan import plan

    _run(config, overrides, as_json, quiet, plan)


@app.command(epilog="lorasum train -c configs/quickstart.yaml --set training.epochs=2")
def train(
    config: ConfigFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the job and start nothing.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start the job and do not follow it.")] = False,
    yes: Yes = False,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fine-tune the model on the prepared dataset: LoRA, merged at the end."""
    from lorasum.commands.train import plan_training, start_training, to_be_spent, train

    def command(run: "RunContext") -> object:
        if not yes and sys.stdin.isatty() and (what := to_be_spent(run)):
            _confirm("Start it?", [what])
        return start_training(run) if no_wait else train(run)

    _run(config, overrides, as_json, quiet, plan_training if dry_run else command)


@app.command(epilog="lorasum deploy -c configs/quickstart.yaml --for 4h")
def deploy(
    config: ConfigFile,
    job: Annotated[
        str | None, typer.Option("--job", metavar="NAME", help="The training job to serve; default: this config's.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TIME", help="The endpoint goes by itself after this: 90m, 4h, 2d. deploy.expires_after."
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put the fine-tuned model behind an endpoint."""
    from lorasum.commands.deploy import deploy

    overrides = [*(overrides or ()), *([f"deploy.expires_after={expires}"] if expires is not None else [])]
    _run(config, overrides, as_json, quiet, lambda run: deploy(run, job))


@app.command(
    epilog="lorasum predict -c configs/quickstart.yaml --sample\n\n"
    "lorasum predict -c configs/quickstart.yaml < chat.txt\n\n"
    "lorasum predict -c configs/quickstart.yaml --input chats.jsonl --output summaries.jsonl"
)
def predict(
    config: ConfigFile,
    text: Annotated[str | None, typer.Option("--text", metavar="DIALOGUE", help="A dialogue.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A text, or a chat app's export; - reads stdin.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--input", metavar="ROWS", help="Many dialogues.")] = None,
    target: Annotated[Path | None, typer.Option("--output", metavar="JSONL", help="Their summaries.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests at once, for --input.")] = 1,
    sample: Annotated[bool, typer.Option("--sample", help="A random test dialogue, with its reference.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Summarise one dialogue (--text, --file, --sample or stdin), or all rows of a file (--input)."""
    from lorasum.commands.dialogue import given_dialogue
    from lorasum.commands.predict import predict_sample, predict_text
    from lorasum.commands.predict_file import predict_file

    given = {"--text": text, "--file": file, "--input": source, "--sample": sample or None}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise LorasumError(f"{' and '.join(names)} do not go together", "give one of them")
    if (source is None) != (target is None):
        raise LorasumError("--input and --output go together", "give both, or --text, --file or --sample")
    common = (config, overrides, as_json, quiet)
    if source and target:
        _run(*common, lambda context: predict_file(context, source, target, concurrency))
    elif sample:
        _run(*common, predict_sample)
    else:
        _run(*common, lambda context: predict_text(context, given_dialogue(text, file, context)))


@app.command(
    epilog="lorasum evaluate -c configs/quickstart.yaml --limit 20\n\n"
    "lorasum evaluate -c configs/quickstart.yaml --fail-under rougeL=30 --fail-under faithful=0.9"
)
def evaluate(
    config: ConfigFile,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Score only the first test dialogues.")] = None,
    base: Annotated[
        bool | None,
        typer.Option(
            "--base/--no-base",
            help="Compare with the base model. By default only if that costs nothing.",
        ),
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="RUN", help="Compare with another run's summaries.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests at once.")] = 1,
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", metavar="FIGURE=LEAST", help="Exit with 4 if it is lower: rouge1=40. Repeatable."),
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score the endpoint's summaries of the test dialogues, and compare them with the base model's."""
    from lorasum.commands.evaluate import evaluate, limits

    at_least = limits(fail_under or ())
    common = (config, overrides, as_json, quiet)
    _run(*common, lambda context: evaluate(context, limit, base, compare, concurrency, at_least))


@app.command(epilog="lorasum teardown -c configs/quickstart.yaml --yes")
def teardown(
    config: ConfigFile,
    yes: Yes = False,
    data: Annotated[bool, typer.Option("--data", help="Delete the prepared datasets too.")] = False,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="Delete the trained models too.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Stop everything that the run has running, and check that nothing is left."""
    from lorasum.commands.teardown import plan_teardown, teardown

    def command(run: "RunContext") -> object:
        if not yes:
            _confirm("Do that?", plan_teardown(run, data=data, artifacts=artifacts))
        return teardown(run, data=data, artifacts=artifacts)

    _run(config, overrides, as_json, quiet, command)


@app.command(epilog="lorasum run -c configs/quickstart.yaml")
def run(
    config: ConfigFile,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the endpoint up.")] = False,
    yes: Yes = False,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run all verbs: prepare, train, deploy, evaluate, predict a sample, teardown."""
    from lorasum.commands.run import run

    _run(config, overrides, as_json, quiet, lambda context: run(context, keep=keep))


@app.command(epilog="lorasum status")
def status(
    config: Annotated[Path | None, _CONFIG] = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what exists, what is running and what it costs, of all runs or of one."""
    from lorasum.backends.local.backend import LocalBackend
    from lorasum.commands.status import status
    from lorasum.config.loader import load_config
    from lorasum.ledger import Ledger
    from lorasum.reporting import Silent
    from lorasum.ui.reporter import ConsoleReporter

    # Only a config says in which account and region to look. Without one, resources are shown as recorded.
    run = load_config(config, overrides or (), ConsoleReporter(quiet).warn) if config else None
    chosen = backend(run, Silent()) if run else LocalBackend()
    backends = {"local": LocalBackend(), chosen.name: chosen}
    shown = status(backends, Ledger(warn=render.say), run.name if run else None)
    render.show(shown, as_json)
    if shown.alarms:
        hint = "`lorasum teardown` with the run's config ends it" + ("" if run else "; with --config, status asks AWS")
        raise OverdueError("; ".join(shown.alarms), hint)


@app.command(epilog="lorasum logs -c configs/quickstart.yaml -f")
def logs(
    config: ConfigFile,
    endpoint: Annotated[bool, typer.Option("--endpoint", help="The endpoint's log, not the training job's.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new lines until it ends.")] = False,
    overrides: Overrides = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print the log of the newest training job or of the endpoint."""
    from lorasum.commands.logs import logs

    _run(config, overrides, False, quiet, lambda context: logs(context, endpoint, follow))


@app.command(epilog="lorasum runs")
def runs(as_json: Json = False, verbose: Verbose = False) -> None:
    """List the runs with their disk space, age, cost and score."""
    from lorasum.commands.runs import runs
    from lorasum.ledger import Ledger

    render.show(runs(Ledger(warn=render.say)), as_json)


app.add_typer(config_app, name="config")


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


def _confirm(question: str, lines: list[str]) -> None:
    """Show `lines` and ask whether to do that. Abort unless the answer is yes; ask nothing if there are no lines."""
    if not sys.stdin.isatty():
        raise LorasumError("this needs a yes, and there is no terminal to ask on", "pass --yes")
    if lines and not render.confirm(question, lines):
        raise typer.Abort
