"""The life of an endpoint: recorded, started, asked one real question, and deleted."""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import EndpointRef, EndpointSpec, EndpointState
from lorasum.context import Run
from lorasum.errors import BackendError, NoAnswerError, UnseenError
from lorasum.formatting import clock
from lorasum.ledger.resources import OPEN, Endpoint, Origin
from lorasum.lifecycle import expiry, unseen
from lorasum.lifecycle.costs import cost
from lorasum.lifecycle.teardowns import TornDownError
from lorasum.lock import HeldRun
from lorasum.system.files import first_line
from lorasum.system.retry import until_answered
from lorasum.system.signals import clean_up

PROBE: Final = "Ana: Are we still meeting at six?\nBen: Yes, at the station. Don't be late!"
"""A dialogue that a new endpoint summarises before it counts as in service."""
_BETWEEN_PROBES = 5.0  # seconds


def start(held: HeldRun, row: Endpoint, spec: EndpointSpec, probe: Callable[[EndpointRef], object]) -> Endpoint:
    """Start an endpoint, have it answer one real request, and only then record it as live.

    If anything goes wrong, Ctrl-C included, what was started is deleted. If that fails too, the ledger has it as
    intended. An endpoint that served before goes back to what it served, and is not deleted; nor is one that another
    client has started at the same time.

    Args:
        row: to be recorded. Its end is arranged before it is started, so that it holds whatever happens then.
        probe: sends that request, and raises if it is not answered. After a NoAnswerError it is called again, until the
            model should have been loaded.
    """
    before = _known(held, spec.name)
    earlier = held.backend.endpoint_state(held.name, spec.name)
    killed = before.mark if before and before.state == "intended" else ""  # what that start has asked for is ours
    spec = replace(spec, mark=killed or secrets.token_hex(8))
    total = spent(held.backend, before, earlier, held.ledger.now())
    row = held.ledger.intend(replace(row, mark=spec.mark, usd_before=total))
    try:
        row = expiry.arrange(held, row, row.expires_at, None if earlier.status == "absent" else before)
        endpoint = held.backend.start_endpoint(spec, lambda: unseen.asking(held.ledger, row))
        _ask_until_loaded(held, endpoint, probe)
        live = held.ledger.save(replace(row, state="live", location=endpoint.location))
    except BaseException as error:
        reason = error
        with suppress(UnseenError):  # it stays on record as intended, and is told of with what a command leaves
            clean_up(lambda: _undo(held, earlier, before, row, reason))
        raise
    _tidy_up(held, row)
    return live


def kept_for(held: HeldRun, row: Endpoint, for_one_run: bool) -> Endpoint:
    """The row of an endpoint that serves, recorded as one that stays, or that goes at the end of a `run`."""
    return row if row.for_one_run == for_one_run else held.ledger.note(replace(row, for_one_run=for_one_run))


def keep(held: HeldRun, name: str) -> None:
    """Record that an endpoint stays, which a `run` has started."""
    if row := held.ledger.find(Endpoint, held.name, name):
        kept_for(held, row, for_one_run=False)


def delete(held: HeldRun, name: str) -> bool:
    """Delete an endpoint and record that it is gone. True if there was one."""
    existed = held.backend.delete_endpoint(held.name, name)
    row = held.ledger.find(Endpoint, held.name, name)
    if row and existed:
        held.ledger.save(replace(row, state="gone", usd_total=cost(row, held.ledger.now())))
    elif row:
        reconcile(held, row)
    return existed


def serves(run: Run) -> bool:
    """Whether a run's endpoint may be answering somebody. What a killed `deploy` or `run` has left answers nobody."""
    row = run.ledger.find(Endpoint, run.name, run.name)
    was_left = row and row.is_open and (row.state == "intended" or row.for_one_run) and is_here(row, run.backend)
    return not was_left and run.backend.endpoint_state(run.name, run.name).status in ("in_service", "creating")


def spent(backend: Backend, row: Endpoint | None, state: EndpointState, now: datetime) -> float | None:
    """What an endpoint, and those before it of its name, have cost up to now; None if that is unknown.

    Args:
        row: of this name; None if there is none.
        state: of the endpoint. One that no open row knows has cost its price since it was started.
    """
    known = cost(row, now) if row else 0.0
    price = backend.usd_per_hour("endpoint")
    if state.status == "absent" or price == 0 or (row and row.state in OPEN):
        return known
    if known is None or price is None or state.created is None:
        return None
    return known + price * max((now - state.created).total_seconds(), 0.0) / 3600


def row_of(backend: Backend, run: str, name: str, artifact: str, origin: Origin) -> Endpoint:
    """What the ledger is told of an endpoint that is to start or was found."""
    return Endpoint(
        run=run,
        name=name,
        backend=backend.name,
        account_and_region=backend.account_and_region,
        access=backend.access,
        artifact=artifact,
        origin=origin,
        usd_per_hour=backend.usd_per_hour("endpoint"),
    )


def reconcile(held: HeldRun, row: Endpoint) -> None:
    """Update the ledger's row of an endpoint to the state that the backend shows."""
    state = held.backend.endpoint_state(row.run, row.name)
    now = held.ledger.now()
    if state.instances not in (0, row.instances):
        row = held.ledger.note(replace(row, instances=state.instances))
    if state.status == "absent" and row.expires_at and expiry.ended_itself(row, now):
        why = f"its time was over at {clock(row.expires_at, now)}, and it ended by itself"
        held.ledger.save(replace(row, state="gone", reason=why, usd_total=cost(row, row.expires_at)))
    elif state.status == "absent":
        if not unseen.stays(held.ledger, row):
            held.ledger.save(replace(row, state="gone"))
    elif state.status == "failed":
        record = held.ledger.note if row.state == "failed" else held.ledger.save
        record(replace(row, state="failed", reason=state.reason))
    elif row.state == "failed" or (row.state == "intended" and row.reason):  # whether it answers, nobody has asked
        held.ledger.save(replace(row, state="intended", reason=""))


