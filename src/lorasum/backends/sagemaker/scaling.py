"""Autoscaling of an endpoint's instances."""

from lorasum.aws import aws_errors, is_denied
from lorasum.backends.sagemaker.endpoint_requests import scalable_target, scaling_requests
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError


def turn_on_or_off(session: Session, endpoint: str) -> None:
    """Turn autoscaling on, or off, as the config says."""
    if session.config.max_instances == 1:
        turn_off(session, endpoint)
        return
    target, policy = scaling_requests(endpoint, session.config)
    client = session.client("application-autoscaling")
    with aws_errors(f"let endpoint {endpoint} grow", "application-autoscaling:RegisterScalableTarget"):
        client.register_scalable_target(**target)
        client.put_scaling_policy(**policy)


def turn_off(session: Session, endpoint: str) -> None:
    """Turn autoscaling off. A missing permission is not an error: this identity cannot have turned it on either."""
    try:
        with aws_errors(f"stop endpoint {endpoint} from growing", "application-autoscaling:DeregisterScalableTarget"):
            session.client("application-autoscaling").deregister_scalable_target(**scalable_target(endpoint))
    except BackendError as error:
        denied = is_denied(error.__cause__) and session.config.max_instances == 1
        if not denied and "no scalable target" not in str(error.__cause__).lower():
            raise
