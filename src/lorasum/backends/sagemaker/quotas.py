"""How many instances an account may use: asked before anything is uploaded or submitted, where we may ask."""

from typing import Any, Literal

from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError

Use = Literal["training job", "spot training job", "endpoint"]


def check_quota(session: Session, instance_type: str, use: Use, wanted: int = 1) -> None:
    """See that the account may use `wanted` instances of a type; where it does not say, the service itself will.

    Raises:
        BackendError: the quota is smaller.
    """
    name = f"{instance_type} for {use} usage"
    quota = _find(session, name)
    if quota is None or quota["Value"] >= wanted:
        return
    raise BackendError(
        f"your quota of {name!r} in {session.region} is {quota['Value']:g}, and {wanted} is needed",
        f"ask for more: aws service-quotas request-service-quota-increase --service-code sagemaker --region "
        f"{session.region} --quota-code {quota['QuotaCode']} --desired-value {wanted}; or choose another instance",
    )


def _find(session: Session, name: str) -> dict[str, Any] | None:
    """The account's quota of this name; None where it cannot be looked up."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        pages = session.impatient("service-quotas").get_paginator("list_service_quotas")
        for page in pages.paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                if quota["QuotaName"] == name:
                    return dict(quota)
    except (BotoCoreError, ClientError):
        return None  # not allowed, not reachable: creating the job or endpoint will say it
    return None
