"""Endpoints on SageMaker. backends.base.Backend says what each function promises.

An endpoint is three things: a model, a configuration that names the model, and the endpoint itself. Only the endpoint
costs money; parts.py handles the other two. An endpoint is updated in place. Its earlier configuration is kept until
`confirm` deletes it or `restore` goes back to it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from lorasum.aws import aws_errors, error_code, is_missing
from lorasum.backends.base import RunningResource
from lorasum.backends.records import EndpointRef, EndpointSpec, EndpointState
from lorasum.backends.sagemaker import parts, scaling, schedules
from lorasum.backends.sagemaker.endpoint_requests import (
    endpoint_config_request,
    endpoint_request,
    load_seconds,
    model_request,
    part_name,
    update_request,
)
from lorasum.backends.sagemaker.job_requests import TAG_RUN
from lorasum.backends.sagemaker.layout import Place
from lorasum.backends.sagemaker.logs import Log
from lorasum.backends.sagemaker.quotas import check_quotas
from lorasum.backends.sagemaker.served import model_to_serve
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.errors import BackendError
from lorasum.reporting import Reporter

_MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_SERVING = {
    "InService": "",
    "UpdateRollbackFailed": "its last update failed and could not be undone: it serves old and new, and is billed",
}
"""Statuses of an endpoint that answers, with what the user should know about it."""
_LONGEST_WAIT = 2 * 3600  # seconds: an instance, the image, and both timeouts at their longest
_LONGEST_DELETION = 1800  # seconds: minutes are usual
_TAKEN = ("ValidationException", "ResourceInUse")
_NEW_NAMES = 8  # attempts: SageMaker may not show yet what was just created


def start(session: Session, spec: EndpointSpec, place: Place, report: Reporter) -> EndpointRef:
    """Create, adopt or update the endpoint, and wait until it is in service. Its earlier configuration is kept."""
    served = model_to_serve(session, spec, place, report)
    name = part_name(spec.name, served, place, session.config)
    described = _to_update(session, spec)
    if session.config.max_instances > 1:
        report.step(f"under load it may grow to {session.config.max_instances} instances, each at that price")
    if described is None:
        check_quotas(session, session.config.endpoint_instance_types, "endpoint", session.config.max_instances)
    client = session.client("sagemaker")
    try:
        _create(lambda: client.create_model(**model_request(name, served, place, session.config)), "model")
        configuration = endpoint_config_request(name, served, place, session.config)
        _create(lambda: client.create_endpoint_config(**configuration), "endpoint configuration")
        if described is None:
            request = endpoint_request(spec.name, name, place, session.config)
            _create(lambda: client.create_endpoint(**request), "endpoint")
        elif described["EndpointConfigName"] != name:
            _remember(session, spec, described)
            _update(session, spec.name, name)
        ended = _wait_until_still(session, spec.name, report)
        if ended and ended["EndpointStatus"] == "InService" and ended["EndpointConfigName"] == name:
            scaling.turn_on_or_off(session, spec.name)
            seconds = load_seconds(served, session.config)
            return EndpointRef(spec.name, ended["EndpointArn"], spec.artifact, seconds)
    except BaseException:
        if described is None:
            delete(session, spec.run, spec.name)
        raise
    raise _did_not_start(session, spec, ended)


def expire(session: Session, name: str, at: datetime | None) -> None:
    """Have the endpoint, with the configuration and the model that it has now, go at `at`; None: no more."""
    described = _describe(session, name) if at else None
    schedules.expire(session, name, described["EndpointConfigName"] if described else "", at)


def confirm(session: Session, run: str, name: str) -> None:
    """Tag the configuration that answered, and delete the parts that the endpoint served before."""
    described = _describe(session, name)
    serving = described["EndpointConfigName"] if described else ""
    known = parts.find(session, run, name)
    for part in known:
        if part.name == serving and not part.answered:
            parts.mark_answered(session, part)
    parts.delete(session, [part for part in known if part.name != serving])


def restore(session: Session, run: str, name: str, report: Reporter) -> EndpointRef | None:
    """Update the endpoint back to the configuration that last answered; None if there is none."""
    described = _wait_until_still(session, name)
    known = parts.find(session, run, name)
    if described is None or described["EndpointStatus"] != "InService":
        return None
    before = [part for part in known if part.answered and part.name != described["EndpointConfigName"]]
    if not before:
        return None
    report.step(f"putting endpoint {name} back to what it served before")
    _update(session, name, before[-1].name)
    ended = _wait_until_still(session, name, report)
    if ended is None or (ended["EndpointStatus"], ended["EndpointConfigName"]) != ("InService", before[-1].name):
        status = ended["EndpointStatus"] if ended else "gone"
        raise BackendError(
            f"endpoint {name} could not be put back to what it served before: it is {status}",
            "it may still serve and is billed: look with `lorasum status`; `lorasum teardown` deletes it",
        )
    parts.delete(session, [part for part in known if part.name != before[-1].name])
    scaling.turn_on_or_off(session, name)
    return EndpointRef(name, ended["EndpointArn"], _artifact(session, ended))


def log_tail(session: Session, name: str) -> list[str]:
    """The last lines of the log of the endpoint's newest container."""
    return _log(session, name).tail()


