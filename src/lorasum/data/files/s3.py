"""Downloads objects from S3. Each version of an object is downloaded once, under a name of its own."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lorasum import paths
from lorasum.aws import aws_errors
from lorasum.errors import DataError
from lorasum.files import FILE_MODE, make_folder, maker_lock


@dataclass(frozen=True, slots=True)
class S3Login:
    """The AWS profile and region for S3. None takes that of the environment."""

    profile: str | None = None
    region: str | None = None

    def client(self) -> Any:
        """The S3 client.

        Raises:
            BackendError: the profile does not exist, or there are no credentials.
            DataError: boto3 is not installed.
        """
        try:
            import boto3
        except ImportError as error:
            raise DataError("data in S3 needs boto3", "pip install 'lorasum[sagemaker]'") from error
        with aws_errors("use S3"):
            return boto3.Session(profile_name=self.profile).client("s3", region_name=self.region)


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object of a listing. `etag` changes with its content, and `login` is used to read it."""

    bucket: str
    key: str
    etag: str
    size: int
    login: S3Login = S3Login()

    @property
    def local(self) -> Path:
        """The path of the downloaded file."""
        version = hashlib.sha256(f"{self.bucket}/{self.key} {self.etag} {self.size}".encode()).hexdigest()[:16]
        return paths.home() / "downloads" / version / Path(self.key).name


def find_objects(uri: str, is_meant: Callable[[Path], bool], login: S3Login) -> list[S3Object]:
    """The objects of an s3:// address, sorted by key. It names an object, a folder, or a pattern with * ? [].

    Args:
        is_meant: whether a file of a folder is of a known type.

    Raises:
        BackendError: S3 cannot be asked.
    """
    bucket, _, wanted = uri.removeprefix("s3://").partition("/")
    fixed = wanted[: min((wanted.find(sign) for sign in "*?[" if sign in wanted), default=len(wanted))]
    with aws_errors(f"list {uri}", "s3:ListBucket"):
        pages = login.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=fixed)
        listed = [item for page in pages for item in page.get("Contents", [])]
    folder = f"{wanted.rstrip('/')}/" if wanted else ""

    def chosen(key: str) -> bool:
        if fixed != wanted:
            return fnmatchcase(key, wanted) and key.count("/") == wanted.count("/")
        return key == wanted or (key.startswith(folder) and "/" not in key[len(folder) :] and is_meant(Path(key)))

    return [S3Object(bucket, item["Key"], item["ETag"], item["Size"], login) for item in listed if chosen(item["Key"])]


def download(there: S3Object) -> Path:
    """Download the object, unless that was done before, and return the file.

    Raises:
        BackendError: S3 refuses it or does not answer.
        DataError: the file cannot be written, or the object was changed meanwhile.
    """
    target = there.local
    if target.is_file():
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        with maker_lock(target, lambda: None):
            if not target.is_file():
                _remove_what_the_dead_left(target)
                make_folder(target.parent)
                with aws_errors(f"download s3://{there.bucket}/{there.key}", "s3:GetObject"):
                    there.login.client().download_file(there.bucket, there.key, str(part))
                if part.stat().st_size != there.size:
                    raise DataError(
                        f"s3://{there.bucket}/{there.key} was changed meanwhile", "run the same command again"
                    )
                part.replace(target)
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror}", "free some disk, then run it again") from error
    return target


def _remove_what_the_dead_left(target: Path) -> None:
    """Remove unfinished downloads of this object, whose lock is held, and of others whose lock nobody holds.

    boto3 writes `name.part.0A1B2C3D` first.
    """
    for left in target.parent.glob("*.part*"):
        left.unlink(missing_ok=True)
    for folder in target.parents[1].glob("*/"):
        if folder != target.parent and any(folder.glob("*.part*")):
            lock = FileLock(folder.with_name(f"{folder.name}.lock"), mode=FILE_MODE)
            with suppress(Timeout), lock.acquire(timeout=0):
                for left in folder.glob("*.part*"):
                    left.unlink(missing_ok=True)
