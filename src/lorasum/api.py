"""The verbs as functions of a config: `from lorasum import load_config, prepare, train, deploy, predict`.

They do what the command line does, call by call: the same ledger, the same locks, the same jobs. They print nothing;
give a `Reporter` to see progress.
"""

from collections.abc import Sequence
from pathlib import Path

from lorasum.cli.backends import backend
from lorasum.config.loader import load_config as read_config
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.ledger.ledger import Ledger
from lorasum.models.hub import look_at_hub_again
from lorasum.reporting import Reporter, Silent
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
    return read_config(Path(file), overrides, (reporter or Silent()).warn)


def prepare(config: Config, reporter: Reporter | None = None) -> PrepareResult:
    """Check the chats, tokenise them and pack them into a dataset. Nothing is done if nothing has changed.

    Raises:
        LorasumError: the chats or the model cannot be used.
    """
    from lorasum.commands.prepare import prepare

    return prepare(_context(config, reporter))


def train(config: Config, reporter: Reporter | None = None) -> TrainResult:
    """Train on the prepared dataset, and wait for the end. A job that runs is followed, and one that is done returned.

    Raises:
        LorasumError: nothing is prepared, or the job failed. The same call resumes it.
    """
    from lorasum.commands.train import train

    return train(_context(config, reporter))


def deploy(config: Config, reporter: Reporter | None = None) -> DeployResult:
    """Put the trained model behind an endpoint, which runs, and is paid for, until `teardown`.

    Raises:
        LorasumError: nothing is trained, or the endpoint did not start.
    """
    from lorasum.commands.deploy import deploy

    return deploy(_context(config, reporter))


def predict(config: Config, dialogue: str, reporter: Reporter | None = None) -> str:
    """The endpoint's summary of a dialogue.

    Raises:
        LorasumError: there is no endpoint, or it does not answer.
    """
    from lorasum.commands.predict import predict

    return predict(_context(config, reporter), dialogue).summary


def evaluate(config: Config, limit: int | None = None, reporter: Reporter | None = None) -> EvaluateResult:
    """Score the endpoint's summaries of the test dialogues, beside those of the base model where that costs nothing.

    Raises:
        LorasumError: there is no endpoint, or it does not answer.
    """
    from lorasum.commands.evaluate import evaluate

    return evaluate(_context(config, reporter), limit)


def report(config: Config, output: Path | None = None, reporter: Reporter | None = None) -> ReportResult:
    """Write one HTML page about the run.

    Raises:
        LorasumError: nothing was trained, or the page cannot be written.
    """
    from lorasum.commands.report import report

    return report(_context(config, reporter), output)


def teardown(config: Config, reporter: Reporter | None = None) -> TeardownResult:
    """Stop everything that the run has running, and look again. What is left stands in the result.

    Raises:
        LorasumError: another process is working on the run.
    """
    from lorasum.commands.teardown import teardown

    return teardown(_context(config, reporter))


def _context(config: Config, reporter: Reporter | None) -> RunContext:
    chosen = reporter or Silent()
    look_at_hub_again()
    return RunContext(config, lambda: backend(config, chosen), Ledger(warn=chosen.warn), chosen)
