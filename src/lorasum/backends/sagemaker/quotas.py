"""Quotas: how many instances an account may use. They are checked before anything is uploaded, if that is permitted."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

from lorasum.aws import is_missing
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError

InstanceUse = Literal["training job", "spot training job", "endpoint", "training warm pool"]
_LISTS = ("list_service_quotas", "list_aws_default_service_quotas")
"""The first call omits quotas that still have their default; the second one has the defaults."""
_MOST_LOOKED_AT = 20  # jobs or endpoints; if there are more, the service decides by itself


def check_quotas(session: Session, instance_types: Sequence[str], use: InstanceUse, wanted: int = 1) -> None:
    """Check that the account may use `wanted` more instances of one of the types.

    Raises:
        BackendError: every quota is too small. The message names the first type, which the config prefers.
    """
    problems = []
    for instance_type in instance_types:
        try:
            check_quota(session, instance_type, use, wanted)
            return
        except BackendError as error:
            problems.append(error)
    raise problems[0]


def check_quota(session: Session, instance_type: str, use: InstanceUse, wanted: int = 1) -> None:
    """Check that the account may use `wanted` more instances of a type. If its quota cannot be read, SageMaker decides.

    Raises:
        BackendError: the quota is smaller, or what is in use leaves too few.
    """
    quota = _find(session, f"{instance_type} for {use} usage")
    if quota is None:
        return
    used = _in_use(session, instance_type, use) if quota["Value"] >= wanted else 0
    if quota["Value"] >= used + wanted:
        return
    in_use = f"{used} of them in use, " if used else ""
    name, code, value = quota["QuotaName"], quota["QuotaCode"], quota["Value"]
    raise BackendError(
        f"your quota of {name!r} in {session.region} is {value:g}, {in_use}and {wanted} is needed",
        "ask for more: aws service-quotas request-service-quota-increase --service-code sagemaker "
        f"--region {session.region} --quota-code {code} --desired-value {used + wanted}; or choose another instance"
        + (", or wait until one is free" if used else ""),
    )


def tell_of_less_growth(session: Session, instance_types: Sequence[str], most: int) -> None:
    """Warn that an endpoint will not grow to `most` instances if the quotas do not allow it."""
    try:
        check_quotas(session, instance_types, "endpoint", most)
    except BackendError as error:
        session.reporter.warn(
            f"{error.message} for it to grow to sagemaker.max_instances: it grows as far as the quota. {error.hint}"
        )


def tell_of_no_warm_pool(session: Session, instance_type: str) -> None:
    """Warn that no instance will be kept after the job if its quota is 0, which is the default."""
    quota = _find(session, f"{instance_type} for training warm pool usage")
    if quota and quota["Value"] < 1:
        session.reporter.warn(
            f"your quota of {quota['QuotaName']!r} is 0: no instance will be kept for sagemaker.keep_alive_minutes. "
            f"Ask for more: quota code {quota['QuotaCode']}"
        )


def _find(session: Session, name: str) -> dict[str, Any] | None:
    """The account's quota of this name; None if it cannot be looked up."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = session.impatient("service-quotas")
    for operation in _LISTS:
        try:
            for page in client.get_paginator(operation).paginate(ServiceCode="sagemaker"):
                for quota in page["Quotas"]:
                    if quota["QuotaName"] == name:
                        return dict(quota)
        except (BotoCoreError, ClientError):
            continue  # not permitted or not reachable: creating the job or endpoint will tell
    return None


def _in_use(session: Session, instance_type: str, use: InstanceUse) -> int:
    """Number of instances of a type that the account uses now; 0 if that may not be listed."""
    from botocore.exceptions import BotoCoreError, ClientError

    used = _endpoint_instances(session) if use == "endpoint" else _job_instances(session, use.startswith("spot"))
    try:
        return sum(count for kind, count in used if kind == instance_type)
    except (BotoCoreError, ClientError):
        return 0


def _job_instances(session: Session, spot: bool) -> Iterator[tuple[str, int]]:
    """Instance type and number of each running job."""
    client = session.impatient("sagemaker")
    pages = client.get_paginator("list_training_jobs").paginate(StatusEquals="InProgress")
    for job in islice((job for page in pages for job in page["TrainingJobSummaries"]), _MOST_LOOKED_AT):
        described = client.describe_training_job(TrainingJobName=job["TrainingJobName"])
        resources = described["ResourceConfig"]
        instance_type = resources.get("SelectedInstanceType") or resources.get("InstanceType")
        if described.get("EnableManagedSpotTraining", False) == spot and instance_type:
            yield instance_type, resources.get("InstanceCount", 1)


def _endpoint_instances(session: Session) -> Iterator[tuple[str, int]]:
    """Instance type and number of each endpoint's variants."""
    from botocore.exceptions import ClientError

    client = session.impatient("sagemaker")
    pages = client.get_paginator("list_endpoints").paginate()
    for endpoint in islice((endpoint for page in pages for endpoint in page["Endpoints"]), _MOST_LOOKED_AT):
        try:
            described = client.describe_endpoint(EndpointName=endpoint["EndpointName"])
            configuration = client.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
        except (ClientError, KeyError) as error:
            if isinstance(error, ClientError) and not is_missing(error):
                raise
            continue  # it or its configuration was deleted: what it uses is not known
        shown = described.get("ProductionVariants", [])  # not while it is created, nor where that failed
        counts = {one["VariantName"]: one.get("CurrentInstanceCount", 1) for one in shown}
        for variant in configuration["ProductionVariants"]:
            if "InstanceType" in variant:
                initial = variant.get("InitialInstanceCount", 1)
                yield variant["InstanceType"], counts.get(variant["VariantName"], initial)
