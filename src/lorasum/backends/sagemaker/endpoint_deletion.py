"""The end of an endpoint on SageMaker: first what is billed, then what costs nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lorasum.aws import error_code
from lorasum.backends.sagemaker import parts, schedules, sdk
from lorasum.backends.sagemaker.endpoint_requests import TAG_START
from lorasum.backends.sagemaker.endpoint_states import MOVING, awaited, describe
from lorasum.backends.sagemaker.job_requests import TAG_RUN
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.backends.sagemaker.tags import tags_of
from lorasum.errors import BackendError, OutageError

if TYPE_CHECKING:
    from sagemaker.core.resources import Endpoint

LONGEST_WAIT = 2 * 3600  # seconds: an instance, the image, and both timeouts at their longest
_LONGEST_DELETION = 1800  # seconds: minutes are usual
TAKEN = ("ValidationException", "ResourceInUse")


def begin(session: Session, run: str, name: str) -> None:
    """Ask SageMaker to delete an endpoint; `delete` sees to it, and to what belongs to it."""
    if described := describe(session, name):
        own_tags(session, described, run)
        sdk.delete(described)
        session.deleting.add(name)


def delete(session: Session, run: str, name: str, mark: str) -> bool:
    """Delete an endpoint, and then configurations and models, also those left by a crash. True if there was one.

    The schedules that would have deleted them go last: until then they are needed. Autoscaling is turned off by
    SageMaker itself, if this identity may.

    Args:
        mark: of the start that made it; one that another start made is left alone. Empty: whichever did.
    """
    described = awaited(session, name)
    if described:
        tags = own_tags(session, described, run)
        if mark and tags.get(TAG_START) != mark:
            return False
        session.deleting.add(name)
        delete_and_wait(session, described)
    existed = name in session.deleting  # by now, or when it was begun
    session.deleting.discard(name)
    delete_parts(session, run, name)
    with _only_warned_of(session):
        schedules.remove(session, name)
    return existed


def delete_and_wait(session: Session, endpoint: "Endpoint") -> None:
    """Delete an endpoint, as soon as SageMaker lets that be done, and wait until it is gone.

    Raises:
        BackendError: it is still there, after as long as its state may take.
    """
    name, status = endpoint.endpoint_name, ""
    described: Endpoint | None = endpoint
    while described:
        if described.endpoint_status != status:
            status, began, told = described.endpoint_status, time.monotonic(), False
        longest = _LONGEST_DELETION if status == "Deleting" else LONGEST_WAIT
        if time.monotonic() - began > longest:
            raise BackendError(
                f"endpoint {name} is still {status} after {longest // 60} minutes, and billed until it is gone",
                "run `lorasum teardown` again, or look at it in the SageMaker console",
            )
        if status != "Deleting":
            try:
                sdk.delete(described)
            except BackendError as error:  # it is being created or updated, or not known to be: try again
                if error_code(error.__cause__) not in TAKEN and not isinstance(error, OutageError):
                    raise
                if status in MOVING and not told:
                    session.reporter.step(f"endpoint {name} is {status}: SageMaker deletes it once that is over")
                    told = True
        if described := sdk.awaited(session, "Endpoint", name):
            time.sleep(poll_seconds())


def delete_parts(session: Session, run: str, name: str) -> None:
    """Delete an endpoint's configurations and models, as far as that can be done."""
    with _only_warned_of(session):
        parts.delete(session, parts.find(session, run, name))


@contextmanager
def _only_warned_of(session: Session) -> Iterator[None]:
    """Delete in the block what costs nothing without its endpoint: an error neither stops anything nor hides that the
    endpoint is gone."""
    try:
        yield
    except BackendError as error:
        session.reporter.warn(f"{error.message}: it stays, and costs nothing. {error.hint}")


def own_tags(session: Session, described: "Endpoint", run: str) -> dict[str, str]:
    """The tags of an endpoint of this run.

    Raises:
        BackendError: it is not of this run.
    """
    tags = tags_of(session, described.endpoint_arn)
    if tags.get(TAG_RUN) != run:
        raise BackendError(
            f"endpoint {described.endpoint_name} is not of this run: it has no tag {TAG_RUN}={run}",
            "give this config another name",
        )
    return tags
