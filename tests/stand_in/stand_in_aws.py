"""The rest of AWS, as the stand-in itself uses it, without faults.

CloudWatch and others are asked as anybody asks them. Moto's S3 is read and written where it is: a request for each
object of a job would be a quarter of what the tests of jobs cost.
"""

import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import stand_in_container

from shared.names import EXPECT_GPU

REGION = "us-east-1"
ACCOUNT = "123456789012"
_PART = {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
_PART_BYTES = 37  # of a stream: events are cut in their middle
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Aws:
    """Clients of the inner server at `url`."""

    def __init__(self, url: str, region: str = REGION) -> None:
        self.url, self.region = url, region
        self.logs_come = threading.Event()
        """Logs may lag: while this is not set, no line reaches its log, and no job waits for it."""
        self.logs_come.set()
        self.broken_gpus = False
        """GPU instances have one that does not work."""
        self.start_container: Callable[..., Any] = stand_in_container.start
        """How containers are started; forked_containers.py has a cheaper way."""
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()  # boto3 makes a client in one thread at a time

    def client(self, service: str) -> Any:
        import boto3

        with self._making:
            if service not in self._clients:
                self._clients[service] = boto3.client(
                    service,
                    endpoint_url=self.url,
                    region_name=self.region,
                    aws_access_key_id="testing",
                    aws_secret_access_key="testing",
                )
            return self._clients[service]

    def environ(self) -> dict[str, str]:
        """What a container gets, to talk to AWS under the execution role."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region, **KEYS}

    @cached_property
    def partition(self) -> str:
        """AWS's partition of the region: `aws`, or `aws-cn` for one in China."""
        from moto.utilities.utils import get_partition

        return str(get_partition(self.region))

    @property
    def s3(self) -> Any:
        """Moto's own S3, behind its server."""
        from moto.s3.models import s3_backends

        return s3_backends[ACCOUNT][self.partition]

    def create_role(self, name: str, service: str) -> str:
        """A role that a service may assume. Returns its ARN."""
        from moto.iam.models import iam_backends

        trusts = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trusts]})
        iam = iam_backends[ACCOUNT][self.partition]
        return str(iam.create_role(name, document, "/", None, "", [], "3600").arn)

    def instance(self, environ: Mapping[str, str]) -> dict[str, str]:
        """A container's environment on an instance. This machine has no GPU, which passes for one that works."""
        return {**self.environ(), **environ} | ({} if self.broken_gpus else {EXPECT_GPU: "0"})

    def download(self, uri: str, folder: Path) -> int:
        """Objects whose keys begin with the key of `uri`, as S3Prefix has it. Returns how many.

        A file's time is made of its content, so that Python finds what another container has compiled of the same one.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        found = self.stored(bucket, prefix)
        for key, content in found.items():
            target = folder / key[len(prefix) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            os.utime(target, (zlib.crc32(content), zlib.crc32(content)))
        return len(found)

    def upload(self, folder: Path, uri: str) -> None:
        """Every file below `folder`."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.keep(f"{uri}{path.relative_to(folder).as_posix()}", path.read_bytes())

    def stored(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Objects by key, in S3's order."""
        versions = dict(self.s3.get_bucket(bucket).keys)  # at once, for others write
        return {key: versions[key][-1].value for key in sorted(versions) if key.startswith(prefix)}

    def keep(self, uri: str, content: bytes) -> None:
        """Write one object."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self.s3.put_object(bucket, key, content)

    def forget(self, uri: str) -> None:
        """Delete one object."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self.s3.delete_object(bucket, key)

    def scaled(self, endpoint: str) -> list[dict[str, Any]]:
        """The scalable targets that an endpoint's variants are registered as."""
        targets = self.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
            "ScalableTargets"
        ]
        return [target for target in targets if target["ResourceId"].startswith(f"endpoint/{endpoint}/")]

    def stop_scaling(self, endpoint: str) -> None:
        """Deregister an endpoint's variants."""
        for target in self.scaled(endpoint):
            kept = ("ServiceNamespace", "ResourceId", "ScalableDimension")
            asked = {name: target[name] for name in kept}
            self.client("application-autoscaling").deregister_scalable_target(**asked)

    def log_lines(self, output: BufferedIOBase, group: str, stream: str) -> threading.Thread:
        """Put the lines of a container's output into CloudWatch as they come; the thread ends with the output."""
        thread = threading.Thread(target=self._log_lines, args=(output, group, stream), daemon=True)
        thread.start()
        return thread

    def _log_lines(self, output: BufferedIOBase, group: str, stream: str) -> None:
        logs = self.client("logs")
        for create, names in (
            (logs.create_log_group, {"logGroupName": group}),
            (logs.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
        ):
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                create(**names)
        for lines in _batches(output):
            self.logs_come.wait()
            now = round(time.time() * 1000)
            events = [{"timestamp": now, "message": line.decode(errors="replace") or " "} for line in lines]
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def _batches(output: BufferedIOBase) -> Iterator[list[bytes]]:
    """Its lines, as many at once as come in a tenth of a second: a request costs as much as a step of a tiny model."""
    unfinished = b""
    while said := output.read1(1 << 16):
        *lines, unfinished = (unfinished + said).split(b"\n")
        if lines:
            yield lines
            time.sleep(0.1)
    if unfinished:
        yield [unfinished]


def event_stream(body: bytes) -> bytes:
    """A body as InvokeEndpointWithResponseStream sends it: parts that are cut anywhere, each with checksums."""
    headers = b"".join(_header(name, value) for name, value in _PART.items())
    messages = []
    for start in range(0, len(body), _PART_BYTES):
        part = body[start : start + _PART_BYTES]
        prelude = struct.pack("!II", 16 + len(headers) + len(part), len(headers))
        message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + part
        messages.append(message + struct.pack("!I", zlib.crc32(message)))
    return b"".join(messages)


def _header(name: str, value: str) -> bytes:
    text = 7  # the type of a header whose value is text
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", text, len(value)) + value.encode()
