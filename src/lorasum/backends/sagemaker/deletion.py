"""Empty a folder in S3, so that nothing in it is billed any more.

Deleting its objects is not enough. A bucket with versioning keeps deleted objects as versions, and an interrupted
upload leaves parts that are billed but not listed as objects.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from lorasum.aws import POLICIES, aws_errors, is_denied, unless_missing
from lorasum.backends.sagemaker import storage
from lorasum.backends.sagemaker.session import Session
from lorasum.batched import batched
from lorasum.errors import BackendError

_AT_ONCE = 1000  # objects; S3's limit
_GOES_ON = timedelta(days=7)  # an upload that began longer ago goes on nowhere: five gigabytes take that at 8 KB/s


def empty(session: Session, uri: str) -> int:
    """Delete every object below the folder `uri` with its versions, and the parts of interrupted uploads.

    If the user may not list versions or uploads, a warning says that some may be left.

    Returns:
        How many objects and versions there were; none is no error.

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
    for some in batched(found, _AT_ONCE):
        _delete(session, bucket, uri, some)
    return len(found)


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


def _delete(session: Session, bucket: str, uri: str, some: list[dict[str, str]]) -> None:
    action = "s3:DeleteObjectVersion" if "VersionId" in some[0] else "s3:DeleteObject"
    with aws_errors(f"delete {uri}", action):
        answer = session.client("s3").delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})
    if errors := answer.get("Errors"):
        raise BackendError(
            f"cannot delete {errors[0]['Key']}: {errors[0].get('Message')} ({len(errors)} of {len(some)} objects)",
            f"allow {action} to your identity; {POLICIES}",
        )


def _tell(session: Session, error: BackendError, what: str) -> None:
    if not is_denied(error.__cause__):
        raise error
    session.reporter.warn(f"{what}: {error.hint}")
