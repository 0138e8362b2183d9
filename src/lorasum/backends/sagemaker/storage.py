"""Upload folders to S3, in parallel, and download them. A file that is there, with the same content, is not sent."""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasum.aws import aws_errors, unless_missing
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError
from lorasum.system.files import file_digest, new_file
from lorasum.system.threads import as_they_end, in_order

_SUM = "lorasum-sha256"  # metadata of each object: S3's own checksums of a multipart upload depend on its parts
_THREADS = 8


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a folder: its path on disk, its key below the S3 folder, its size and its hash."""

    path: Path
    key: str
    bytes: int
    sha256: str


def folder_files(folder: Path) -> list[StoredFile]:
    """The files below `folder`, sorted by name, without hidden files and Python's caches."""
    found = []
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in key.parts):
            found.append(StoredFile(path, key.as_posix(), path.stat().st_size, file_digest(path)))
    return found


def fingerprint(files: list[StoredFile]) -> str:
    """Twelve hex digits: a hash of all names and contents."""
    return hashlib.sha256("\n".join(f"{file.sha256} {file.key}" for file in files).encode()).hexdigest()[:12]


def upload(session: Session, files: list[StoredFile], uri: str, label: str) -> None:
    """Upload `files` to the S3 folder `uri`. After an interruption, the same call sends what is missing.

    Raises:
        BackendError: a file could not be uploaded.
    """
    bucket, prefix = split_uri(uri)
    s3 = session.client("s3")
    sizes = dict(objects(session, uri))  # one call for all, where a new folder would take one for each file

    def is_stored(file: StoredFile) -> bool:
        key = prefix + file.key
        return sizes.get(key) == file.bytes and _is_same(s3, bucket, key, file)

    missing = [file for file, known in in_order(is_stored, files, _THREADS) if not known]
    if not missing:
        return
    sent = _Sent(sum(file.bytes for file in missing))

    def tell() -> None:
        share = min(sent.done, sent.total - 1)
        session.reporter.progress(label, share, sent.total, f"{sent.done / 1e6:,.1f} of {sent.total / 1e6:,.1f} MB")

    def send(file: StoredFile) -> None:
        extra = {"Metadata": {_SUM: file.sha256}, **session.encryption}
        with aws_errors(f"upload {file.path.name} to s3://{bucket}/{prefix}{file.key}", "s3:PutObject"):
            s3.upload_file(str(file.path), bucket, prefix + file.key, ExtraArgs=extra, Callback=sent.add)

    for _ in as_they_end(send, missing, _THREADS, idle=tell, abandon=sent.abandon):
        tell()
    session.reporter.progress(label, 1, 1, f"{sent.total / 1e6:,.1f} MB")


def exists(session: Session, uri: str) -> bool:
    """Whether there is an object of exactly this name."""
    bucket, key = split_uri(uri)
    with unless_missing(), aws_errors(f"look at {uri}", "s3:GetObject"):
        session.client("s3").head_object(Bucket=bucket, Key=key)
        return True
    return False


def read(session: Session, uri: str) -> bytes | None:
    """The bytes of a small object; None if there is none."""
    bucket, key = split_uri(uri)
    with unless_missing(), aws_errors(f"read {uri}", "s3:GetObject"):
        content: bytes = session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return content
    return None


def download(session: Session, uri: str, folder: Path, below: str) -> None:
    """Download an S3 folder's objects whose key begins with `below`. A file that is here, of the same size, is kept.

    Raises:
        BackendError: one cannot be downloaded.
        OSError: `folder` cannot be written.
    """
    bucket, prefix = split_uri(uri)
    wanted = [
        (key.removeprefix(prefix), size)
        for key, size in objects(session, uri)
        if key.removeprefix(prefix).startswith(below)
    ]
    total, done = sum(size for _, size in wanted), 0
    for name, size in wanted:
        target = folder / name
        if folder.resolve() not in target.resolve().parents:
            raise BackendError(f"{uri} holds a file named {name!r}, which would lie outside {folder}", "delete it")
        if not target.is_file() or target.stat().st_size != size:
            with new_file(target, "wb") as file, aws_errors(f"download {uri}{name}", "s3:GetObject"):
                session.client("s3").download_fileobj(bucket, prefix + name, file)
        done += size
        session.reporter.progress(
            "downloading the artifact", done, max(total, 1), f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
        )


def contents(session: Session, uri: str) -> tuple[int, int]:
    """The number of objects below a folder, and their total bytes."""
    sizes = [size for _, size in objects(session, uri)]
    return len(sizes), sum(sizes)


def objects(session: Session, uri: str) -> list[tuple[str, int]]:
    """Key and size in bytes of each object below a folder; empty if there is no such bucket."""
    bucket, prefix = split_uri(uri)
    pages = session.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    with unless_missing(), aws_errors(f"list {uri}", "s3:ListBucket"):
        return [(item["Key"], item["Size"]) for page in pages for item in page.get("Contents", [])]
    return []


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// address."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class _Sent:
    """Counts the bytes sent so far. All transfer threads add to it, and so hear that nobody waits for them any more."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._abandoned = False
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        if self._abandoned:
            raise _AbandonedError
        with self._lock:
            self.done += count

    def abandon(self) -> None:
        """End the sending of files: a large one would take minutes more."""
        self._abandoned = True


class _AbandonedError(Exception):
    """The upload was interrupted."""


def _is_same(s3: Any, bucket: str, key: str, file: StoredFile) -> bool:
    """Whether the stored object has the file's content, by the digest that was stored with it."""
    with unless_missing(), aws_errors(f"look at s3://{bucket}/{key}", "s3:GetObject"):
        known = s3.head_object(Bucket=bucket, Key=key)
        return bool(known["ContentLength"] == file.bytes and known["Metadata"].get(_SUM) == file.sha256)
    return False
