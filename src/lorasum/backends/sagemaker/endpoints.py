"""Endpoints on SageMaker.

An endpoint is three things: a model, a configuration that names the model, and the endpoint itself. Only the endpoint
costs money; parts.py handles the other two. An endpoint is updated in place. Its earlier configuration is kept until
`confirm_endpoint` deletes it or `restore_endpoint` goes back to it.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lorasum.aws import error_code, is_denied, is_missing
from lorasum.backends.records import EndpointRef, EndpointSpec, EndpointState
from lorasum.backends.sagemaker import endpoint_deletion, endpoint_states, parts, scaling, schedules, sdk
from lorasum.backends.sagemaker.endpoint_deletion import LONGEST_WAIT, TAKEN, delete_and_wait, delete_parts, own_tags
from lorasum.backends.sagemaker.endpoint_requests import (
    endpoint_config_request,
    endpoint_request,
    first_requests,
    load_seconds,
    model_request,
    part_name,
    update_request,
)
from lorasum.backends.sagemaker.endpoint_states import (
    MOVING,
    SERVING,
    awaited,
    describe,
    log_of,
    look,
    served_artifact,
)
from lorasum.backends.sagemaker.invoke import invoke, stream
from lorasum.backends.sagemaker.place import place_of, shown_place
from lorasum.backends.sagemaker.quotas import check_quotas, tell_of_less_growth
from lorasum.backends.sagemaker.served import model_to_serve
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.errors import BackendError, OutageError

if TYPE_CHECKING:
    from sagemaker.core.resources import Endpoint

_TWICE = "an update starts new instances beside those that serve: ask for a higher quota, or `lorasum teardown` first"
_NEW_NAMES = 8  # attempts: SageMaker may not show yet what was just created


class Endpoints:
    """The methods of backends.base.Backend that are about endpoints; it says what each does."""

    _session: Session

    def endpoint_requests(self, spec: EndpointSpec) -> dict[str, Any]:
        place = shown_place(self._session, spec.run, "inference")
        served = model_to_serve(self._session, spec, place, sends=False)
        return first_requests(spec.name, served, place, self._session.config)

    def start_endpoint(self, spec: EndpointSpec, asking: Callable[[], object] = lambda: None) -> EndpointRef:
        """Create, adopt or update the endpoint, and wait until it is in service. Its earlier configuration is kept."""
        session, config = self._session, self._session.config
        place = place_of(session, spec.run, "inference")
        served = model_to_serve(session, spec, place, sends=True)
        name = part_name(spec.name, served, place, config)
        described = _to_update(session, spec)
        if config.max_instances > 1:
            session.reporter.step(f"under load it may grow to {config.max_instances} instances, each at that price")
        if described is None:
            check_quotas(session, config.endpoint_instance_types, "endpoint")
            tell_of_less_growth(session, config.endpoint_instance_types, config.max_instances)
        model = model_request(name, served, place, config)
        _create(lambda: sdk.create(session, "Model", model))
        configuration = endpoint_config_request(name, served, place, config)
        _create(lambda: sdk.create(session, "EndpointConfig", configuration))
        if described is None:
            request = endpoint_request(spec.name, name, place, config, spec.mark)
            asking()
            _ask(session, spec.name, None, lambda: sdk.create(session, "Endpoint", request))
        elif described.endpoint_config_name != name:
            _remember(session, spec, described)
            _update(session, described, name)
        ended = _wait_until_still(session, spec.name)
        if ended and ended.endpoint_status == "InService" and ended.endpoint_config_name == name:
            if scaling.instances(ended) > config.max_instances:
                _shrink(session, ended)
            scaling.turn_on_or_off(session, spec.name)
            seconds = load_seconds(served, config)
            return EndpointRef(spec.name, ended.endpoint_arn, spec.artifact, seconds)
        raise self._did_not_start(spec, ended, is_new=described is None)

    def check_expiry(self) -> None:
        _ = self._session.scheduler_role_arn

    def expire_endpoint(self, run: str, name: str, at: datetime | None) -> None:
        """Have the endpoint, with the configuration and the model that it has now, go at `at`; None: no more."""
        described = describe(self._session, name) if at else None
        schedules.expire(self._session, name, described.endpoint_config_name if described else "", at)

    def confirm_endpoint(self, run: str, name: str) -> None:
        """Tag the configuration that answered, and delete the parts that the endpoint served before."""
        described = describe(self._session, name)
        serving = described.endpoint_config_name if described else ""
        known = parts.find(self._session, run, name)
        for part in known:
            if part.name == serving and not part.answered:
                parts.mark_answered(self._session, part)
        parts.delete(self._session, [part for part in known if part.name != serving])

    def restore_endpoint(self, run: str, name: str) -> EndpointRef | None:
        """Update the endpoint back to the configuration that last answered; None if there is none."""
        described = _wait_until_still(self._session, name)
        known = parts.find(self._session, run, name)
        if described is None or described.endpoint_status != "InService":
            return None
        before = [part for part in known if part.answered and part.name != described.endpoint_config_name]
        if not before:
            scaling.turn_on_or_off(self._session, name)  # an update that was refused has turned it off
            return None
        self._session.reporter.step(f"putting endpoint {name} back to what it served before")
        _update(self._session, described, before[-1].name)
        ended = _wait_until_still(self._session, name)
        if ended is None or (ended.endpoint_status, ended.endpoint_config_name) != ("InService", before[-1].name):
            status = ended.endpoint_status if ended else "gone"
            raise BackendError(
                f"endpoint {name} cannot go back to what it served before: it is {status}",
                "it may still serve and is billed: look with `lorasum status`; `lorasum teardown` deletes it",
            )
        parts.delete(self._session, [part for part in known if part.name != before[-1].name])
        scaling.turn_on_or_off(self._session, name)
        return EndpointRef(name, ended.endpoint_arn, served_artifact(self._session, ended))

    def endpoint_state(self, run: str, name: str) -> EndpointState:
        return endpoint_states.state(self._session, name)

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        return invoke(self._session, endpoint, payload, timeout)

    def stream(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
        return stream(self._session, endpoint, payload, timeout)

    def delete_endpoint(self, run: str, name: str, mark: str = "") -> bool:
        return endpoint_deletion.delete(self._session, run, name, mark)

    def _did_not_start(self, spec: EndpointSpec, ended: "Endpoint | None", is_new: bool) -> BackendError:
        """The error to raise. An endpoint that rolled back goes on serving its earlier model; any other is deleted."""
        name = spec.name
        tail = " | ".join(log_of(self._session, name).tail()[-4:])
        said = (ended.failure_reason or ended.endpoint_status) if ended else "it is gone"
        reason = " ".join(said.split()) + (f"; its log ends: {tail}" if tail else "")
        if ended and ended.endpoint_status in SERVING:
            known = parts.find(self._session, spec.run, name)
            unused = [part for part in known if not part.answered and part.name != ended.endpoint_config_name]
            parts.delete(self._session, unused)
            if is_new:
                return BackendError(
                    f"endpoint {name} was started by another client meanwhile, and serves something else",
                    "deploy again to have it serve this model",
                )
            scaling.turn_on_or_off(self._session, name)
            return BackendError(
                f"endpoint {name} rolled back to what it served before: {reason}", "see the reason, then deploy again"
            )
        self.delete_endpoint(spec.run, name, spec.mark if is_new else "")
        return BackendError(f"endpoint {name} did not start: {reason}", "nothing is left of it; see the reason")


def _to_update(session: Session, spec: EndpointSpec) -> "Endpoint | None":
    """The endpoint that serves under this name; None if there is none. A failed one is deleted."""
    described = _wait_until_still(session, spec.name)
    if described is None:
        return None
    own_tags(session, described, spec.run)
    if described.endpoint_status == "InService":
        return described
    if described.endpoint_status in SERVING:
        raise BackendError(
            f"endpoint {spec.name} still serves, but {SERVING[described.endpoint_status]}",
            "`lorasum teardown` deletes it; then deploy again",
        )
    delete_and_wait(session, described)
    delete_parts(session, spec.run, spec.name)  # its end stays: it is the new one's
    return None


def _remember(session: Session, spec: EndpointSpec, described: "Endpoint") -> None:
    """Tag the configuration that serves, unless one is tagged already: a deploy may have been killed before it did."""
    known = parts.find(session, spec.run, spec.name)
    if not any(part.answered for part in known):
        for part in known:
            if part.name == described.endpoint_config_name:
                parts.mark_answered(session, part)


def _update(session: Session, endpoint: "Endpoint", configuration: str) -> None:
    """Make the endpoint serve another configuration, on the instances that it has."""
    scaling.turn_off(session, endpoint.endpoint_name)  # SageMaker refuses to update an endpoint that is autoscaled
    request = update_request(endpoint.endpoint_name, configuration, session.config)
    try:
        _ask(session, endpoint.endpoint_name, look(endpoint), lambda: sdk.update(session, endpoint, request))
    except BackendError as error:
        if error_code(error.__cause__) == "ResourceLimitExceeded":
            raise BackendError(error.message, _TWICE) from error
        if error_code(error.__cause__) not in TAKEN and not isinstance(error, OutageError):
            raise
        now = awaited(session, endpoint.endpoint_name)
        if now is None or (now.endpoint_status not in MOVING and now.endpoint_config_name != configuration):
            raise  # else the answer was lost, and boto3 has asked for it a second time


def _shrink(session: Session, endpoint: "Endpoint") -> None:
    """Make a fleet smaller. It may serve as it is where this identity may not: the update was paid for."""
    try:
        _ask(session, endpoint.endpoint_name, look(endpoint), lambda: scaling.shrink(session, endpoint))
    except BackendError as error:
        if not is_denied(error.__cause__):
            raise
        session.reporter.warn(f"{error.message}: its instances stay, and each is billed. {error.hint}")
    _wait_until_still(session, endpoint.endpoint_name)


def _ask(session: Session, name: str, before: object, call: Callable[[], object]) -> None:
    """Make a call that creates or updates an endpoint, which had this look before."""
    session.asked[name] = before
    try:
        _create(call)
    except BackendError as error:
        if not isinstance(error, OutageError):  # it was refused
            session.asked.pop(name)
        raise


def _create(call: Callable[[], object]) -> None:
    """Make a call that creates something. If the name is taken it exists already: names are hashes of content."""
    for attempt in range(_NEW_NAMES):
        try:
            call()
            return
        except BackendError as error:
            text = str(error.__cause__).lower()
            if error_code(error.__cause__) in TAKEN and "already exist" in text:
                return
            if not is_missing(error.__cause__) or attempt == _NEW_NAMES - 1:
                raise
            time.sleep(min(poll_seconds(), 2))


def _wait_until_still(session: Session, name: str) -> "Endpoint | None":
    """Wait until the endpoint is no longer changing and return its description; None if there is none."""
    began, told = time.monotonic(), ""
    while described := awaited(session, name):
        status = described.endpoint_status
        if status not in MOVING:
            return described
        if status != told:
            session.reporter.step(f"endpoint {name}: {status}")
            told = status
        if time.monotonic() - began > LONGEST_WAIT:
            raise BackendError(f"endpoint {name} is still {status} after two hours", "run `lorasum teardown`")
        time.sleep(poll_seconds())
    return None
