"""Endpoints on SageMaker. backends.base.Backend says what each function promises.

An endpoint is three things: a model, a configuration that names it, and the endpoint, which alone costs money. The
first two share a name, <endpoint>-<hash of all in them>: so they are found, adopted and removed without records.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from lorasum.aws import aws_errors, error_code, is_denied, is_missing
from lorasum.backends.base import RunningResource
from lorasum.backends.records import EndpointRef, EndpointSpec, EndpointState
from lorasum.backends.sagemaker.endpoint_requests import (
    endpoint_config_request,
    endpoint_request,
    model_request,
    part_name,
    scalable_target,
    scaling_requests,
)
from lorasum.backends.sagemaker.job_requests import TAG_RUN
from lorasum.backends.sagemaker.layout import Place
from lorasum.backends.sagemaker.logs import Log
from lorasum.backends.sagemaker.quotas import check_quota
from lorasum.backends.sagemaker.served import model_to_serve
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.errors import BackendError
from lorasum.reporting import Reporter

_MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_LONGEST_WAIT = 2 * 3600  # seconds: an instance, the image, and both timeouts at their longest
_TAKEN = ("ValidationException", "ResourceInUse")
_NEW_NAMES = 8  # attempts: what was just created may not be seen yet


def start(session: Session, spec: EndpointSpec, place: Place, report: Reporter) -> EndpointRef:
    """Create, adopt or update the endpoint, and wait until it is in service."""
    served = model_to_serve(session, spec, place, report)
    name = part_name(spec.name, served, place, session.config)
    there = _settled(session, spec.name)
    if there:
        _refuse_foreign(session, there, spec.run)
    if there and there["EndpointStatus"] != "InService":
        delete(session, spec.run, spec.name)
        there = None
    if session.config.max_instances > 1:
        report.step(f"under load it may grow to {session.config.max_instances} instances, each at that price")
    if there is None:
        check_quota(session, session.config.endpoint_instance_type, "endpoint", session.config.max_instances)
    client = session.client("sagemaker")
    try:
        _create(lambda: client.create_model(**model_request(name, served, place, session.config)), "model")
        configuration = endpoint_config_request(name, served, place, session.config)
        _create(lambda: client.create_endpoint_config(**configuration), "endpoint configuration")
        if there is None:
            request = endpoint_request(spec.name, name, place, session.config)
            _create(lambda: client.create_endpoint(**request), "endpoint")
        elif there["EndpointConfigName"] != name:
            _unscale(session, spec.name)  # SageMaker updates no endpoint that something else resizes
            _create(lambda: client.update_endpoint(EndpointName=spec.name, EndpointConfigName=name), "endpoint")
        ended = _settled(session, spec.name, report)
        if ended and ended["EndpointStatus"] == "InService" and ended["EndpointConfigName"] == name:
            _delete_parts(session, spec.name, keep=name)
            _scale(session, spec.name)
            return EndpointRef(spec.name, ended["EndpointArn"], spec.artifact)
    except BaseException:
        if there is None:
            delete(session, spec.run, spec.name)
        raise
    raise _did_not_start(session, spec, ended)


def state(session: Session, run: str, name: str) -> EndpointState:
    """As SageMaker has it; one that is being deleted is absent."""
    there = _describe(session, name)
    if there is None or there["EndpointStatus"] == "Deleting":
        return EndpointState("absent")
    ref = EndpointRef(name, there["EndpointArn"], _artifact(session, there))
    status = there["EndpointStatus"]
    if status == "InService":
        return EndpointState("in_service", ref)
    if status in _MOVING:
        return EndpointState("creating", ref)
    return EndpointState("failed", ref, there.get("FailureReason") or status)


def delete(session: Session, run: str, name: str) -> bool:
    """Delete endpoint, configurations and models, and wait until they are gone; also what a crash left of them."""
    there = _describe(session, name)
    existed = there is not None
    if there:
        _refuse_foreign(session, there, run)
        _unscale(session, name)
    while there:
        if there["EndpointStatus"] != "Deleting":
            try:
                with aws_errors(f"delete endpoint {name}", "sagemaker:DeleteEndpoint"):
                    session.client("sagemaker").delete_endpoint(EndpointName=name)
            except BackendError as error:  # while it is being created or updated it cannot be deleted: a moment later
                if error_code(error.__cause__) not in _TAKEN:
                    raise
        there = _describe(session, name)
        if there:
            time.sleep(poll_seconds())
    return _delete_parts(session, name) or existed


def live(session: Session, run: str) -> list[RunningResource]:
    """The run's endpoints by their tag, whoever created them, and what is left of those that are gone."""
    client = session.client("sagemaker")
    found = {}
    for item in _listed(session, "list_endpoints", "Endpoints", run):
        with aws_errors("read an endpoint's tags", "sagemaker:ListTags"):
            known = client.list_tags(ResourceArn=item["EndpointArn"])["Tags"]
        if {"Key": TAG_RUN, "Value": run} in known and item["EndpointStatus"] != "Deleting":
            found[item["EndpointName"]] = item["EndpointArn"]
    for part in _parts(session, run):
        endpoint = part.rpartition("-")[0]
        if endpoint in (run, f"{run}-base") and endpoint not in found:
            found[endpoint] = "its model and configuration, which cost nothing"
    return [RunningResource("endpoint", name, location) for name, location in found.items()]


def _scale(session: Session, endpoint: str) -> None:
    """Turn autoscaling on, or off, as the config says."""
    if session.config.max_instances == 1:
        _unscale(session, endpoint)
        return
    target, policy = scaling_requests(endpoint, session.config)
    client = session.client("application-autoscaling")
    with aws_errors(f"let endpoint {endpoint} grow", "application-autoscaling:RegisterScalableTarget"):
        client.register_scalable_target(**target)
        client.put_scaling_policy(**policy)


