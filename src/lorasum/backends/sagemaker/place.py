"""Where a run's jobs and endpoints are: bucket, role and image."""

from typing import Literal

from lorasum.backends.sagemaker.images import inference_image, training_image
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError

Scope = Literal["training", "inference"]

_ANY_REGION = "us-east-1"
_IMAGE = {"training": training_image, "inference": inference_image}


def place_of(session: Session, run: str, scope: Scope) -> Place:
    """The bucket, role and image of a run. AWS is asked for those that the config does not name."""
    return Place(
        layout=S3Layout(session.bucket, session.config.prefix, run),
        role=session.role_arn,
        image=_IMAGE[scope](session.config, session.region),
    )


def shown_place(session: Session, run: str, scope: Scope) -> Place:
    """The bucket, role and image of a run; placeholders where AWS cannot be asked for them."""
    try:
        return place_of(session, run, scope)
    except BackendError as error:
        session.reporter.warn(f"{error.message}: the request shows placeholders")
    config = session.config
    return Place(
        layout=S3Layout(config.bucket or "<bucket>", config.prefix, run),
        role=config.role or "<role>",
        image=_IMAGE[scope](config, session.region_or(_ANY_REGION)),
    )
