"""Empty a folder in S3, so that nothing in it is billed any more.

Deleting its objects is not enough. A bucket with versioning keeps deleted objects as versions, and an interrupted
upload leaves parts that are billed but not listed as objects.
"""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from lorasum.aws import aws_errors, denied_hint, is_denied, unless_missing
from lorasum.backends.sagemaker import storage
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.errors import BackendError, OutageError
from lorasum.system.batched import batched

_AT_ONCE = 1000  # objects; S3's limit
_TRIES = 4  # at objects that S3 did not delete because it was too busy
_PASSES = ("InternalError", "SlowDown", "ServiceUnavailable")
_GOES_ON = timedelta(days=7)  # an upload that began longer ago goes on nowhere: five gigabytes take that at 8 KB/s


def empty(session: Session, uri: str) -> int:
    """Delete every object below the folder `uri` with its versions, and the parts of interrupted uploads.

    If the user may not list versions or uploads, a warning says that some may be left.

    Returns:
        How many objects and versions there were; none is not an error.

    Raises:
        BackendError: an object could not be deleted.
    """
    if not uri.endswith("/"):
        raise ValueError(f"{uri} does not end in a slash: the keys of other folders begin with it too")
    bucket, prefix = storage.split_uri(uri)
    try:
        _abort_uploads(session, bucket, prefix)
    except BackendError as error:
        _tell(session, error, f"parts of interrupted uploads to {uri} may be left")
    try:
        found = _versions(session, bucket, prefix)
    except BackendError as error:
        _tell(session, error, f"older versions below {uri} may be left, if the bucket has versioning")
        found = [{"Key": key} for key, _ in storage.objects(session, uri)]
    errors = _delete_all(session, bucket, uri, found)
    if errors:
        said = errors[0]["Message"]
        raise BackendError(
            f"cannot delete {errors[0]['Key']}: {said} ({len(errors)} of {len(found)} objects)",
            denied_hint(said, _action(found)),
        )
    return len(found)


def empty_all(session: Session, folders: Iterable[str]) -> dict[str, int]:
    """`empty` each folder, also where another one holds what cannot be deleted.

    Raises:
        BackendError: an object could not be deleted; all others are.
    """
    counts, problems = {}, []
    for uri in folders:
        try:
            counts[uri] = empty(session, uri)
        except OutageError:
            raise
        except BackendError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return counts


def abort_old_uploads(session: Session, uri: str) -> None:
    """Abort the uploads below the folder `uri` that began over a week ago: those of other machines may still go on.

    If the user may not list or abort uploads, a warning says that some may be left.
    """
    try:
        _abort_uploads(session, *storage.split_uri(uri), before=datetime.now(UTC) - _GOES_ON)
    except BackendError as error:
        _tell(session, error, f"parts of interrupted uploads to {uri} may be left")


def _versions(session: Session, bucket: str, prefix: str) -> list[dict[str, str]]:
    """All versions and delete markers, as delete_objects takes them. Their version is null without versioning."""
    found = []
    for page in _pages(session, "list_object_versions", "s3:ListBucketVersions", bucket, prefix):
        found += [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    versioned = any(item["VersionId"] != "null" for item in found)
    return [{"Key": item["Key"]} | ({"VersionId": item["VersionId"]} if versioned else {}) for item in found]


def _abort_uploads(session: Session, bucket: str, prefix: str, before: datetime | None = None) -> None:
    for page in _pages(session, "list_multipart_uploads", "s3:ListBucketMultipartUploads", bucket, prefix):
        for upload in page.get("Uploads", []):
            if before and upload["Initiated"] > before:
                continue
            with aws_errors(f"abort the upload of {upload['Key']}", "s3:AbortMultipartUpload"):
                session.client("s3").abort_multipart_upload(
                    Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )


def _pages(session: Session, operation: str, action: str, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """The pages of a list of the bucket; none if there is no such bucket."""
    with unless_missing(), aws_errors(f"list s3://{bucket}/{prefix}", action):
        yield from session.client("s3").get_paginator(operation).paginate(Bucket=bucket, Prefix=prefix)


def _delete_all(session: Session, bucket: str, uri: str, found: list[dict[str, str]]) -> list[dict[str, str]]:
    """Delete all that can be deleted. S3's errors for the rest: those that pass by themselves only after some tries."""
    errors: list[dict[str, str]] = []
    for attempt in range(_TRIES):
        time.sleep(min(attempt, poll_seconds()))
        errors = [error for some in batched(found, _AT_ONCE) for error in _delete(session, bucket, uri, some)]
        found = [{name: one[name] for name in ("Key", "VersionId") if name in one} for one in errors]
        if all(error.get("Code") not in _PASSES for error in errors):
            break
    return errors


def _delete(session: Session, bucket: str, uri: str, some: list[dict[str, str]]) -> list[dict[str, str]]:
    with aws_errors(f"delete {uri}", _action(some)):
        answer = session.client("s3").delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})
    return list(answer.get("Errors", []))


def _action(some: list[dict[str, str]]) -> str:
    return "s3:DeleteObjectVersion" if some and "VersionId" in some[0] else "s3:DeleteObject"


def _tell(session: Session, error: BackendError, what: str) -> None:
    if not is_denied(error.__cause__):
        raise error
    session.reporter.warn(f"{what}: {error.hint}")
