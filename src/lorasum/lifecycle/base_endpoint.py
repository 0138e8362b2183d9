"""The base model's endpoint, which is started for an evaluation and deleted by it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from lorasum.backends.base import is_here
from lorasum.backends.records import EndpointRef, EndpointSpec, JobRef
from lorasum.context import RunContext
from lorasum.errors import UnseenError
from lorasum.ledger.resources import Endpoint, Origin
from lorasum.lifecycle import endpoints, expiry
from lorasum.lifecycle.costs import price_note
from lorasum.lifecycle.placement import Placement, shape_of_artifact
from lorasum.lifecycle.summarizer import Summarizer
from lorasum.lifecycle.teardowns import TeardownWatch
from lorasum.system import paths
from lorasum.system.retry import until_answered
from lorasum.system.signals import clean_up

_BASE: Final = "--base"
"""Ends the endpoint's name. No run's name has two hyphens in a row, so no run can have this name."""
_BETWEEN_TRIES = 5.0  # seconds, while the backend does not answer: what it has is billed meanwhile


def ask(
    run: RunContext, spec: EndpointSpec, origin: Origin, price: float | None, asking: Callable[[Summarizer], list[str]]
) -> list[str]:
    """Start the endpoint, ask it, and delete it whatever happens.

    The run is not held while it is asked, which may take hours: somebody may want to tear it down.
    """

    watch = TeardownWatch(run.name)

    def summarizer(endpoint: EndpointRef) -> Summarizer:
        return Summarizer(run.backend, endpoint, origin, run.config.predict)

    def probe(endpoint: EndpointRef) -> None:
        watch.check()  # a teardown gives up while this command holds the run's lock
        summarizer(endpoint).summarize([endpoints.PROBE])
        watch.check()

    run.reporter.step(f"starting endpoint {spec.name} for the base model{price_note(price)}")
    as_asked = Origin(template=origin.template, control_tokens=origin.control_tokens)
    began = False
    try:
        with run.hold() as held:
            began = True
            wanted = endpoints.row_of(run.backend, run.name, spec.name, spec.artifact, as_asked)
            end = expiry.end_of(run, None, None, price)
            row = endpoints.start(held, replace(wanted, expires_at=end), spec, probe)
        return asking(summarizer(EndpointRef(row.name, row.location, row.artifact)))
    finally:
        if began:
            with suppress(UnseenError):  # it stays on record, and is told of with what a command leaves
                clean_up(lambda: _delete(run, spec.name))


def spec_of(run: RunContext, model: str) -> EndpointSpec:
    """The base model's endpoint. It is as large as the trained model's."""
    job = served_job(run)
    placement = Placement.of(run.config, shape_of_artifact(run.backend, job) if job else None)
    return EndpointSpec(
        run=run.name,
        name=f"{run.name}{_BASE}",
        artifact=model,
        code=paths.container_scripts(),
        startup_timeout=run.config.local.startup_timeout,
        gpus=placement.tensor_parallel_size,
        shortens_context=placement.shortens_context,
    )


def remove_leftover(run: RunContext) -> None:
    """Delete a base model's endpoint whose summaries are all kept, or not wanted: nobody would ask it any more."""
    if row := _row(run):
        run.reporter.step(f"removing {row}, which an evaluation that was killed has left")
        _delete(run, row.name)


def served_job(run: RunContext) -> JobRef | None:
    """The job whose artifact the run's endpoint serves."""
    row = run.ledger.find(Endpoint, run.name, run.name)
    return run.backend.find_training(run.name, row.job) if row and row.job else None


def _delete(run: RunContext, name: str) -> None:
    """Delete an endpoint that is billed, as soon as the backend answers."""
    with run.hold() as held:
        until_answered(partial(endpoints.delete, held, name), _BETWEEN_TRIES, run.reporter)


def _row(run: RunContext) -> Endpoint | None:
    """The record of the base model's endpoint, if it may be running here."""
    row = run.ledger.find(Endpoint, run.name, f"{run.name}{_BASE}")
    return row if row and row.is_open and is_here(row, run.backend) else None
