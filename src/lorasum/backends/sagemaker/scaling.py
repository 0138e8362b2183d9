"""Autoscaling of an endpoint's instances."""

from typing import TYPE_CHECKING

from lorasum.aws import aws_errors, is_denied
from lorasum.backends.sagemaker.endpoint_requests import VARIANT, scalable_target, scaling_requests
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError

if TYPE_CHECKING:
    from sagemaker.core.resources import Endpoint


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


def shrink(session: Session, endpoint: "Endpoint") -> None:
    """Ask for as many instances as the config allows: an update keeps the size of the fleet, as does `turn_off`."""
    name, most = endpoint.endpoint_name, session.config.max_instances
    session.reporter.step(f"endpoint {name} runs on {instances(endpoint)} instances: {most} from now on")
    turn_off(session, name)  # SageMaker refuses it while the endpoint is autoscaled
    wanted = {"VariantName": VARIANT, "DesiredInstanceCount": most}
    with aws_errors(f"make endpoint {name} smaller", "sagemaker:UpdateEndpointWeightsAndCapacities"):
        session.client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[wanted]
        )


def instances(endpoint: "Endpoint") -> int:
    """How many it runs on; 0 where SageMaker does not say it, such as while it is created."""
    variants = endpoint.production_variants
    counts = [variant.current_instance_count for variant in variants] if isinstance(variants, list) else []
    return sum(count for count in counts if isinstance(count, int))


def turn_off(session: Session, endpoint: str) -> None:
    """Turn autoscaling off. A missing permission is not an error: this identity cannot have turned it on either."""
    try:
        with aws_errors(f"stop endpoint {endpoint} from growing", "application-autoscaling:DeregisterScalableTarget"):
            session.client("application-autoscaling").deregister_scalable_target(**scalable_target(endpoint))
    except BackendError as error:
        denied = is_denied(error.__cause__) and session.config.max_instances == 1
        if not denied and "no scalable target" not in str(error.__cause__).lower():
            raise
