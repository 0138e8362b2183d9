"""Folders in S3: whole, once, and only ours deleted."""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from loopback_server import LoopbackServer

from lorasum.backends.sagemaker import deletion, storage
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError
from lorasum.reporting import Silent

URI = "s3://box/lorasum/chats/data/f00/"


@pytest.fixture
def session(aws: str) -> Session:
    session = Session(SageMakerConfig(bucket="box", create_bucket=True))
    assert session.bucket == "box"
    return session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    (folder / "train" / "__pycache__").mkdir(parents=True)
    (folder / "train" / "data.arrow").write_bytes(b"x" * 9_000_000)  # longer than one part of an upload
    (folder / "train" / "__pycache__" / "junk.pyc").write_bytes(b"junk")
    (folder / "manifest.json").write_text("{}")
    return folder


def modified(session: Session) -> dict[str, object]:
    listed = session.client("s3").list_objects_v2(Bucket="box", Prefix="lorasum/chats/data/f00/")
    return {item["Key"].rpartition("f00/")[2]: item["LastModified"] for item in listed.get("Contents", [])}


class Bytes(Silent):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
        self.seen.append(detail)


def test_a_folder_is_uploaded_once_and_what_changed_again(session: Session, folder: Path) -> None:
    session.reporter = told = Bytes()
    storage.upload(session, storage.folder_files(folder), URI, "uploading")
    first = modified(session)
    assert set(first) == {"train/data.arrow", "manifest.json"}
    assert told.seen[-1] == "9.0 MB"
    assert storage.contents(session, URI) == (2, 9_000_002)
    assert storage.contents(session, "s3://no-such-bucket/lorasum/chats/") == (0, 0)
    session.reporter = again = Bytes()
    storage.upload(session, storage.folder_files(folder), URI, "uploading")
    assert (modified(session), again.seen) == (first, [])
    (folder / "manifest.json").write_text("[]")  # the same size
    storage.upload(session, storage.folder_files(folder), URI, "uploading")
    assert storage.read(session, URI + "manifest.json") == b"[]"
    assert modified(session)["train/data.arrow"] == first["train/data.arrow"]


def test_a_fingerprint_knows_names_and_bytes(folder: Path) -> None:
    before = storage.fingerprint(storage.folder_files(folder))
    assert before == storage.fingerprint(storage.folder_files(folder))
    (folder / "manifest.json").rename(folder / "other.json")
    assert before != storage.fingerprint(storage.folder_files(folder))


def test_only_the_folder_itself_is_deleted(session: Session) -> None:
    s3 = session.client("s3")
    for key in ("lorasum/chats/data/a", "lorasum/chats/data/b", "lorasum/chats-2/data/a", "lorasum/chats/database"):
        s3.put_object(Bucket="box", Key=key, Body=b"1")
    assert deletion.empty(session, "s3://box/lorasum/chats/data/") == 2
    assert deletion.empty(session, "s3://box/lorasum/chats/data/") == 0
    assert s3.list_objects_v2(Bucket="box")["KeyCount"] == 2
    with pytest.raises(ValueError, match="end in a slash"):
        deletion.empty(session, "s3://box/lorasum/chats")


def test_what_is_not_there(session: Session) -> None:
    assert not storage.exists(session, URI + "lorasum.json")
    assert storage.read(session, URI + "lorasum.json") is None


def test_a_bucket_that_went_away_is_one_line(session: Session, folder: Path) -> None:
    session.client("s3").delete_bucket(Bucket="box")
    with pytest.raises(BackendError, match=r"cannot upload .* to s3://box/"):
        storage.upload(session, storage.folder_files(folder), URI, "uploading")


def test_old_versions_and_broken_off_uploads_go_too(session: Session) -> None:
    s3 = session.client("s3")
    s3.put_object(Bucket="box", Key="lorasum/chats/data/before", Body=b"1")  # of the time before there were versions
    s3.put_bucket_versioning(Bucket="box", VersioningConfiguration={"Status": "Enabled"})
    for key in ("lorasum/chats/data/a", "lorasum/chats-2/data/a"):
        for body in (b"1", b"2"):
            s3.put_object(Bucket="box", Key=key, Body=body)
        s3.delete_object(Bucket="box", Key=key)
        s3.create_multipart_upload(Bucket="box", Key=f"{key}-broken-off")
    assert deletion.empty(session, "s3://box/lorasum/chats/data/") == 4
    left = s3.list_object_versions(Bucket="box")
    assert {item["Key"] for item in left["Versions"] + left["DeleteMarkers"]} == {"lorasum/chats-2/data/a"}
    [upload] = s3.list_multipart_uploads(Bucket="box")["Uploads"]
    assert upload["Key"] == "lorasum/chats-2/data/a-broken-off"


