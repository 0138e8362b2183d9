"""Whether the account is ready: each check asks what a start would ask, and creates nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lorasum.backends.records import Check
from lorasum.backends.sagemaker.images import inference_image, training_image
from lorasum.backends.sagemaker.quotas import InstanceUse, check_quotas
from lorasum.backends.sagemaker.schedules import NOT_CHECKED
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError, LorasumError, OutageError


def checks(session: Session, expires: bool = False) -> list[Check]:
    """Credentials first; where they fail, or AWS cannot be reached, there is nothing more to ask.

    Args:
        expires: whether the endpoint is to end by itself.
    """
    config = session.config
    first = _checked("credentials", lambda: f"account {session.account}, {session.region}")
    if not first.ok:
        return [first]
    use: InstanceUse = "spot training job" if config.spot else "training job"
    for_training: dict[str, Callable[[], str]] = {
        "execution role": lambda: session.role_arn,
        "bucket": lambda: _bucket(session),
        f"quota of the {use}": lambda: _quota(session, config.training_instance_types, use, config.instance_count),
        "training image": lambda: training_image(config, session.region),
    }
    for_endpoint: dict[str, Callable[[], str]] = {
        "quota of the endpoint": lambda: _quota(session, config.endpoint_instance_types, "endpoint"),
        "inference image": lambda: inference_image(config, session.region),
    }
    if config.scheduler_role or expires:
        for_endpoint["role that ends endpoints"] = lambda: _ending(session)
    return [
        first,
        *(_checked(what, find) for what, find in for_training.items()),
        *(replace(_checked(what, find), stops_training=False) for what, find in for_endpoint.items()),
    ]


def _checked(what: str, find: Callable[[], str]) -> Check:
    try:
        return Check(what, True, find())
    except LorasumError as error:
        return Check(what, False, error.message, error.hint, unknown=isinstance(error, OutageError))


def _ending(session: Session) -> str:
    try:
        return f"{session.scheduler_role_arn}; {NOT_CHECKED}"
    except OutageError:
        raise
    except BackendError as error:
        raise BackendError(f"the endpoint will NOT end by itself: {error.message}", error.hint) from error


def _quota(session: Session, instance_types: Sequence[str], use: InstanceUse, wanted: int = 1) -> str:
    check_quotas(session, instance_types, use, wanted)
    return "enough, as far as it can be read"


def _bucket(session: Session) -> str:
    """The bucket's name. One that a start would create is not looked for: asking for it would create it."""
    return f"{session.bucket_name}, created where it is missing" if session.config.create_bucket else session.bucket