def _unscale(session: Session, endpoint: str) -> None:
    """Turn autoscaling off. Without the permission for it nobody can have turned it on with this identity."""
    try:
        with aws_errors(f"stop endpoint {endpoint} from growing", "application-autoscaling:DeregisterScalableTarget"):
            session.client("application-autoscaling").deregister_scalable_target(**scalable_target(endpoint))
    except BackendError as error:
        denied = is_denied(error.__cause__) and session.config.max_instances == 1
        if not denied and "no scalable target" not in str(error.__cause__).lower():
            raise


def _create(call: Callable[[], object], what: str) -> None:
    """Make a call that creates something. A name that is taken is this very thing: its name says what is in it."""
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


def _settled(session: Session, name: str, report: Reporter | None = None) -> dict[str, Any] | None:
    """The endpoint once it has come to rest; None when there is none."""
    began, told = time.monotonic(), ""
    while there := _describe(session, name):
        status = there["EndpointStatus"]
        if status not in _MOVING:
            return there
        if report and status != told:
            report.step(f"endpoint {name}: {status}")
            told = status
        if time.monotonic() - began > _LONGEST_WAIT:
            raise BackendError(f"endpoint {name} is still {status} after two hours", "run `lorasum teardown`")
        time.sleep(poll_seconds())
    return None


def _did_not_start(session: Session, spec: EndpointSpec, ended: dict[str, Any] | None) -> BackendError:
    """The error that says why, its parts removed; an endpoint that rolled back goes on serving what it did."""
    name = spec.name
    tail = " | ".join(Log(session, f"/aws/sagemaker/Endpoints/{name}", "").tail()[-4:])
    said = (ended or {}).get("FailureReason") or (ended or {}).get("EndpointStatus") or "it is gone"
    reason = f"{' '.join(said.split())}" + (f"; its log ends: {tail}" if tail else "")
    if ended and ended["EndpointStatus"] == "InService":
        _delete_parts(session, name, keep=ended["EndpointConfigName"])
        return BackendError(f"endpoint {name} rolled back to what it served before: {reason}", "run `lorasum train`")
    delete(session, spec.run, name)
    return BackendError(f"endpoint {name} did not start: {reason}", "nothing is left of it; see the reason")


def _describe(session: Session, name: str) -> dict[str, Any] | None:
    return _asked(session, "describe_endpoint", EndpointName=name)


def _artifact(session: Session, there: Mapping[str, Any]) -> str:
    """What an endpoint serves; empty if its configuration or model is gone."""
    configuration = _asked(session, "describe_endpoint_config", EndpointConfigName=there["EndpointConfigName"])
    model = configuration and _asked(
        session, "describe_model", ModelName=configuration["ProductionVariants"][0]["ModelName"]
    )
    container = model["PrimaryContainer"] if model else {}
    uri = str(container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri", ""))
    return uri.removesuffix("adapter/")


def _asked(session: Session, operation: str, **arguments: str) -> dict[str, Any] | None:
    """The answer of a describe_… call; None when there is no such thing."""
    [name] = arguments.values()
    action = "sagemaker:" + "".join(word.title() for word in operation.split("_"))
    try:
        with aws_errors(f"look at {name}", action):
            answer: dict[str, Any] = getattr(session.client("sagemaker"), operation)(**arguments)
    except BackendError as error:
        if is_missing(error.__cause__):
            return None
        raise
    return answer


def _refuse_foreign(session: Session, there: Mapping[str, Any], run: str) -> None:
    with aws_errors("read an endpoint's tags", "sagemaker:ListTags"):
        known = session.client("sagemaker").list_tags(ResourceArn=there["EndpointArn"])["Tags"]
    if {"Key": TAG_RUN, "Value": run} not in known:
        raise BackendError(
            f"endpoint {there['EndpointName']} is not of this run: it has no tag {TAG_RUN}={run}",
            "give this config another name",
        )


def _parts(session: Session, name: str) -> dict[str, set[str]]:
    """Names of models and configurations of the endpoints whose names begin with `name`, and which of both they are."""
    found: dict[str, set[str]] = {}
    kinds = (("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"), ("list_models", "Models", "ModelName"))
    for operation, key, field in kinds:
        for item in _listed(session, operation, key, name):
            if re.fullmatch(rf"{re.escape(name)}(-base)?-[0-9a-f]{{8}}", item[field]):
                found.setdefault(item[field], set()).add(key)
    return found


def _delete_parts(session: Session, name: str, keep: str | None = None) -> bool:
    """Delete an endpoint's configurations and models, all but `keep`. True if there was one."""
    client = session.client("sagemaker")
    deleted = False
    for part, kinds in _parts(session, name).items():
        if part == keep or part.rpartition("-")[0] != name:
            continue
        calls = {
            "EndpointConfigs": lambda part=part: client.delete_endpoint_config(EndpointConfigName=part),
            "Models": lambda part=part: client.delete_model(ModelName=part),
        }
        for kind in sorted(kinds):  # the configuration first: it names the model
            try:
                with aws_errors(f"delete {part}", "sagemaker:DeleteModel"):
                    calls[kind]()
            except BackendError as error:
                if not is_missing(error.__cause__):
                    raise
            deleted = True
    return deleted


def _listed(session: Session, operation: str, key: str, name: str) -> list[dict[str, Any]]:
    action = "sagemaker:" + "".join(word.title() for word in operation.split("_"))
    with aws_errors(f"list {key.lower()}", action):
        pages = session.client("sagemaker").get_paginator(operation).paginate(NameContains=name)
        return [item for page in pages for item in page[key]]
