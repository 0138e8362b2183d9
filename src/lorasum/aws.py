"""Turns AWS's errors into errors for the user: one line that says what happened, and one hint."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from lorasum.errors import BackendError, OutageError
from lorasum.system.files import first_line
from lorasum.system.paths import doc

POLICIES = f"{doc('iam')} has the policies"
_LOG_IN = "log in to AWS (`aws configure`, `aws sso login` or `aws login`), or set AWS_PROFILE"
_MISSING_CODES = ("ResourceNotFound", "ResourceNotFoundException", "NoSuchEntity", "NoSuchKey", "NoSuchBucket", "404")
_DENIED_CODES = ("AccessDenied", "AccessDeniedException", "403", "AuthorizationError", "UnauthorizedOperation")
_EXPIRED_CODES = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
_UNKNOWN_CODES = ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_THROTTLED_CODES = (
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "SlowDown",
    "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded",
)  # fmt: skip
_VALUES = re.compile(r"(enum value set: )\[[^\]]*\]")
_HINTS = {
    r"instance ?type.*(enum value set|not (available|supported))|not supported in (this|the) region": (
        "choose another instance type or region"
    ),
    r"not assume (the )?role|execution role ARN .* is invalid": (
        "a role that was made a moment ago is not known everywhere yet: run the same command again in a minute; or see "
        f"whether it trusts the service and has its rights; {POLICIES}"
    ),
}
"""What helps, by a regex of what AWS says."""


def attempts() -> int:
    """Attempts that boto3 makes at a call: the environment's AWS_MAX_ATTEMPTS, as in AWS's own tools, or 12.

    Twelve are enough for each of some 50 uploads when every second one is throttled.
    """
    given = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return max(1, int(given)) if given.isdecimal() else 12


def has_credentials() -> bool:
    """Whether boto3 finds credentials in the environment or the user's files; they may be wrong. AWS is not asked."""
    if find_spec("boto3") is None:
        return False
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session().get_credentials() is not None
    except BotoCoreError:  # a profile that is not there
        return False


def error_code(error: BaseException | None) -> str:
    """AWS's error code, such as `AccessDenied`; empty if the error did not come from AWS."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def is_missing(error: BaseException | None) -> bool:
    """Whether AWS said that something does not exist. SageMaker says so with a ValidationException."""
    text = str(error).lower()
    absent = "could not find" in text or "not found" in text or "does not exist" in text
    code = error_code(error)
    return code in _MISSING_CODES or (code in ("ValidationException", "ValidationError") and absent)


def is_denied(error: BaseException | None) -> bool:
    """Whether AWS refused a call because a permission is missing."""
    return error_code(error) in _DENIED_CODES


@contextmanager
def aws_errors(doing: str, action: str = "") -> Iterator[None]:
    """Turn an error of boto3 into a BackendError with a hint. The original error is its cause.

    It is an OutageError where AWS cannot be reached, throttles all attempts or has a fault of its own, and where this
    machine's clock is wrong, as after a laptop has slept.

    Args:
        doing: what the block does, such as "start training job chats-1a2b3c4d". The message says "cannot" before it.
        action: the IAM action that the call needs, such as `s3:PutObject`. The hint names it after a denial.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as UnreachedError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        passes = error_code(error) in _THROTTLED_CODES or _status(error) >= 500 or _is_skewed(error)
        kind = OutageError if passes else BackendError
        raise kind(f"cannot {doing}: {_message(error)}", _client_hint(error, action)) from error
    except (UnreachedError, HTTPClientError, ResponseParserError) as error:
        raise OutageError(f"cannot {doing}: {first_line(error)}", _local_hint(error)) from error
    except (BotoCoreError, Boto3Error) as error:
        inner = error.__context__  # a transfer to S3 wraps what the service said
        hint = _client_hint(inner, action) if isinstance(inner, ClientError) else _local_hint(error)
        raise BackendError(f"cannot {doing}: {first_line(error)}", hint) from error
    except RuntimeError as error:
        if "credentials are still expired" not in str(error):  # boto3's words of credentials that it has just fetched
            raise
        raise BackendError(f"cannot {doing}: {first_line(error)}", _LOG_IN) from error


