"""Who we are on AWS: region, account, clients, execution role, bucket; and what AWS's errors mean to a user."""

import os
import re
from functools import cached_property
from typing import Any

from lorasum.aws import POLICIES, attempts, aws_errors, is_denied, is_missing
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError
from lorasum.reporting import Reporter, Silent

_SERVICE, _SCHEDULER = "sagemaker.amazonaws.com", "scheduler.amazonaws.com"
_NAMES = {_SERVICE: "SageMaker", _SCHEDULER: "EventBridge Scheduler"}
_SSO = "AWSReservedSSO_"
_FIRST = 4
"""Attempts at a command's first question, who we are: without a network, twelve would take a minute."""


class Session:
    """The AWS account and region of one config. AWS is asked only when an answer is needed, and only once.

    Args:
        config: the section `sagemaker`.
        reporter: shows uploads, what is waited for, and what the user should know.
    """

    def __init__(self, config: SageMakerConfig, reporter: Reporter | None = None) -> None:
        self.config = config
        self.reporter = reporter or Silent()
        self._clients: dict[str, Any] = {}
        self._warned: set[str] = set()
        self.has_no_price_list = False
        """Whether the price list has not answered: it is not asked again."""
        self.deleting: set[str] = set()
        """Endpoints that this command has asked to be deleted, and has not seen gone."""
        self.asked: dict[str, object] = {}
        """Endpoints that it has asked to be created or updated, and how they looked before: SageMaker shows it late."""

    def warn_once(self, text: str) -> None:
        """Show a warning, unless it was shown before."""
        if text not in self._warned:
            self._warned.add(text)
            self.reporter.warn(text)

    @cached_property
    def region(self) -> str:
        """The region of all resources.

        Raises:
            BackendError: neither config nor environment names one, or boto3 is not installed.
        """
        region = self.config.region or self.boto3_session.region_name
        if not region:
            raise BackendError("no AWS region is set", "set sagemaker.region in the config, or AWS_REGION")
        return str(region)

    def region_or(self, other: str) -> str:
        """The region of the config or the environment; `other` where neither names one, or nobody can tell."""
        try:
            return self.region
        except BackendError:
            return other

    @cached_property
    def partition(self) -> str:
        """AWS's partition of the region: `aws`, `aws-cn` (China) or `aws-us-gov` (GovCloud)."""
        with aws_errors(f"find out where {self.region} is"):
            return str(self.boto3_session.get_partition_for_region(self.region))

    @cached_property
    def account(self) -> str:
        """The account's 12 digits."""
        return str(self._identity["Account"])

    def client(self, service: str) -> Any:
        """The boto3 client of a service. It retries, and its calls time out."""
        if service not in self._clients:
            session = self.boto3_session  # first: it says what to install where there is no boto3
            from botocore.config import Config

            tries = min(attempts(), _FIRST) if service == "sts" else attempts()
            settings = Config(
                retries={"mode": "standard", "total_max_attempts": tries},
                connect_timeout=10,
                read_timeout=70,  # an endpoint may take 60
                user_agent_extra="lorasum",
            )
            with aws_errors(f"use {service}"):
                self._clients[service] = session.client(service, region_name=self.region, config=settings)
            if service == "s3":
                self._clients[service].meta.events.register("provide-client-params.s3", self._name_the_owner)
        return self._clients[service]

    def runtime(self, timeout: float) -> Any:
        """A client for requests to endpoints, which are never sent twice; `timeout` in seconds."""
        from botocore.config import Config

        once = {"mode": "standard", "total_max_attempts": 1}
        settings = Config(retries=once, connect_timeout=10, read_timeout=timeout)
        key = f"sagemaker-runtime {timeout}"
        if key not in self._clients:
            where = {"region_name": self.region, "config": settings}
            self._clients[key] = self.boto3_session.client("sagemaker-runtime", **where)
        return self._clients[key]

    def impatient(self, service: str, region: str | None = None) -> Any:
        """A client for optional questions, such as prices: it gives up early. `region` defaults to the run's."""
        from botocore.config import Config

        settings = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=3, read_timeout=5)
        return self.boto3_session.client(service, region_name=region or self.region, config=settings)

    @cached_property
    def role_arn(self) -> str:
        """ARN of the execution role. Its trust policy is checked if we may read it.

        Raises:
            BackendError: there is none, it is not a role, or its trust policy does not name SageMaker.
        """
        wanted = self.config.role or _own_role(str(self._identity["Arn"]))
        if wanted and wanted.startswith(_SSO) and not self.config.role:
            raise BackendError(
                f"you are logged in by single sign-on, and SageMaker cannot assume its role {wanted}",
                f"set sagemaker.role to an execution role's ARN or name; {POLICIES} it needs",
            )
        if wanted is None:
            raise BackendError(
                "no execution role is set: SageMaker needs one to run jobs under",
                f"set sagemaker.role to its ARN or name; {POLICIES} it needs",
            )
        if ":user/" in wanted or wanted.endswith(":root"):
            raise BackendError(
                f"sagemaker.role {wanted} is a user, and SageMaker can only assume a role",
                f"create a role that trusts {_SERVICE}; {POLICIES} it needs",
            )
        return self._checked_role(wanted, _SERVICE)

    @cached_property
    def scheduler_role_arn(self) -> str:
        """ARN of the role under which EventBridge Scheduler deletes what is over.

        Raises:
            BackendError: none is set, there is none of that name, or Scheduler may not assume it.
        """
        if not self.config.scheduler_role:
            raise BackendError(
                "no role is set that EventBridge Scheduler may assume",
                f"set sagemaker.scheduler_role to its ARN or name; {POLICIES} it needs",
            )
        return self._checked_role(self.config.scheduler_role, _SCHEDULER)

    def _name_the_owner(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """Make S3 refuse calls to a bucket of another account: a deleted bucket's name can be taken by anybody."""
        if "ExpectedBucketOwner" in model.input_shape.members:
            params.setdefault("ExpectedBucketOwner", self.config.bucket_owner or self.account)

    @property
    def encryption(self) -> dict[str, str]:
        """What a PutObject says of encryption, if the config has a key of its own."""
        key = self.config.kms_key
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}

    @property
    def bucket_name(self) -> str:
        """Name of the bucket, whether or not it exists."""
        return self.config.bucket or f"sagemaker-{self.region}-{self.account}"

    @cached_property
    def bucket(self) -> str:
        """Name of the bucket, after checking that it exists and that we may use it.

        Raises:
            BackendError: it does not, it is somebody else's, or it is in another region.
        """
        name = self.bucket_name
        s3 = self.client("s3")
        try:
            with aws_errors(f"look at the bucket {name}", "s3:ListBucket"):
                there = s3.head_bucket(Bucket=name)
        except BackendError as error:
            if is_denied(error.__cause__):
                raise BackendError(
                    f"you may not use the bucket {name}: it is another account's, or your identity lacks s3:ListBucket",
                    f"choose a bucket of account {self.account}, or set sagemaker.bucket_owner; {POLICIES}",
                ) from error
            if not is_missing(error.__cause__):
                raise
            if not self.config.create_bucket:
                raise BackendError(
                    f"there is no bucket {name}",
                    "set sagemaker.bucket to one you have, or sagemaker.create_bucket: true",
                ) from error
            self._create_bucket(name)
            return name
        found = there.get("BucketRegion") or there["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        if found and found != self.region:
            raise BackendError(
                f"the bucket {name} is in {found}, and the run in {self.region}",
                f"set sagemaker.region to {found}, or choose another bucket",
            )
        return name

    @cached_property
    def boto3_session(self) -> Any:
        try:
            import boto3
        except ImportError as error:
            raise BackendError("the sagemaker backend needs boto3", "pip install 'lorasum[sagemaker]'") from error
        with aws_errors("read the AWS configuration"):
            return boto3.Session(profile_name=self.config.profile)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        sts = self.client("sts")
        with aws_errors("find out whose credentials these are", "sts:GetCallerIdentity"):
            identity: dict[str, Any] = sts.get_caller_identity()
        return identity

    def _checked_role(self, wanted: str, service: str) -> str:
        """ARN of a role that `service` may assume, as far as we are allowed to see."""
        field = "scheduler_role" if service == _SCHEDULER else "role"
        name = wanted.rpartition("/")[2]
        if wanted.startswith("arn:") and wanted.split(":")[4] != self.account:
            return wanted  # another account's role: only SageMaker can check it
        iam = self.client("iam")
        try:
            with aws_errors(f"look at the role {name}", "iam:GetRole"):
                role = iam.get_role(RoleName=name)["Role"]
        except BackendError as error:
            if is_missing(error.__cause__):
                raise BackendError(
                    f"there is no role {name} in account {self.account}",
                    f"create it or set sagemaker.{field} to another; {POLICIES} it needs",
                ) from error
            if is_denied(error.__cause__) and wanted.startswith("arn:"):
                return wanted  # we may not read it: the service will check it
            raise
        if not _trusts(role["AssumeRolePolicyDocument"], service):
            raise BackendError(
                f"{_NAMES[service]} cannot assume the role {name}: its trust policy does not name {service}",
                f"add it to the role's trust policy; {POLICIES}",
            )
        return str(role["Arn"])

    def _create_bucket(self, name: str) -> None:
        s3 = self.client("s3")
        place = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        with aws_errors(f"create the bucket {name}", "s3:CreateBucket"):
            s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": place} if place else {}))
            blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True))
            key = {"KMSMasterKeyID": self.config.kms_key} if self.config.kms_key else {}
            encryption = {"SSEAlgorithm": "aws:kms" if key else "AES256", **key}
            s3.put_bucket_encryption(
                Bucket=name,
                ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": encryption}]},
            )


def poll_seconds() -> float:
    """Seconds between two looks at a job or an endpoint. `LORASUM_POLL_SECONDS` changes it."""
    return float(os.environ.get("LORASUM_POLL_SECONDS") or 10)


def _own_role(identity: str) -> str | None:
    """The role behind arn:aws:sts::1:assumed-role/Name/session; None for a user."""
    match = re.fullmatch(r"arn:[\w-]+:sts::\d+:assumed-role/([^/]+)/.*", identity)
    return match.group(1) if match else None


def _trusts(policy: dict[str, Any], service: str) -> bool:
    statements = policy.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        if statement.get("Effect") == "Allow" and service in ([services] if isinstance(services, str) else services):
            return True
    return False