def _tidy_up(held: HeldRun, row: Endpoint) -> None:
    """Remove what an endpoint that has answered replaced, and have the parts that it has now go with it.

    Its record says already that it is live, so neither an error nor Ctrl-C undoes it.

    Raises:
        BackendError: its time was over before it had answered, and it is deleted. What was to end it then may have been
            refused: SageMaker deletes no endpoint that is being created or updated.
    """
    now = held.ledger.now()
    if row.expires_at and row.expires_at <= now:
        delete(held, row.name)
        raise BackendError(
            f"endpoint {row.name} had not answered when its time was over at {clock(row.expires_at, now)}: "
            "it is deleted",
            "give it longer, with `lorasum deploy --for` or limits",
        )
    try:
        held.backend.confirm_endpoint(held.name, row.name)
        if row.ends_itself:
            held.backend.expire_endpoint(held.name, row.name, row.expires_at)
    except BackendError as error:
        held.reporter.warn(f"{error.message}: parts of the endpoint may be kept without it, at no cost")


def _ask_until_loaded(held: HeldRun, endpoint: EndpointRef, probe: Callable[[EndpointRef], object]) -> None:
    """Ask until there is an answer: an endpoint may be in service before its model is loaded.

    Raises:
        BackendError: it refused, it is no longer in service, or its time is up; the end of its log has been reported.
    """
    deadline = time.monotonic() + endpoint.load_seconds
    try:
        while True:
            try:
                until_answered(partial(probe, endpoint), _BETWEEN_PROBES, held.reporter)
                return
            except NoAnswerError as error:
                _check_it_may_yet_answer(held, endpoint, deadline, error)
                held.reporter.step(f"{error.message}: it may still be loading its model, so it is asked again")
                time.sleep(_BETWEEN_PROBES)
    except BackendError:
        for line in held.backend.log_tail(endpoint):
            held.reporter.step(f"log: {line}")
        raise


def _check_it_may_yet_answer(held: HeldRun, endpoint: EndpointRef, deadline: float, error: NoAnswerError) -> None:
    if time.monotonic() > deadline:
        raise BackendError(
            f"endpoint {endpoint.name} did not answer in the {endpoint.load_seconds:.0f} s that its model may take to "
            f"load; last: {error.message}",
            error.hint,
        ) from error
    state = held.backend.endpoint_state(held.name, endpoint.name)
    if state.status != "in_service":
        raise BackendError(
            f"endpoint {endpoint.name} is {state.status} before it has answered: {state.reason or error.message}",
            "see its log",
        ) from error


def _known(held: HeldRun, name: str) -> Endpoint | None:
    """What is on record of an endpoint, after a look at whether it is there: if it has gone, its cost is unknown."""
    row = held.ledger.find(Endpoint, held.name, name)
    if row and row.state in OPEN and is_here(row, held.backend):
        reconcile(held, row)
    return held.ledger.find(Endpoint, held.name, name)


def _undo(
    held: HeldRun,
    earlier: EndpointState,
    before: Endpoint | None,
    row: Endpoint,
    error: BaseException,
) -> None:
    """Delete an endpoint that has not answered. One that served before this command goes on serving, unless its run
    was torn down: that teardown has given up, and nobody may come back to it.

    Args:
        earlier: the state of the endpoint of this name before the command.
        before: its row in the ledger before the command; `row` is that of now.
    """
    torn_down = isinstance(error, TornDownError)
    existed = False
    if is_first := earlier.status == "absent":
        existed = held.backend.delete_endpoint(held.name, row.name, "" if torn_down else row.mark)
        earlier = held.backend.endpoint_state(held.name, row.name)  # there is one where another client has started it
    served = earlier.ref if earlier.status in ("in_service", "creating") else None
    if served and not torn_down and (now := _goes_on(held, served, before, row)):
        same = before is not None and before.state in OPEN and before.artifact == now.artifact
        of_run = before is not None and before.is_open and before.for_one_run
        serving = before if before and same else replace(row, artifact=now.artifact, settings="", adapters=())
        serving = replace(serving, for_one_run=of_run, expires_at=row.expires_at, ends_itself=row.ends_itself)
        total = spent(held.backend, before, earlier, held.ledger.now())
        again = held.ledger.intend(replace(serving, usd_before=total))
        held.ledger.save(replace(again, state="live", location=now.location))
        held.reporter.warn(f"endpoint {row.name} keeps running, and is billed, with {now.artifact}")
        return
    if not is_first:
        existed = held.backend.delete_endpoint(held.name, row.name)
    if row.asked and not existed:
        return  # what a killed command has asked for may yet be shown
    total = cost(row, held.ledger.now())  # at most: when the instance started is not known
    held.ledger.save(replace(row, state="failed", reason=first_line(error), usd_total=total))


def _goes_on(held: HeldRun, served: EndpointRef, before: Endpoint | None, row: Endpoint) -> EndpointRef | None:
    """What an endpoint that was in service before the command serves from now on; None if it never answered.

    It is put back to what it served. It may have rolled back by itself, or never have been updated. One that is only
    intended, from a command that was killed, has not answered anybody yet.
    """
    try:
        if back := held.backend.restore_endpoint(held.name, row.name):
            return back
    except BackendError as error:
        held.reporter.warn(error.message)
        return served
    state = held.backend.endpoint_state(held.name, row.name)
    as_before = state.status == "in_service" and state.ref is not None and state.ref.artifact == served.artifact
    return state.ref if as_before and not (before and before.state == "intended") else None
