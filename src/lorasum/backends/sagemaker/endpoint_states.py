"""What SageMaker shows of endpoints: their states, what they serve, and their logs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorasum.backends.base import RunningResource
from lorasum.backends.records import EndpointRef, EndpointState
from lorasum.backends.sagemaker import parts, scaling, sdk
from lorasum.backends.sagemaker.late import looked_for
from lorasum.backends.sagemaker.logs import Log
from lorasum.backends.sagemaker.session import Session
from lorasum.backends.sagemaker.tags import of_run
from lorasum.errors import UnseenError

if TYPE_CHECKING:
    from sagemaker.core.resources import Endpoint

MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
SERVING = {
    "InService": "",
    "UpdateRollbackFailed": "its last update failed and could not be undone: it serves old and new, and is billed",
}
"""Statuses of an endpoint that answers, with what the user should know about it."""


def log_lines(session: Session, name: str, follow: bool) -> Iterator[str]:
    """The lines of `log_of`; new ones too while it runs, if they are to be followed."""
    return log_of(session, name).lines(lambda: follow and state(session, name).status in ("creating", "in_service"))


def log_of(session: Session, name: str) -> Log:
    """The log of the endpoint's containers; those of an earlier endpoint too, where it is gone."""
    described = describe(session, name)
    return Log(session, f"/aws/sagemaker/Endpoints/{name}", "", described.creation_time if described else None)


def state(session: Session, name: str) -> EndpointState:
    """The state that SageMaker shows. An endpoint that is being deleted counts as absent."""
    described = describe(session, name)
    if described is None or described.endpoint_status == "Deleting":
        return EndpointState("absent")
    ref = EndpointRef(name, described.endpoint_arn, served_artifact(session, described))
    status, created = described.endpoint_status, described.creation_time
    if status in SERVING:
        return EndpointState("in_service", ref, SERVING[status], created, scaling.instances(described))
    if status in MOVING:
        return EndpointState("creating", ref, created=created, instances=scaling.instances(described))
    return EndpointState("failed", ref, described.failure_reason or status, created)


def live(session: Session, run: str) -> list[RunningResource]:
    """The run's endpoints, found by their tag, and the models and configurations left of deleted ones."""
    listed = parts.listed(session, "list_endpoints", run)
    going = {item["EndpointArn"]: item["EndpointName"] for item in listed if item["EndpointStatus"] != "Deleting"}
    ours = of_run(session, run, list(going))
    found = {name: RunningResource("endpoint", name, arn) for arn, name in going.items() if arn in ours}
    for part in parts.find(session, run):
        rest = RunningResource("endpoint", part.endpoint, free_rest="its model and configuration")
        found.setdefault(part.endpoint, rest)
    return list(found.values())


def describe(session: Session, name: str) -> "Endpoint | None":
    return sdk.get(session, "Endpoint", name)


def awaited(session: Session, name: str) -> "Endpoint | None":
    """The endpoint, asked for through an outage; None if there is none.

    SageMaker may show late what this command has asked it to create or update, so it is asked several times.

    Raises:
        UnseenError: it was asked to create the endpoint, and does not show one.
    """

    def is_new(described: "Endpoint | None") -> bool:
        return name not in session.asked or look(described) != session.asked[name]

    described = looked_for(session, f"endpoint {name}", lambda: sdk.awaited(session, "Endpoint", name), is_new)
    if described is None and not is_new(described):
        raise UnseenError(
            f"SageMaker was asked to create endpoint {name}, and does not show it", "run `lorasum status`"
        )
    session.asked.pop(name, None)
    return described


def look(described: "Endpoint | None") -> object:
    """What a creation or an update changes at once."""
    return described and (described.endpoint_status, described.last_modified_time)


def served_artifact(session: Session, described: "Endpoint") -> str:
    """S3 folder of the artifact that an endpoint serves; empty if its configuration or model is gone."""
    configuration = sdk.get(session, "EndpointConfig", described.endpoint_config_name)
    name = configuration and configuration.production_variants[0].model_name
    found = name and sdk.get(session, "Model", name)
    for field in ("primary_container", "model_data_source", "s3_data_source", "s3_uri"):
        found = getattr(found, field, "")  # what is not ours may have none of these
    return str(found).removesuffix("adapter/")