def test_what_object_lock_keeps_is_billed_and_all_else_goes(session: Session) -> None:
    s3 = session.client("s3")
    place = {"LocationConstraint": session.region}
    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True, CreateBucketConfiguration=place)
    for key in ("data/a", "data/b", "jobs/c"):
        s3.put_object(Bucket="locked", Key=f"lorasum/chats/{key}", Body=b"1")
    until = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime(2100, 1, 1, tzinfo=UTC)}
    s3.put_object_retention(Bucket="locked", Key="lorasum/chats/data/a", Retention=until)
    with pytest.raises(BackendError, match=r"cannot delete lorasum/chats/data/a: .* \(1 of 2 objects\)") as error:
        deletion.empty_all(session, [f"s3://locked/lorasum/chats/{folder}/" for folder in ("data", "jobs")])
    assert "Object Lock" in error.value.hint
    assert "billed" in error.value.hint
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="locked")["Contents"]] == ["lorasum/chats/data/a"]


def test_what_s3_is_too_busy_to_delete_is_deleted_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASUM_POLL_SECONDS", "0.1")
    s3, busy = session.client("s3"), ["InternalError", "SlowDown"]
    for key in ("a", "b"):
        s3.put_object(Bucket="box", Key=f"lorasum/chats/data/{key}", Body=b"1")

    def answer(parsed: dict[str, Any], **_: object) -> None:
        if busy:
            s3.put_object(Bucket="box", Key="lorasum/chats/data/b", Body=b"1")
            parsed["Errors"] = [{"Key": "lorasum/chats/data/b", "Code": busy.pop(0), "Message": "try again"}]

    s3.meta.events.register("after-call.s3.DeleteObjects", answer)
    assert deletion.empty(session, "s3://box/lorasum/chats/data/") == 2
    assert "Contents" not in s3.list_objects_v2(Bucket="box")


@pytest.mark.parametrize("operation", ["ListObjectVersions", "ListMultipartUploads"])
def test_what_may_be_left_is_told_where_it_cannot_be_seen(session: Session, operation: str) -> None:
    from botocore.exceptions import ClientError

    class Warnings(Silent):
        said = ""

        def warn(self, message: str) -> None:
            self.said = message

    def deny(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

    s3 = session.client("s3")
    s3.put_object(Bucket="box", Key="lorasum/chats/data/a", Body=b"1")
    s3.meta.events.register(f"before-call.s3.{operation}", deny)
    session.reporter = told = Warnings()
    assert deletion.empty(session, "s3://box/lorasum/chats/data/") == 1
    assert "may be left" in told.said
    assert "s3:ListBucket" in told.said
    assert "KeyCount" in (listed := s3.list_objects_v2(Bucket="box"))
    assert listed["KeyCount"] == 0


class SlowS3(BaseHTTPRequestHandler):
    """A bucket that is empty and takes about a megabyte a second of each connection."""

    protocol_version = "HTTP/1.1"
    received = 0

    def do_GET(self) -> None:
        self._answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    def do_HEAD(self) -> None:
        self._answer(404)

    def do_POST(self) -> None:
        self._answer(200, b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")

    def do_DELETE(self) -> None:
        self._answer(204)

    def do_PUT(self) -> None:
        if "Expect" in self.headers:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = int(self.headers["Content-Length"])
        with suppress(ConnectionError):
            while left and (some := self.rfile.read(min(65536, left))):
                left -= len(some)
                SlowS3.received += len(some)
                time.sleep(0.05)
            self._answer(200)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_an_interrupted_upload_does_not_end_the_file_first(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 14 GB, it went on for minutes after Ctrl-C."""

    class Interrupted(Silent):
        def progress(self, label: str, done: float, total: float, detail: str = "") -> None:
            if done:
                raise KeyboardInterrupt

    large = tmp_path / "large.bin"
    large.touch()
    os.truncate(large, 250_000_000)
    file = storage.StoredFile(large, large.name, 250_000_000, "")
    with LoopbackServer(SlowS3) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        with pytest.raises(KeyboardInterrupt):
            storage.upload(Session(SageMakerConfig(bucket="box"), Interrupted()), [file], URI, "upload")
    assert 0 < SlowS3.received < 250_000_000 / 2
