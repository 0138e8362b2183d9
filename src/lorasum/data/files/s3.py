"""Downloads objects from S3. Each version of an object is downloaded once, under a name of its own."""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lorasum.aws import aws_errors
from lorasum.errors import DataError
from lorasum.system import paths
from lorasum.system.files import FILE_MODE, maker_lock, new_folder


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


def find_objects(uri: str, is_meant: Callable[[Path], bool], login: S3Login) -> tuple[list[S3Object], list[str]]:
    """The objects of an s3:// address, sorted by key, and the folders in it that hold some too.

    The address names an object, a folder, or a pattern with * ? [].

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

    deeper = [item["Key"][len(folder) :] for item in listed if fixed == wanted and item["Key"].startswith(folder)]
    below = dict.fromkeys(key.partition("/")[0] for key in deeper if key.count("/") == 1 and is_meant(Path(key)))
    objects = [
        S3Object(bucket, item["Key"], item["ETag"], item["Size"], login) for item in listed if chosen(item["Key"])
    ]
    return objects, list(below)


def download(wanted: S3Object) -> Path:
    """Download the object, unless that was done before, and return the file.

    Raises:
        BackendError: S3 refuses it or does not answer.
        DataError: the object was changed meanwhile.
        LorasumError: the file cannot be written.
    """
    target = wanted.local
    if target.is_file():
        return target
    _remove_stale_part_files(target.parents[1])
    with maker_lock(target, lambda: None):
        if not target.is_file():
            with new_folder(target.parent) as folder:
                _fetch(wanted, folder / target.name)
    return target


def _fetch(wanted: S3Object, file: Path) -> None:
    address = f"s3://{wanted.bucket}/{wanted.key}"
    with aws_errors(f"download {address}", "s3:GetObject"):
        wanted.login.client().download_file(wanted.bucket, wanted.key, str(file))
    if file.stat().st_size != wanted.size:
        raise DataError(f"{address} was changed meanwhile", "run the same command again")


def _remove_stale_part_files(downloads: Path) -> None:
    """Remove what downloads left that were killed: the folders whose lock nobody holds."""
    for left in downloads.glob(".*.partial"):
        lock = FileLock(downloads / f"{left.name.removeprefix('.').removesuffix('.partial')}.lock", mode=FILE_MODE)
        with suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(left, ignore_errors=True)
