"""The end of an endpoint: EventBridge Scheduler deletes it at its time, whether or not any lorasum runs then.

Each of the three things that an endpoint is has a one-time schedule, which deletes itself once it was carried out. The
configuration and the model cost nothing, and go ten minutes later: by then nothing uses them.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from lorasum.aws import POLICIES, aws_errors, error_code, is_missing
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError

_AFTERWARDS = timedelta(minutes=10)
_RETRY = {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
"""The most that Scheduler takes: an endpoint that is being updated at its time cannot be deleted until it is not."""

NOT_CHECKED = "whether its policy lets it do so was not checked"

What = Literal["endpoint", "endpoint-config", "model"]
_CALLS: dict[What, tuple[str, str]] = {
    "endpoint": ("deleteEndpoint", "EndpointName"),
    "endpoint-config": ("deleteEndpointConfig", "EndpointConfigName"),
    "model": ("deleteModel", "ModelName"),
}


def expire(session: Session, endpoint: str, parts: str, at: datetime | None) -> None:
    """Have an endpoint deleted at `at`; None takes back what was arranged.

    Args:
        parts: name of the configuration and the model that it has now; empty if it has none yet.

    Raises:
        BackendError: there is no role for it, or this identity may not.
    """
    if at is None:
        remove(session, endpoint)
        return
    role = session.scheduler_role_arn
    created = [_put(session, request) for request in schedule_requests(endpoint, parts, at, role)]
    if created[0]:
        session.reporter.step(f"endpoint {endpoint} is to be deleted by {role}; {NOT_CHECKED}")


def remove(session: Session, endpoint: str) -> None:
    """Delete the endpoint's schedules. Without a role for them this config has made none, and need not be able to."""
    made_some = session.config.scheduler_role is not None
    for what in _CALLS:
        try:
            with aws_errors(f"delete the schedule of endpoint {endpoint}", "scheduler:DeleteSchedule"):
                client = session.client("scheduler") if made_some else session.impatient("scheduler")
                client.delete_schedule(Name=schedule_name(endpoint, what))
        except BackendError as error:
            if is_missing(error.__cause__):
                continue
            if made_some:
                raise
            return


def schedule_name(endpoint: str, what: What) -> str:
    """Name of the schedule that deletes one of the things that an endpoint is: 64 characters at most."""
    return f"lorasum-{endpoint}-{what}"


def schedule_requests(endpoint: str, parts: str, at: datetime, role: str) -> list[dict[str, Any]]:
    """What create_schedule and update_schedule are called with: to delete the endpoint, and its parts if it has any."""
    names: dict[What, str] = {"endpoint": endpoint}
    names |= {"endpoint-config": parts, "model": parts} if parts else {}
    return [_request(endpoint, what, name, at, role) for what, name in names.items()]


def _request(endpoint: str, what: What, name: str, at: datetime, role: str) -> dict[str, Any]:
    call, field = _CALLS[what]
    moment = at if what == "endpoint" else at + _AFTERWARDS
    partition = role.split(":")[1]
    return {
        "Name": schedule_name(endpoint, what),
        "Description": f"deletes {what} {name}, whose time is over then",
        "ScheduleExpression": f"at({moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": f"arn:{partition}:scheduler:::aws-sdk:sagemaker:{call}",
            "RoleArn": role,
            "Input": json.dumps({field: name}),
            "RetryPolicy": _RETRY,
        },
    }


def _put(session: Session, request: dict[str, Any]) -> bool:
    """Create a schedule, or move the one that is there. True if there was none."""
    client = session.client("scheduler")
    doing = f"schedule the end of {request['Name'].removeprefix('lorasum-')}"
    try:
        with aws_errors(doing, "scheduler:CreateSchedule"):
            client.create_schedule(**request)
    except BackendError as error:
        if error_code(error.__cause__) != "ConflictException":
            raise _not_allowed(error) from error
        with aws_errors(doing, "scheduler:UpdateSchedule"):
            client.update_schedule(**request)
        return False
    return True


def _not_allowed(error: BackendError) -> BackendError:
    """The error with what EventBridge Scheduler needs, where it says that it cannot assume the role."""
    if "assume the role" not in str(error.__cause__):
        return error
    return BackendError(error.message, f"let scheduler.amazonaws.com assume sagemaker.scheduler_role; {POLICIES}")
