"""Training jobs, models, configurations and endpoints, through SageMaker's own SDK (`sagemaker.core`, of version 3).

The SDK validates a request and makes it of objects of its own, from which it leaves out what is false, zero or empty,
and to which it may add defaults of its configuration files. Here the files are not read, and what is left out is put
back: what is sent is what our builders made and `--dry-run` shows, or nothing is sent.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Any, Literal
from weakref import WeakKeyDictionary

from lorasum.aws import aws_errors, unless_missing
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.errors import BackendError
from lorasum.system.retry import until_answered
from lorasum.system.signals import deferred_signals

Kind = Literal["TrainingJob", "Model", "EndpointConfig", "Endpoint"]

_WORDS = {
    "TrainingJob": "training job",
    "Model": "model",
    "EndpointConfig": "endpoint configuration",
    "Endpoint": "endpoint",
}


_CLIENTS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""By the boto3 session that the SDK is given, and keeps with each resource."""
_IS_OURS = ContextVar("is_ours", default=False)
"""Whether what the SDK is sending is a request of ours."""


def load(module: str) -> Any:
    """A module of `sagemaker.core`. The first one costs about two seconds, so it is loaded where it is used.

    Raises:
        BackendError: the SDK is not installed.
    """
    name = f"sagemaker.core.{module}"
    if name in sys.modules:
        return sys.modules[name]
    try:
        with deferred_signals():
            return import_module(name)
    except ImportError as error:
        raise BackendError("the sagemaker backend needs sagemaker-core", "pip install 'lorasum[sagemaker]'") from error


def get(session: Session, kind: Kind, name: str) -> Any | None:
    """A resource as SageMaker shows it; None if there is none."""
    with unless_missing(), _errors(f"look at {_WORDS[kind]} {name}", f"sagemaker:Describe{kind}"):
        return _class(session, kind).get(name, **_where(session))
    return None


def awaited(session: Session, kind: Kind, name: str) -> Any | None:
    """What `get` finds. While SageMaker does not answer it is asked again, for an hour: what it shows is billed."""
    return until_answered(lambda: get(session, kind, name), poll_seconds(), session.reporter)


def create(session: Session, kind: Kind, request: dict[str, Any]) -> Any | None:
    """Create a resource by a request such as boto3's create_model takes.

    Returns:
        The resource; None if it was created, and SageMaker did not show it when the SDK read it just afterwards.

    Raises:
        BackendError: it was not created, or nobody knows whether it was.
    """
    with _sent(session, "create", kind, request) as arguments:
        return _class(session, kind).create(**arguments, **_where(session))
    return None


def update(session: Session, resource: Any, request: dict[str, Any]) -> None:
    """Update a resource that `get` found by a request such as boto3's update_endpoint takes."""
    with _sent(session, "update", type(resource).__name__, request) as arguments:
        names = {field: arguments.pop(field) for field in [*arguments] if field.endswith("_name")}
        resource.model_copy(update=names).update(**arguments)  # the SDK reads names from the resource


def stop(job: Any) -> None:
    """Stop a training job that `get` found."""
    with _errors(f"stop training job {job.training_job_name}", "sagemaker:StopTrainingJob"):
        job.stop()


def delete(resource: Any) -> None:
    """Delete a resource that `get` found. That somebody else has deleted it meanwhile is not an error."""
    kind = type(resource).__name__
    with unless_missing(), _errors(f"delete {_WORDS[kind]} {resource.get_name()}", f"sagemaker:Delete{kind}"):
        resource.delete()


def _class(session: Session, kind: str) -> Any:
    _CLIENTS[session.boto3_session] = session.client("sagemaker")
    return getattr(_resources(), kind)


@cache
def _resources() -> Any:
    """The SDK's resources, which use our client with our sessions, and read no files for our requests.

    Our client has time-outs, retries, a name and the config's profile. By itself the SDK makes a client of each of four
    services, three of which nobody asks. Whoever else uses it in this process, such as a notebook, finds it unchanged.
    """
    resources = load("resources")
    base, files = resources.Base, resources.Base.config_manager
    make_client, read = base.get_sagemaker_client, files.load_default_configs_for_resource_name

    def client(session: Any = None, *args: Any, **kwargs: Any) -> Any:
        return _CLIENTS[session] if session in _CLIENTS else make_client(session, *args, **kwargs)

    base.get_sagemaker_client = staticmethod(client)
    files.load_default_configs_for_resource_name = lambda resource_name: {} if _IS_OURS.get() else read(resource_name)
    return resources


def _where(session: Session) -> dict[str, Any]:
    return {"session": session.boto3_session, "region": session.region}


@contextmanager
def _sent(session: Session, verb: str, kind: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments of the SDK's method of this name, which sends `request`, and then reads what came of it.

    An error of the reading ends the block quietly: the request was carried out.
    """
    operation, asked = f"{verb.title()}{kind}", list[str]()
    try:
        with (
            _errors(f"{verb} {_WORDS[kind]} {request[f'{kind}Name']}", f"sagemaker:{operation}"),
            _exactly(session, operation, request, asked),
        ):
            yield _arguments(session, operation, request)
    except BackendError:
        if f"Describe{kind}" not in asked:
            raise


def _arguments(session: Session, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """A request as the SDK's methods take it: {"ModelName": ...} → {"model_name": ...}, and so on below."""
    shape = session.client("sagemaker").meta.service_model.operation_model(operation).input_shape.name
    arguments: dict[str, Any] = load("utils.code_injection.codec").transform(request, shape)
    return arguments


@contextmanager
def _exactly(session: Session, operation: str, request: dict[str, Any], asked: list[str]) -> Iterator[None]:
    """Make the SDK's call of an operation send `request`. `asked` gets the names of all operations that it calls."""

    def sent(params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any] | None:
        asked.append(model.name)
        if model.name != operation:
            return None
        if _without_empty(params) != _without_empty(request):
            raise BackendError(
                f"the SageMaker SDK makes another {operation} of the request than lorasum", _TESTED_VERSION
            )
        return request

    events = session.client("sagemaker").meta.events
    events.register("provide-client-params.sagemaker", sent)
    before = _IS_OURS.set(True)
    try:
        yield
    finally:
        _IS_OURS.reset(before)
        events.unregister("provide-client-params.sagemaker", sent)


def _without_empty(value: Any) -> Any:
    """A request without what the SDK leaves out: false, zero and empty members, at any depth."""
    if isinstance(value, dict):
        return {key: kept for key, member in value.items() if (kept := _without_empty(member))}
    return [_without_empty(member) for member in value] if isinstance(value, list) else value


_TESTED_VERSION = "pip install 'lorasum[sagemaker]' installs the version of the SDK that lorasum was tested with"


@contextmanager
def _errors(doing: str, action: str) -> Iterator[None]:
    """Turn errors of AWS and of the SDK's validation into BackendErrors, as aws_errors does."""
    from pydantic import ValidationError

    try:
        with aws_errors(doing, action):
            yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BackendError(
            f"cannot {doing}: the SageMaker SDK does not take {where}: {first['msg']}", _TESTED_VERSION
        ) from error