def log_lines(session: Session, run: str, name: str, follow: bool) -> Iterator[str]:
    """The lines of the log of the endpoint's containers; those of an earlier endpoint too, where it is gone."""
    return _log(session, name).lines(lambda: follow and state(session, run, name).status in ("creating", "in_service"))


def _log(session: Session, name: str) -> Log:
    described = _describe(session, name)
    return Log(session, f"/aws/sagemaker/Endpoints/{name}", "", described["CreationTime"] if described else None)


def state(session: Session, run: str, name: str) -> EndpointState:
    """The state that SageMaker shows. An endpoint that is being deleted counts as absent."""
    described = _describe(session, name)
    if described is None or described["EndpointStatus"] == "Deleting":
        return EndpointState("absent")
    ref = EndpointRef(name, described["EndpointArn"], _artifact(session, described))
    status = described["EndpointStatus"]
    if status in _SERVING:
        return EndpointState("in_service", ref, _SERVING[status])
    if status in _MOVING:
        return EndpointState("creating", ref)
    return EndpointState("failed", ref, described.get("FailureReason") or status)


def delete(session: Session, run: str, name: str) -> bool:
    """Delete endpoint, configurations and models, also those left by a crash, and wait until they are gone.

    The schedules that would have deleted them go last: until then they are needed.
    """
    existed = _delete(session, run, name)
    schedules.remove(session, name)
    return existed


def _delete(session: Session, run: str, name: str) -> bool:
    described = _describe(session, name)
    existed = described is not None
    if described:
        _refuse_foreign(session, described, run)
        scaling.turn_off(session, name)
    began = time.monotonic()
    while described:
        status = described["EndpointStatus"]
        if time.monotonic() - began > _LONGEST_DELETION:
            minutes = _LONGEST_DELETION // 60
            raise BackendError(
                f"endpoint {name} is still {status} after {minutes} minutes, and billed until it is gone",
                "run `lorasum teardown` again, or look at it in the SageMaker console",
            )
        if status != "Deleting":
            try:
                with aws_errors(f"delete endpoint {name}", "sagemaker:DeleteEndpoint"):
                    session.client("sagemaker").delete_endpoint(EndpointName=name)
            except BackendError as error:  # it is being created or updated: try again a moment later
                if error_code(error.__cause__) not in _TAKEN:
                    raise
        described = _describe(session, name)
        if described:
            time.sleep(poll_seconds())
    return parts.delete(session, parts.find(session, run, name)) or existed


def live(session: Session, run: str) -> list[RunningResource]:
    """The run's endpoints, found by their tag, and the models and configurations left of deleted ones."""
    found = {}
    for item in parts.listed(session, "list_endpoints", run):
        ours = parts.tags(session, item["EndpointArn"]).get(TAG_RUN) == run
        if ours and item["EndpointStatus"] != "Deleting":
            found[item["EndpointName"]] = item["EndpointArn"]
    for part in parts.find(session, run):
        found.setdefault(part.endpoint, "its model and configuration, which cost nothing")
    return [RunningResource("endpoint", name, location) for name, location in found.items()]


def _to_update(session: Session, spec: EndpointSpec) -> dict[str, Any] | None:
    """The endpoint that serves under this name; None if there is none. A failed one is deleted."""
    described = _wait_until_still(session, spec.name)
    if described is None:
        return None
    _refuse_foreign(session, described, spec.run)
    if described["EndpointStatus"] == "InService":
        return described
    if described["EndpointStatus"] in _SERVING:
        raise BackendError(
            f"endpoint {spec.name} still serves, but {_SERVING[described['EndpointStatus']]}",
            "`lorasum teardown` deletes it; then deploy again",
        )
    _delete(session, spec.run, spec.name)  # its end stays: it is the new one's
    return None


