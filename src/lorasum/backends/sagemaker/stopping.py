"""Ends jobs, and lets instances go that are kept warm after them."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lorasum.aws import error_code
from lorasum.backends.records import JobRef
from lorasum.backends.sagemaker import sdk
from lorasum.backends.sagemaker.attempts import RUNNING, attempt_of, find_attempts
from lorasum.backends.sagemaker.job_requests import release_request
from lorasum.backends.sagemaker.prices import kept_warm
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.errors import BackendError, OutageError

if TYPE_CHECKING:
    from sagemaker.core.resources import TrainingJob

_LONGEST = 1800.0  # seconds: two minutes are usual, and the upload


def stop(session: Session, job: JobRef) -> None:
    """Ask SageMaker to stop the job and wait for it: SIGTERM, two minutes, SIGKILL, then the upload."""
    _ask_until(session, attempt_of(job), _runs, sdk.stop)


def let_go(session: Session, job: JobRef) -> None:
    """Release the instances that `keep_alive_minutes` keeps warm, and billed, after any attempt of the job."""
    for attempt in find_attempts(session, job.name):
        if kept_warm(attempt):
            _ask_until(session, attempt.training_job_name, kept_warm, partial(_release, session))


def begin_to_stop(session: Session, job: str) -> None:
    """Ask SageMaker to stop what runs of a job, and to let go of what is kept of it; `stop` sees to both."""
    for attempt in find_attempts(session, job):
        if attempt.training_job_status == "InProgress":
            sdk.stop(attempt)
        elif kept_warm(attempt):
            _release(session, attempt)


def _ask_until(
    session: Session,
    name: str,
    goes_on: Callable[["TrainingJob"], bool],
    ask: Callable[["TrainingJob"], None],
) -> None:
    """Have SageMaker end what `goes_on` of an attempt, and wait until it has.

    Raises:
        BackendError: it was refused, or goes on for longer than any end takes.
    """
    asked, refusal, began = False, "", time.monotonic()
    while (described := sdk.awaited(session, "TrainingJob", name)) and goes_on(described):
        if not asked and described.training_job_status != "Stopping":
            try:
                ask(described)
                asked = True
            except BackendError as error:  # it may have ended just now, or may not have heard: it is looked at again
                if error_code(error.__cause__) != "ValidationException" and not isinstance(error, OutageError):
                    raise
                refusal = f": {error.message}"
        if time.monotonic() - began > _LONGEST:
            raise BackendError(
                f"training job {name} goes on {_LONGEST / 60:.0f} minutes after it was to end, and is billed{refusal}",
                "run `lorasum teardown` again, or look at it in the SageMaker console",
            )
        time.sleep(poll_seconds())


def _runs(described: "TrainingJob") -> bool:
    return described.training_job_status in RUNNING


def _release(session: Session, attempt: "TrainingJob") -> None:
    sdk.update(session, attempt, release_request(attempt.training_job_name))
