"""Run: the whole chain, from chats to a summary and back to nothing."""

import time

from lorasum.commands.deploy import deploy
from lorasum.commands.evaluate import evaluate
from lorasum.commands.predict import predict_sample
from lorasum.commands.prepare import prepare
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.results import RunResult


def run(run: RunContext, keep: bool = False) -> RunResult:
    """Prepare, train, deploy, evaluate, summarise a sample, tear down.

    Args:
        keep: leave the endpoint up when all went well. When something fails after `deploy` has begun, Ctrl-C too,
            it is torn down all the same.

    Raises:
        LorasumError: as the first verb that failed.
    """
    began = time.monotonic()
    prepared = prepare(run)
    trained = train(run)
    try:
        deployed = deploy(run)
        evaluated = evaluate(run)
        sample = predict_sample(run)
    except BaseException as error:
        _clean_up(run, "it was interrupted" if isinstance(error, KeyboardInterrupt) else "something went wrong")
        raise
    torn_down = None if keep else teardown(run)
    return RunResult(prepared, trained, deployed, evaluated, sample, torn_down, time.monotonic() - began)


def _clean_up(run: RunContext, why: str) -> None:
    """Tear down after an error. The error is raised afterwards, so a failed teardown is only a warning."""
    run.reporter.step(f"tearing down, because {why}")
    try:
        remaining = teardown(run).remaining
    except LorasumError as error:
        run.reporter.warn(f"teardown failed: {error.message}; run `lorasum teardown` with this config")
        return
    if remaining:
        run.reporter.warn(f"still there: {', '.join(remaining)}; run `lorasum teardown` with this config")