def _remember(session: Session, spec: EndpointSpec, described: Mapping[str, Any]) -> None:
    """Tag the configuration that serves, unless one is tagged already: earlier versions of lorasum did not."""
    known = parts.find(session, spec.run, spec.name)
    if not any(part.answered for part in known):
        for part in known:
            if part.name == described["EndpointConfigName"]:
                parts.mark_answered(session, part)


def _update(session: Session, endpoint: str, configuration: str) -> None:
    """Make the endpoint serve another configuration, on the instances that it has."""
    scaling.turn_off(session, endpoint)  # SageMaker refuses to update an endpoint that is autoscaled
    request = update_request(endpoint, configuration, session.config)
    _create(lambda: session.client("sagemaker").update_endpoint(**request), "endpoint")


def _create(call: Callable[[], object], what: str) -> None:
    """Make a call that creates something. If the name is taken it exists already: names are hashes of content."""
    for attempt in range(_NEW_NAMES):
        try:
            with aws_errors(f"create the {what}", "sagemaker:CreateEndpoint"):
                call()
            return
        except BackendError as error:
            text = str(error.__cause__).lower()
            if error_code(error.__cause__) in _TAKEN and "already exist" in text:
                return
            if not is_missing(error.__cause__) or attempt == _NEW_NAMES - 1:
                raise
            time.sleep(min(poll_seconds(), 2))


def _wait_until_still(session: Session, name: str, report: Reporter | None = None) -> dict[str, Any] | None:
    """Wait until the endpoint is no longer changing and return its description; None if there is none."""
    began, told = time.monotonic(), ""
    while described := _describe(session, name):
        status = described["EndpointStatus"]
        if status not in _MOVING:
            return described
        if report and status != told:
            report.step(f"endpoint {name}: {status}")
            told = status
        if time.monotonic() - began > _LONGEST_WAIT:
            raise BackendError(f"endpoint {name} is still {status} after two hours", "run `lorasum teardown`")
        time.sleep(poll_seconds())
    return None


def _did_not_start(session: Session, spec: EndpointSpec, ended: dict[str, Any] | None) -> BackendError:
    """The error to raise. An endpoint that rolled back goes on serving its earlier model; any other is deleted."""
    name = spec.name
    tail = " | ".join(log_tail(session, name)[-4:])
    said = (ended or {}).get("FailureReason") or (ended or {}).get("EndpointStatus") or "it is gone"
    reason = f"{' '.join(said.split())}" + (f"; its log ends: {tail}" if tail else "")
    if ended and ended["EndpointStatus"] in _SERVING:
        known = parts.find(session, spec.run, name)
        unused = [part for part in known if not part.answered and part.name != ended["EndpointConfigName"]]
        parts.delete(session, unused)
        scaling.turn_on_or_off(session, name)
        return BackendError(f"endpoint {name} rolled back to what it served before: {reason}", "run `lorasum train`")
    delete(session, spec.run, name)
    return BackendError(f"endpoint {name} did not start: {reason}", "nothing is left of it; see the reason")


def _describe(session: Session, name: str) -> dict[str, Any] | None:
    return _look_up(session, "describe_endpoint", EndpointName=name)


def _artifact(session: Session, described: Mapping[str, Any]) -> str:
    """S3 folder of the artifact that an endpoint serves; empty if its configuration or model is gone."""
    configuration = _look_up(session, "describe_endpoint_config", EndpointConfigName=described["EndpointConfigName"])
    model = configuration and _look_up(
        session, "describe_model", ModelName=configuration["ProductionVariants"][0]["ModelName"]
    )
    container = model["PrimaryContainer"] if model else {}
    uri = str(container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri", ""))
    return uri.removesuffix("adapter/")


def _look_up(session: Session, operation: str, **arguments: str) -> dict[str, Any] | None:
    """The answer of a call such as describe_endpoint; None if there is no such thing."""
    [name] = arguments.values()
    try:
        with aws_errors(f"look at {name}", parts.action_of(operation)):
            answer: dict[str, Any] = getattr(session.client("sagemaker"), operation)(**arguments)
    except BackendError as error:
        if is_missing(error.__cause__):
            return None
        raise
    return answer


def _refuse_foreign(session: Session, described: Mapping[str, Any], run: str) -> None:
    if parts.tags(session, described["EndpointArn"]).get(TAG_RUN) != run:
        raise BackendError(
            f"endpoint {described['EndpointName']} is not of this run: it has no tag {TAG_RUN}={run}",
            "give this config another name",
        )
