"""Endpoints that serve: the model's files and environment in a container of their own."""

import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from serve_http import ask
from stand_in_aws import Aws
from stand_in_rules import RefusalError

from lorasum.config.instances import gpus_of

_NO_CAPACITY = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
_TIMED_OUT = "Your invocation timed out while waiting for a response from container primary."


class Server:
    """One model behind HTTP, in a process."""

    def __init__(self, endpoint: str, model: dict[str, Any], aws: Aws, network: bool, instance: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="stand-in-endpoint-"))
        primary = model["PrimaryContainer"]
        sources = {"model": primary["ModelDataSource"]["S3DataSource"]}
        for more in primary.get("AdditionalModelDataSources", []):
            sources[f"additional-model-data-sources/{more['ChannelName']}"] = more["S3DataSource"]
        for folder, source in sources.items():
            if not source["S3Uri"].endswith("/") or not aws.download(source["S3Uri"], self.root / "ml" / folder):
                raise FileNotFoundError(f"no model data under {source['S3Uri']}")
        self.socket = str(self.root / "ml" / "serve.sock")
        environ = aws.instance(primary.get("Environment", {}))
        environ["STAND_IN_GPUS"] = str(gpus_of(instance))
        environ |= {"STAND_IN_PLAIN": "1"} if primary["Image"].startswith("plain:") else {}
        serve = str(Path(__file__).with_name("serve_vllm.py" if "vllm" in primary["Image"] else "serve.py"))
        self.process = aws.start_container(self.root, ["python3", serve], environ, network)
        stream = f"AllTraffic/i-{time.time_ns():x}"
        self.log = aws.log_lines(self.process.stdout, f"/aws/sagemaker/Endpoints/{endpoint}", stream)

    def wait_for_ping(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if ask(self.socket, "GET", "/ping", b"", {}, timeout=2)[0] == 200:
                    return True
            except OSError:
                time.sleep(0.1)
        return False

    def invoke(self, body: bytes, headers: dict[str, str], seconds: float) -> bytes:
        """The container's answer, which the service waits `seconds` for."""
        try:
            status, said = ask(self.socket, "POST", "/invocations", body, headers, seconds)
        except TimeoutError:
            raise model_error(0, _TIMED_OUT) from None
        except OSError as error:
            raise model_error(503, str(error)) from None
        if status != 200:
            raise model_error(status, said.decode(errors="replace"))
        return said

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.join(5)
        shutil.rmtree(self.root, ignore_errors=True)


class Endpoint:
    """An endpoint's state; its servers come and go in threads. `description` is what DescribeEndpoint answers."""

    def __init__(
        self,
        name: str,
        arn: str,
        config: dict[str, Any],
        model: dict[str, Any],
        aws: Aws,
        instance: str | None,
        network: bool,
    ) -> None:
        now = time.time()
        self.description: dict[str, Any] = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": config["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        self.late: tuple[int, dict[str, Any] | None] = 0, None
        """How often it is shown as it was before, and that: an update is shown late, or that it was created."""
        self.server: Server | None = None
        self.config: dict[str, Any] = {}  # of what serves now
        self.instance_type = instance
        self.gone = False
        self.network = network
        self._aws = aws
        threading.Thread(target=self._bring_up, args=(config, model), daemon=True).start()

    @property
    def instances(self) -> int:
        """How many it runs on; autoscaling changes that, and so may a test."""
        return sum(variant["CurrentInstanceCount"] for variant in self.description.get("ProductionVariants", []))

    def shown(self) -> dict[str, Any]:
        """What DescribeEndpoint answers now."""
        looks, before = self.late
        self.late = max(looks - 1, 0), before
        if looks and before is None:
            raise RefusalError("ValidationException", f'Could not find endpoint "{self.description["EndpointName"]}".')
        return before if looks and before else self.description

    def update(self, config: dict[str, Any], model: dict[str, Any], keep_size: bool) -> None:
        self.description |= {"EndpointStatus": "Updating", "LastModifiedTime": time.time()}
        size = self.instances if keep_size else None
        threading.Thread(target=self._bring_up, args=(config, model, size), daemon=True).start()

    def resize(self, count: int) -> None:
        """It is the next look that sees it done."""
        before = {**self.description, "EndpointStatus": "Updating", "LastModifiedTime": time.time()}
        [variant] = self.description["ProductionVariants"]
        variant |= {"CurrentInstanceCount": count, "DesiredInstanceCount": count}
        self.description["LastModifiedTime"] = before["LastModifiedTime"]
        self.late = 1, before

    def delete(self) -> None:
        self.description["EndpointStatus"] = "Deleting"
        threading.Thread(target=self._take_down, daemon=True).start()

    def _take_down(self) -> None:
        if self.server:
            self.server.close()
        time.sleep(0.3)  # the service cleans up after it has answered
        self.gone = True

    def _bring_up(self, config: dict[str, Any], model: dict[str, Any], size: int | None = None) -> None:
        [variant] = config["ProductionVariants"]
        count = size or variant["InitialInstanceCount"]
        limit = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", 600)
        server, reason = None, ""
        try:
            if self.instance_type is None:
                raise OSError(_NO_CAPACITY)
            instance = variant.get("InstanceType", self.instance_type)
            server = Server(self.description["EndpointName"], model, self._aws, self.network, instance)
            up = server.wait_for_ping(limit)
        except Exception as error:  # a fault of the stand-in too: its client would wait without end
            up, reason = False, str(error)
        before = self.server
        if up:
            self.server, self.config = server, config
            self.description["EndpointConfigName"] = config["EndpointConfigName"]
            self.description["ProductionVariants"] = [
                {"VariantName": variant["VariantName"], "CurrentInstanceCount": count, "DesiredInstanceCount": count}
            ]
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


def model_error(status: int, said: str) -> RefusalError:
    whose = "client" if 400 <= status < 500 else "server"
    what = f"Received {whose} error ({status}) from primary with message {said!r}"
    return RefusalError(
        "ModelError", what, 424, OriginalStatusCode=status, OriginalMessage=said, LogStreamArn="arn:aws:logs:::"
    )