@contextmanager
def unless_missing() -> Iterator[None]:
    """Leave the block quietly if AWS says, to an `aws_errors` in it, that something does not exist."""
    try:
        yield
    except BackendError as error:
        if not is_missing(error.__cause__):
            raise


def _client_hint(error: Any, action: str) -> str:
    code, text = error_code(error), str(error)
    if known := next((hint for said, hint in _HINTS.items() if re.search(said, text, re.IGNORECASE)), ""):
        return known
    if code in _DENIED_CODES:
        return denied_hint(text, action)
    if code in _EXPIRED_CODES:
        return "the credentials have expired: log in again (`aws sso login`), then run the same command"
    if _is_skewed(error):
        return "AWS refuses requests of another time: set the clock of this machine, then run the same command"
    if code in _UNKNOWN_CODES:
        return "AWS does not know these credentials: check AWS_PROFILE, AWS_ACCESS_KEY_ID and the region"
    if code in ("ResourceLimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"):
        return (
            "ask for a higher quota (`aws service-quotas list-service-quotas --service-code sagemaker` lists them), "
            "or choose another instance type"
        )
    if code in _THROTTLED_CODES:
        return f"AWS throttled {attempts()} attempts: wait a minute, then run the same command"
    if _status(error) >= 500:
        return "an error on AWS's side: run the same command again"
    return f"check the config's section sagemaker; {POLICIES}"


def denied_hint(text: str, action: str) -> str:
    """What to do about a denial, by what AWS says of it. No right of one's own outweighs an explicit deny."""
    if "object lock" in text:
        return "the bucket's Object Lock keeps objects until their time is over, and they are billed until then"
    denied = re.search(r"perform: (\S+)", text)
    needed = denied.group(1) if denied else action or "the action"
    if forbids := re.search(r"explicit deny in (an? [\w -]+ (?:policy|boundary))", text):
        return (
            f"{forbids[1]} forbids {needed}, whatever else allows it: ask who keeps it for its conditions, such as a "
            "region, a VPC, a key or tags (sagemaker.region, subnets, kms_key, tags)"
        )
    lacks = re.search(r"because no ([\w -]+ (?:policy|boundary)) allows", text)
    where = f"in your {lacks[1]}" if lacks and lacks[1] != "identity-based policy" else "to your identity"
    return f"allow {needed} {where}; {POLICIES}"


def _is_skewed(error: Any) -> bool:
    """Whether AWS takes a request for one of another time. A wrong key has the same code, and other words."""
    return error_code(error) == "RequestTimeTooSkewed" or bool(
        re.search("Signature (expired|not yet current)", str(error))
    )


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _local_hint(error: Any) -> str:
    name = type(error).__name__
    if "Credential" in name or "SSO" in name or name.startswith("Login") or name == "TokenRetrievalError":
        return _LOG_IN
    if name == "ProfileNotFound":
        return "`aws configure list-profiles` lists your profiles"
    if name in ("EndpointConnectionError", "InvalidRegionError", "NoRegionError", "UnknownRegionError"):
        return "check the network and sagemaker.region"
    if name == "SSLError" and ("certificate" in str(error).lower() or "No such file" in str(error)):
        return "set AWS_CA_BUNDLE to a file with the certificates to trust; a company's proxy has one of its own"
    if name == "ProxyConnectionError":
        return "check HTTPS_PROXY and NO_PROXY, then run the same command again"
    if name == "ResponseParserError":
        return "something else answered for AWS, such as a company's proxy: check HTTPS_PROXY and AWS_ENDPOINT_URL"
    if name == "ParamValidationError":
        return "check the config's section sagemaker"
    return "check the network, then run the same command again"


def _message(error: Any) -> str:
    known = error.response.get("Error", {})
    message = _VALUES.sub(r"\1…", " ".join(str(known.get("Message") or "").split()))  # hundreds of instance types
    return f"{message} ({known.get('Code')})" if message else f"{known.get('Code') or error}"
