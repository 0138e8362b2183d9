"""Run: the whole chain, from chats to a summary and back to nothing."""

import time
from collections.abc import Callable

from lorasum.commands.deploy import deploy
from lorasum.commands.evaluate import evaluate
from lorasum.commands.predict import predict
from lorasum.commands.prepare import prepare
from lorasum.commands.teardown import teardown
from lorasum.commands.train import to_be_spent, train
from lorasum.context import RunContext
from lorasum.errors import InterruptedRunError, LorasumError
from lorasum.lifecycle import endpoints
from lorasum.lifecycle.costs import price_note
from lorasum.lifecycle.estimate import estimate_of
from lorasum.lifecycle.placement import before_training, refuse_what_does_not_fit
from lorasum.lifecycle.planning import planned_job
from lorasum.reporting import Silent
from lorasum.results.serving import RunResult, TeardownResult
from lorasum.system.signals import clean_up


def run(run: RunContext, keep: bool = False, confirm: Callable[[list[str]], None] | None = None) -> RunResult:
    """Prepare, train, deploy, evaluate, summarise a sample, tear down.

    An endpoint that serves before `deploy` serves the new model afterwards, and is never torn down. One that a killed
    `run` has left is.

    Args:
        confirm: is shown what will cost money, a line each, before the first of it is spent, and raises to end the run.
            It is not called where nothing costs any.
        keep: leave the endpoint up when all went well. When something fails after `deploy` has begun, Ctrl-C too,
            it is torn down all the same.

    Raises:
        LorasumError: as the first verb that failed.
    """
    began = time.monotonic()
    prepared = prepare(run)
    _refuse_what_cannot_be_served(run)
    if confirm and (costs := _costs(run, keep)):
        confirm(costs)
    trained = train(run)
    with run.hold():  # so that no other command is just starting it
        stays = endpoints.serves(run)
    try:
        deployed = deploy(run, for_one_run=not stays)
        evaluated = evaluate(run)
        sample = predict(run)
        if keep:
            with run.hold() as held:
                endpoints.keep(held, run.name)
        torn_down = None if keep or stays else _torn_down(run)
    except BaseException as error:
        why = "it was interrupted" if isinstance(error, KeyboardInterrupt) else "something went wrong"
        clean_up(lambda: _tear_down(run, why, stays))
        raise
    return RunResult(run.name, prepared, trained, deployed, evaluated, sample, torn_down, time.monotonic() - began)


def _refuse_what_cannot_be_served(run: RunContext) -> None:
    """Refuse a model that has no room on the endpoint's instance before its training is paid for."""
    job = planned_job(run.config, run.ledger, Silent())
    if job.placement.types:
        needs = estimate_of(job, run.reporter).needs
        refuse_what_does_not_fit(before_training(job.placement, job.spec.model, needs))


def _costs(run: RunContext, keep: bool) -> list[str]:
    """What will cost money, a line each. The training is done or runs where it is not among them."""
    hour = run.backend.usd_per_hour("endpoint")
    serves = endpoints.serves(run)
    end = "it stays after the run, until `lorasum teardown`" if keep or serves else "until the end of this run"
    does = f"update endpoint {run.name}, which serves already" if serves else "start the endpoint"
    endpoint = "" if hour == 0 else f"{does}{price_note(hour)}, {end}"
    return [line for line in (to_be_spent(run), endpoint) if line]


def _torn_down(run: RunContext) -> TeardownResult:
    """As `teardown`, but an interrupt says nothing of what may be left: it is torn down once more."""
    try:
        return teardown(run)
    except InterruptedRunError as error:
        raise KeyboardInterrupt from error


def _tear_down(run: RunContext, why: str, stays: bool) -> None:
    """Tear down after an error. The error is raised afterwards, so a failed teardown is only a warning.

    Args:
        stays: whether the endpoint served before; one that another client has started meanwhile stays too.
    """
    try:
        if stays or endpoints.serves(run):
            run.reporter.warn(f"endpoint {run.name} is not only this run's, and is left as it is, although {why}")
            return
        run.reporter.step(f"tearing down, because {why}")
        remaining = _torn_down(run).remaining
    except LorasumError as error:
        run.reporter.warn(f"teardown failed: {error.message}; run `lorasum teardown` with this config")
        return
    if remaining:
        run.reporter.warn(f"still there: {', '.join(map(str, remaining))}; run `lorasum teardown` with this config")
