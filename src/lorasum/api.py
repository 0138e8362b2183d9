"""The verbs as functions of a config: `from lorasum import load_config, prepare, train, deploy, predict`.

They do what the command line does, call by call: the same ledger, the same locks, the same jobs. They print nothing.
Warnings, such as of what is still billed, are logged; give a `Reporter` to see progress too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lorasum.cli.backends import backend
from lorasum.config.loader import load_config as read_config
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.leftovers import telling_what_runs
from lorasum.models.hub import look_at_hub_again
from lorasum.reporting import Logged, Reporter
from lorasum.results.overview import ReportResult
from lorasum.results.serving import DeployResult, EvaluateResult, TeardownResult
from lorasum.results.training import PrepareResult, TrainResult

__all__ = ["Config", "deploy", "evaluate", "load_config", "predict", "prepare", "report", "teardown", "train"]


def load_config(file: str | Path, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> Config:
    """Read and check a YAML file.

    Args:
        overrides: keys to set, such as `training.epochs=1`.

    Raises:
        ConfigError: it is wrong; `problems` has a line for each wrong key.
    """
    return read_config(Path(file), overrides, (reporter or Logged()).warn)


def prepare(config: Config, reporter: Reporter | None = None) -> PrepareResult:
    """Check the chats, tokenise them and pack them into a dataset. Nothing is done if nothing has changed.

    Raises:
        LorasumError: the chats or the model cannot be used.
    """
    from lorasum.commands.prepare import prepare

    with _run(config, reporter) as run:
        return prepare(run)


def train(config: Config, reporter: Reporter | None = None) -> TrainResult:
    """Train on the prepared dataset, and wait for the end. A job that runs is followed, and one that is done returned.

    Raises:
        LorasumError: nothing is prepared, or the job failed. The same call resumes it.
    """
    from lorasum.commands.train import train

    with _run(config, reporter) as run:
        return train(run)


def deploy(config: Config, reporter: Reporter | None = None) -> DeployResult:
    """Put the trained model behind an endpoint, which runs, and is paid for, until `teardown`.

    Raises:
        LorasumError: nothing is trained, or the endpoint did not start.
    """
    from lorasum.commands.deploy import deploy

    with _run(config, reporter) as run:
        return deploy(run)


def predict(config: Config, dialogue: str, reporter: Reporter | None = None) -> str:
    """The endpoint's summary of a dialogue.

    Raises:
        LorasumError: there is no endpoint, or it does not answer.
    """
    from lorasum.commands.predict import predict

    with _run(config, reporter) as run:
        return predict(run, dialogue).summary


def evaluate(config: Config, limit: int | None = None, reporter: Reporter | None = None) -> EvaluateResult:
    """Score the endpoint's summaries of the test dialogues, beside those of the base model where that costs nothing.

    Raises:
        LorasumError: there is no endpoint, or it does not answer.
    """
    from lorasum.commands.evaluate import evaluate

    with _run(config, reporter) as run:
        return evaluate(run, limit)


def report(config: Config, output: Path | None = None, reporter: Reporter | None = None) -> ReportResult:
    """Write one HTML page about the run.

    Raises:
        LorasumError: nothing was trained, or the page cannot be written.
    """
    from lorasum.commands.report import report

    with _run(config, reporter) as run:
        return report(run, output)


def teardown(config: Config, reporter: Reporter | None = None) -> TeardownResult:
    """Stop everything that the run has running, and look again. What is left stands in the result.

    Raises:
        LorasumError: another process is working on the run.
    """
    from lorasum.commands.teardown import teardown

    with _run(config, reporter) as run:
        return teardown(run)


@contextmanager
def _run(config: Config, reporter: Reporter | None) -> Iterator[RunContext]:
    chosen = reporter or Logged()
    look_at_hub_again()
    run = RunContext(config, lambda: backend(config, chosen), Ledger(warn=chosen.warn), chosen)
    with telling_what_runs(run):
        yield run
