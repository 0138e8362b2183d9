"""Run: the whole chain, from chats to a summary and back to nothing."""

import time

from lorasum.backends.base import Backend
from lorasum.commands.deploy import deploy
from lorasum.commands.evaluate import evaluate
from lorasum.commands.predict import predict_sample
from lorasum.commands.prepare import prepare
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.ledger import Ledger
from lorasum.reporting import Reporter
from lorasum.results import RunResult


def run(config: Config, backend: Backend, ledger: Ledger, report: Reporter, keep: bool = False) -> RunResult:
    """Prepare, train, deploy, evaluate, summarise a sample, tear down.

    Args:
        keep: leave the endpoint up when all went well. When something fails after `deploy` has begun, Ctrl-C too,
            it is torn down all the same.

    Raises:
        LorasumError: as the first verb that failed.
    """
    began = time.monotonic()
    prepared = prepare(config, backend, ledger, report)
    trained = train(config, backend, ledger, report)
    try:
        deployed = deploy(config, backend, ledger, report)
        evaluated = evaluate(config, backend, ledger, report)
        sample = predict_sample(config, backend, ledger)
    except BaseException:
        _clean_up(config, backend, ledger, report)
        raise
    torn_down = None if keep else teardown(config, backend, ledger, report)
    return RunResult(prepared, trained, deployed, evaluated, sample, torn_down, time.monotonic() - began)


def _clean_up(config: Config, backend: Backend, ledger: Ledger, report: Reporter) -> None:
    """Tear down without a word over the error that made it necessary, unless something is left."""
    report.step("tearing down, because something went wrong")
    try:
        remaining = teardown(config, backend, ledger, report).remaining
    except LorasumError as error:
        report.warn(f"teardown failed: {error.message}; run `lorasum teardown` with this config")
        return
    if remaining:
        report.warn(f"still there: {', '.join(remaining)}; run `lorasum teardown` with this config")
