"""The verbs as functions of a config: `from lorasum import load_config, prepare, train, deploy, predict`.

They do what the command line does, call by call: the same ledger, the same locks, the same jobs. They print nothing.
Warnings, such as of what is still billed, are logged; give a `Reporter` to see progress too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import overload

from lorasum.cli.backends import backend, local, recorded
from lorasum.config import loader
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.leftovers import telling_what_runs
from lorasum.models.hub import look_at_hub_again
from lorasum.reporting import Logged, Reporter
from lorasum.results.overview import ReportResult, StatusResult
from lorasum.results.serving import DeployResult, EvaluateResult, TeardownResult
from lorasum.results.training import PlanResult, PrepareResult, TrainResult


def load_config(
    source: str | Path | Mapping[str, object], overrides: Sequence[str] = (), reporter: Reporter | None = None
) -> Config:
    """Read and check a YAML file, or a mapping with the same keys.

    Args:
        overrides: keys to set, such as `training.epochs=1`.

    Raises:
        ConfigError: it is wrong; `problems` has a line for each wrong key.
    """
    warn = (reporter or Logged()).warn
    if isinstance(source, Mapping):
        return loader.config_of(source, overrides, warn)
    return loader.load_config(Path(source), overrides, warn)


def prepare(config: Config, reporter: Reporter | None = None) -> PrepareResult:
    """Check the chats, tokenise them and pack them into a dataset. Nothing is done if nothing has changed.

    Raises:
        LorasumError: the chats or the model cannot be used.
    """
    from lorasum.commands.prepare import prepare

    with _run(config, reporter) as run:
        return prepare(run)


def plan(config: Config, reporter: Reporter | None = None) -> PlanResult:
    """What the run would take and cost, and whether it can start: `checks` says what is in its way, such as AWS that
    cannot be reached. Starts nothing.

    Raises:
        LorasumError: what is prepared does not fit the config.
    """
    from lorasum.commands.plan import plan

    with _run(config, reporter) as run:
        return plan(run)


def train(config: Config, reporter: Reporter | None = None, *, wait: bool = True, again: bool = False) -> TrainResult:
    """Train on the prepared dataset. A job that runs is followed, and one that is done returned.

    Args:
        wait: for the end. Otherwise `status` shows how far the job is, and the next `train` follows it.
        again: train even so, if a finished job used other scripts, image or settings.

    Raises:
        LorasumError: nothing is prepared, or the job failed. The same call resumes it.
    """
    from lorasum.commands.train import start_training, train

    with _run(config, reporter) as run:
        return (train if wait else start_training)(run, again)


def deploy(
    config: Config, reporter: Reporter | None = None, *, job: str | None = None, expires: str | None = None
) -> DeployResult:
    """Put the trained model behind an endpoint, which runs, and is paid for, until `teardown` or its end.

    Args:
        job: the training job to serve; by default the newest of this config.
        expires: how long it is to run, such as `4h`: sets `deploy.expires_after`. See `ends_itself` of the result.

    Raises:
        LorasumError: nothing is trained, or the endpoint did not start.
    """
    from lorasum.commands.deploy import deploy

    if expires is not None:
        config = load_config(config.model_dump(mode="json"), [f"deploy.expires_after={expires}"], reporter)
    with _run(config, reporter) as run:
        return deploy(run, job)


@overload
def predict(  # type: ignore[overload-overlap]  # a text is several texts too
    config: Config, dialogue: str, reporter: Reporter | None = None
) -> str: ...
@overload
def predict(
    config: Config, dialogue: Iterable[str], reporter: Reporter | None = None, *, concurrency: int = 1
) -> list[str | None]: ...
def predict(
    config: Config, dialogue: str | Iterable[str], reporter: Reporter | None = None, *, concurrency: int = 1
) -> str | list[str | None]:
    """The endpoint's summary of a dialogue, or of each of several, in order.

    Of several, one that the endpoint refuses has None in place of a summary, and a warning says why.

    Args:
        concurrency: requests under way at once, for several.

    Raises:
        LorasumError: there is no endpoint, or it does not answer.
    """
    from lorasum.commands.predict import predict, predict_all

    with _run(config, reporter) as run:
        if isinstance(dialogue, str):
            return predict(run, dialogue).summary
        answers = predict_all(run, [*dialogue], concurrency)
        for place, answer in enumerate(answers, start=1):
            if answer.error is not None:
                run.reporter.warn(f"dialogue {place} of {len(answers)} was refused: {answer.error}")
        return [None if answer.error is not None else answer.summary for answer in answers]


def evaluate(
    config: Config, limit: int | None = None, reporter: Reporter | None = None, *, base: bool | None = None
) -> EvaluateResult:
    """Score the endpoint's summaries of the test dialogues, beside those of the base model where that costs nothing.

    Args:
        base: True compares with the base model also where that starts a second paid endpoint; False never does.

    Raises:
        LorasumError: there is no endpoint, or it does not answer.
    """
    from lorasum.commands.evaluate import evaluate

    with _run(config, reporter) as run:
        return evaluate(run, limit, base)


def report(config: Config, output: Path | None = None, reporter: Reporter | None = None) -> ReportResult:
    """Write one HTML page about the run.

    Raises:
        LorasumError: nothing was trained, or the page cannot be written.
    """
    from lorasum.commands.report import report

    with _run(config, reporter) as run:
        return report(run, output)


def status(config: Config | None = None, reporter: Reporter | None = None) -> StatusResult:
    """What exists, what runs and what it costs, of the run or of all runs; `alarms` has what may cost without need.

    Raises:
        LorasumError: the run's account cannot be asked.
    """
    from lorasum.commands.status import status

    chosen = reporter or Logged()
    ledger = Ledger(warn=chosen.warn)
    backends = [local(), backend(config, chosen)] if config else recorded(ledger, chosen)
    return status(backends, ledger, config.name if config else None, everything=False)


def teardown(
    config: Config, reporter: Reporter | None = None, *, data: bool = False, artifacts: bool = False
) -> TeardownResult:
    """Stop everything that the run has running, and look again. What is left stands in the result.

    Args:
        data: delete the prepared datasets too.
        artifacts: delete the trained models too.

    Raises:
        LorasumError: another process is working on the run.
    """
    from lorasum.commands.teardown import teardown

    with _run(config, reporter) as run:
        return teardown(run, data, artifacts)


@contextmanager
def _run(config: Config, reporter: Reporter | None) -> Iterator[RunContext]:
    chosen = reporter or Logged()
    look_at_hub_again()
    run = RunContext(config, lambda: backend(config, chosen), Ledger(warn=chosen.warn), chosen)
    with telling_what_runs(run):
        yield run
