"""Endpoints that serve: the model's files and environment in a container of their own."""

import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import stand_in_container as container
from stand_in_aws import Aws
from stand_in_rules import RefusalError

_ANSWER = 60  # seconds the service gives a container


class Server:
    """One model behind HTTP, in a process."""

    def __init__(self, endpoint: str, model: dict[str, Any], aws: Aws) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="stand-in-endpoint-"))
        primary = model["PrimaryContainer"]
        sources = {"model": primary["ModelDataSource"]["S3DataSource"]}
        for more in primary.get("AdditionalModelDataSources", []):
            sources[f"additional-model-data-sources/{more['ChannelName']}"] = more["S3DataSource"]
        for folder, source in sources.items():
            if not source["S3Uri"].endswith("/") or not aws.download(source["S3Uri"], self.root / "ml" / folder):
                raise FileNotFoundError(f"no model data under {source['S3Uri']}")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        environ = aws.instance(primary.get("Environment", {}))
        serve = str(Path(__file__).with_name("serve_vllm.py" if "vllm" in primary["Image"] else "serve.py"))
        self.process = container.start(self.root, ["python3", serve, str(self.port)], environ, subprocess.PIPE)
        assert self.process.stdout
        stream = f"AllTraffic/i-{self.port}-{round(time.time())}"
        self.log = aws.log_lines(self.process.stdout, f"/aws/sagemaker/Endpoints/{endpoint}", stream)  # type: ignore[arg-type]

    def wait_for_ping(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=2).close()
            except OSError:
                time.sleep(0.1)
            else:
                return True
        return False

    def invoke(self, body: bytes, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise _model_error(error.code, said) from None
        except OSError:
            raise _model_error(0, "Your invocation timed out while waiting for a response from container") from None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.join(5)
        shutil.rmtree(self.root, ignore_errors=True)


class Endpoint:
    """An endpoint's state; its servers come and go in threads. `description` is what DescribeEndpoint answers."""

    def __init__(self, name: str, arn: str, config: dict[str, Any], model: dict[str, Any], aws: Aws) -> None:
        now = time.time()
        self.description: dict[str, Any] = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": config["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        self.server: Server | None = None
        self.config: dict[str, Any] = {}  # of what serves now
        self.gone = False
        self._aws = aws
        threading.Thread(target=self._bring_up, args=(config, model), daemon=True).start()

    def update(self, config: dict[str, Any], model: dict[str, Any]) -> None:
        self.description["EndpointStatus"] = "Updating"
        threading.Thread(target=self._bring_up, args=(config, model), daemon=True).start()

    def delete(self) -> None:
        self.description["EndpointStatus"] = "Deleting"
        threading.Thread(target=self._take_down, daemon=True).start()

    def _take_down(self) -> None:
        if self.server:
            self.server.close()
        time.sleep(0.3)  # the service cleans up after it has answered
        self.gone = True

    def _bring_up(self, config: dict[str, Any], model: dict[str, Any]) -> None:
        [variant] = config["ProductionVariants"]
        limit = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", 600)
        server, reason = None, ""
        try:
            server = Server(self.description["EndpointName"], model, self._aws)
            up = server.wait_for_ping(limit)
        except OSError as error:
            up, reason = False, str(error)
        before = self.server
        if up:
            self.server, self.config = server, config
            self.description["EndpointConfigName"] = config["EndpointConfigName"]
            self.description.pop("FailureReason", None)
        elif server:
            server.close()
        if up and before:
            before.close()
        if not up:
            ping = "The primary container for production variant AllTraffic did not pass the ping health check."
            self.description["FailureReason"] = reason or ping
        if not up and before:
            self.description["EndpointStatus"] = "RollingBack"
            time.sleep(0.3)
        self.description["EndpointStatus"] = "InService" if self.server else "Failed"


def _model_error(status: int, said: str) -> RefusalError:
    what = f"Received client error ({status}) from primary with message {said!r}" if status else said
    return RefusalError(
        "ModelError", what, 424, OriginalStatusCode=status or 500, OriginalMessage=said, LogStreamArn="arn:aws:logs:::"
    )
