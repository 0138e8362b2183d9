"""The requests of a job and of an endpoint as they would be sent. Nothing is sent that creates anything."""

from typing import Any, Literal

from lorasum.backends.records import EndpointSpec, TrainSpec
from lorasum.backends.sagemaker import jobs
from lorasum.backends.sagemaker.endpoint_requests import (
    endpoint_config_request,
    endpoint_request,
    model_request,
    part_name,
    scaling_requests,
)
from lorasum.backends.sagemaker.images import inference_image, training_image
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.backends.sagemaker.served import model_to_serve
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError

_ANY_REGION = "us-east-1"


def training_request(session: Session, spec: TrainSpec) -> dict[str, Any]:
    """The arguments of CreateTrainingJob."""
    return jobs.request(session, spec, _place(session, spec.run, "training"))


def endpoint_requests(session: Session, spec: EndpointSpec) -> dict[str, Any]:
    """The arguments of each operation that makes a first endpoint, in their order."""
    config, place = session.config, _place(session, spec.run, "inference")
    served = model_to_serve(session, spec, place, sends=False)
    name = part_name(spec.name, served, place, config)
    requests = {
        "CreateModel": model_request(name, served, place, config),
        "CreateEndpointConfig": endpoint_config_request(name, served, place, config),
        "CreateEndpoint": endpoint_request(spec.name, name, place, config),
    }
    if config.max_instances > 1:
        target, policy = scaling_requests(spec.name, config)
        requests |= {"RegisterScalableTarget": target, "PutScalingPolicy": policy}
    return requests


def _place(session: Session, run: str, scope: Literal["training", "inference"]) -> Place:
    """The bucket, role and image of a run; placeholders where AWS cannot be asked for them."""
    try:
        return jobs.place(session, run, scope)
    except BackendError as error:
        session.reporter.warn(f"{error.message}: the request shows placeholders")
    config = session.config
    image = training_image if scope == "training" else inference_image
    return Place(
        layout=S3Layout(config.bucket or "<bucket>", config.prefix, run),
        role=config.role or "<role>",
        image=image(config, session.region_or(_ANY_REGION)),
    )
