"""Attempts of a training job: <name>, <name>-2, <name>-3 and so on. SageMaker knows each as a job of its own."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lorasum.aws import error_code, is_denied
from lorasum.backends.records import JobRef
from lorasum.backends.sagemaker import sdk
from lorasum.backends.sagemaker.late import looked_for
from lorasum.backends.sagemaker.parts import listed
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError, OutageError, UnseenError

if TYPE_CHECKING:
    from sagemaker.core.resources import TrainingJob

RUNNING = ("InProgress", "Stopping")
"""Statuses of an attempt that has not ended, and is billed."""
_MOST_ATTEMPTS = 50


def find_attempts(session: Session, job_name: str) -> list["TrainingJob"]:
    """All attempts of a job, oldest first.

    SageMaker is asked for one name after the other, because its lists lag behind. The list is read too, because a
    deleted attempt (DeleteTrainingJob) leaves a gap in the names.
    """
    found = []
    last_listed = max(_listed_attempts(session, job_name), default=0)
    for number in range(1, _MOST_ATTEMPTS + 1):
        if job := sdk.get(session, "TrainingJob", attempt_name(job_name, number)):
            found.append(job)
        elif number > last_listed:
            break
    return found


def next_attempt(job_name: str, attempts: Sequence["TrainingJob"]) -> str:
    """The name of the attempt after these.

    Raises:
        BackendError: there were too many.
    """
    last = attempt_number(attempts[-1].training_job_name, job_name) if attempts else 0
    if last >= _MOST_ATTEMPTS:
        raise BackendError(f"training job {job_name} had {_MOST_ATTEMPTS} attempts", "change its config or its name")
    return attempt_name(job_name, last + 1)


def create_attempt(session: Session, request: dict[str, Any]) -> "TrainingJob":
    """The job of a request. If its name is taken, somebody else has started this very job.

    Raises:
        UnseenError: nobody knows whether it was created.
        BackendError: it was refused.
    """
    name = request["TrainingJobName"]
    problem: BackendError = UnseenError(
        f"training job {name} was created, but SageMaker does not show it", "run `lorasum status`"
    )
    started = None
    try:
        started = sdk.create(session, "TrainingJob", request)
    except BackendError as error:
        if error_code(error.__cause__) != "ResourceInUse" and not isinstance(error, OutageError):
            raise
        problem = error if isinstance(error, OutageError) else problem  # its name is taken
    try:
        look = partial(sdk.get, session, "TrainingJob", name)
        started = started or looked_for(session, f"training job {name}", look, lambda shown: shown is not None)
    except BackendError as error:
        problem = error
    if started is None:
        unseen = UnseenError(problem.message, problem.hint)
        unseen.exit_code = problem.exit_code  # whoever must log in again need not try before
        raise unseen from problem
    return started


def _listed_attempts(session: Session, job_name: str) -> list[int]:
    """Numbers of the attempts that the list shows; empty if listing is not permitted."""
    try:
        names = [job["TrainingJobName"] for job in listed(session, "list_training_jobs", job_name)]
    except BackendError as error:
        if is_denied(error.__cause__):
            return []
        raise
    return [attempt_number(name, job_name) for name in names]


def attempt_number(attempt: str, job_name: str) -> int:
    """The number of an attempt, from 1; 0 if it is not an attempt of this job."""
    if attempt == job_name:
        return 1
    suffix = attempt.removeprefix(f"{job_name}-")
    return int(suffix) if suffix != attempt and suffix.isdecimal() else 0


def attempt_name(job_name: str, number: int) -> str:
    """The name that SageMaker knows an attempt by."""
    return job_name if number == 1 else f"{job_name}-{number}"


def attempt_of(job: JobRef) -> str:
    """The name of the attempt that a reference stands for: the end of its ARN."""
    return job.location.rpartition("/")[2]
