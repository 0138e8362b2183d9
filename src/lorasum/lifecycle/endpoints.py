"""The life of an endpoint: recorded, started, asked one real question, and deleted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lorasum.backends.base import is_here
from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.files import first_line
from lorasum.lifecycle.costs import cost
from lorasum.lifecycle.lock import HeldRun
from lorasum.resources import OPEN, Endpoint, Origin

PROBE: Final = "Ana: Are we still meeting at six?\nBen: Yes, at the station. Don't be late!"
"""A dialogue that a new endpoint summarises before it counts as in service."""


def start(
    held: HeldRun,
    spec: EndpointSpec,
    origin: Origin,
    probe: Callable[[EndpointRef], object],
    job: str = "",
    settings: str = "",
) -> EndpointRef:
    """Start an endpoint, have it answer one real request, and only then record it as live.

    Whatever goes wrong, Ctrl-C too: what was started is deleted, and if that fails the ledger still has it intended.

    Args:
        origin: where its artifact came from.
        probe: asks it that request, and raises where the answer is no answer.
        job: the training job that made the artifact.
        settings: what of the config decides about the endpoint.
    """
    before = held.ledger.find(Endpoint, held.name, spec.name)
    if before and before.state in OPEN and is_here(before, held.backend):
        reconcile(held, before)  # if it went unseen, nobody knows what it cost
    row = held.ledger.intend(
        Endpoint(
            run=held.name,
            name=spec.name,
            backend=held.backend.name,
            account_and_region=held.backend.account_and_region,
            artifact=spec.artifact,
            origin=origin,
            job=job,
            settings=settings,
            usd_per_hour=held.backend.usd_per_hour("endpoint"),
            usd_before=_spent(held, spec.name),
        )
    )
    try:
        endpoint = held.backend.start_endpoint(spec)
        probe(endpoint)
    except BaseException as error:
        _undo(held, spec, before, row, error)
        raise
    held.ledger.save(replace(row, state="live", location=endpoint.location))
    return endpoint


def delete(held: HeldRun, name: str) -> bool:
    """Delete an endpoint and record that it is gone. True if there was one."""
    existed = held.backend.delete_endpoint(held.name, name)
    if row := held.ledger.find(Endpoint, held.name, name):
        spent = cost(row, held.ledger.now()) if existed else row.usd_total  # else nobody knows when it went
        held.ledger.save(replace(row, state="gone", usd_total=spent))
    return existed


def reconcile(held: HeldRun, row: Endpoint) -> None:
    """Write into the ledger where a recorded endpoint stands, judged by the backend."""
    state = held.backend.endpoint_state(row.run, row.name)
    if state.status == "absent":
        held.ledger.save(replace(row, state="gone"))
    elif state.status == "failed":
        held.ledger.save(replace(row, state="failed", reason=state.reason))


def _undo(held: HeldRun, spec: EndpointSpec, before: Endpoint | None, row: Endpoint, error: BaseException) -> None:
    """Delete an endpoint that did not come to answer, unless it went back to what it served before."""
    if before and _goes_on(held, spec, before):
        again = held.ledger.intend(replace(before, usd_before=cost(before, held.ledger.now())))
        held.ledger.save(replace(again, state="live"))
        return
    held.backend.delete_endpoint(held.name, spec.name)
    spent = cost(row, held.ledger.now())  # at most: when the instance started is not known
    held.ledger.save(replace(row, state="failed", reason=first_line(error), usd_total=spent))


def _spent(held: HeldRun, name: str) -> float | None:
    """What endpoints of this name have cost up to now; None where that is unknown."""
    row = held.ledger.find(Endpoint, held.name, name)
    return cost(row, held.ledger.now()) if row else 0.0


def _goes_on(held: HeldRun, spec: EndpointSpec, before: Endpoint) -> bool:
    """Whether the endpoint, which was to serve something else, went back to what it was recorded to serve."""
    if before.state != "live" or before.artifact == spec.artifact:
        return False
    state = held.backend.endpoint_state(held.name, spec.name)
    return state.status == "in_service" and state.ref is not None and state.ref.artifact == before.artifact
