"""Training jobs that are run: channels, configuration files, the job's own command, its log, its output."""

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stand_in_aws import Aws
from stand_in_checkpoints import CheckpointSync
from stand_in_rules import RefusalError

from shared.names import WARM_CACHE

_GRACE = 120  # seconds from SIGTERM to SIGKILL
_NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
_SPOT_SHARE = 0.3  # of the seconds a job ran, billed at the price on demand
GROUP = "/aws/sagemaker/TrainingJobs"


class Job(threading.Thread):
    """One job, from Pending to its end. `description` is what DescribeTrainingJob answers."""

    def __init__(
        self,
        request: dict[str, Any],
        arn: str,
        aws: Aws,
        instance: str | None,
        may_be_kept: bool,
        network: bool,
        take_warm: Callable[[], Path | None],
    ) -> None:
        super().__init__(daemon=True)
        self.request = request
        self.aws = aws
        self._instance = instance
        self._may_be_kept = may_be_kept
        self._network = network
        self._take_warm = take_warm
        self.cache: Path | None = None
        """The folder of a warm instance that each of its jobs finds again."""
        self.late = 0
        """How often it is not shown yet."""
        self.stopping = threading.Event()
        self.interrupted = threading.Event()
        self.root = Path()
        self.process: subprocess.Popen[bytes] | None = None
        self.wrote: dict[str, list[str]] = {}  # by host
        now = time.time()
        kept = {key: value for key, value in request.items() if key != "Tags"}
        self.description: dict[str, Any] = kept | {
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "CreationTime": now,
            "LastModifiedTime": now,
            "SecondaryStatusTransitions": [],
            "ModelArtifacts": {"S3ModelArtifacts": ""},
        }
        if request["OutputDataConfig"].get("CompressionType") != "NONE":
            raise NotImplementedError("only uncompressed output")

    def run(self) -> None:
        ended = False
        while not ended:
            self.root = root = Path(tempfile.mkdtemp(prefix="stand-in-job-"))
            try:
                ended = self._run(root)
            except Exception as error:
                ended = True
                self._end("Failed", "Failed", FailureReason=f"InternalServerError: {error!r}")
            finally:
                shutil.rmtree(root, ignore_errors=True)

    def interrupt(self) -> None:
        """Take the spot instance away at once: the job goes on in another one, from what it had checkpointed."""
        self.interrupted.set()

    def occupies(self, instance: str | None, spot: bool) -> bool:
        """Whether it runs on an instance of this type, bought in this way."""
        asked = (self._instance, self.request.get("EnableManagedSpotTraining", False))
        return self.description["TrainingJobStatus"] == "InProgress" and asked == (instance, spot)

    def shown(self) -> dict[str, Any]:
        """What DescribeTrainingJob answers now."""
        self.late, looks = max(self.late - 1, 0), self.late
        if looks:
            raise RefusalError("ValidationException", "Requested resource not found.")
        return self.description

    def stop(self) -> None:
        self.description["TrainingJobStatus"] = "Stopping"
        self.stopping.set()

    @property
    def warm(self) -> bool:
        return bool(self.description.get("WarmPoolStatus", {}).get("Status") == "Available")

    def cool(self) -> None:
        """Let the instance go if it has been kept for as long as was asked for."""
        if self.warm and time.time() - self.description["TrainingEndTime"] > self._keep_alive:
            self.release("Terminated")

    def release(self, status: str) -> None:
        """End the time in which the instance was kept; what is to be paid for it is told from now on."""
        kept = min(time.time() - self.description["TrainingEndTime"], self._keep_alive)
        self.description["WarmPoolStatus"] = {"Status": status, "ResourceRetainedBillableTimeInSeconds": round(kept)}
        if status == "Terminated":
            self.forget()

    def forget(self) -> None:
        """Delete what a warm instance has kept."""
        if self.cache:
            shutil.rmtree(self.cache, ignore_errors=True)

    @property
    def _keep_alive(self) -> int:
        return int(self.request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0))

    def _run(self, root: Path) -> bool:
        """On one instance. False if that was taken away."""
        self._move("Pending")
        if self._instance is None:
            self._end("Failed", "Failed", FailureReason=_NO_CAPACITY)
            return True
        if self.cache is None:
            kept = self._take_warm()
            self.cache = kept or (Path(tempfile.mkdtemp(prefix="stand-in-warm-")) if self._keep_alive else None)
        if "InstancePreferences" in self.request["ResourceConfig"]:
            chosen = {"SelectedInstanceType": self._instance, "SelectedInstanceCount": len(self._hosts)}
            self.description["ResourceConfig"] = self.request["ResourceConfig"] | chosen
        self._move("Downloading")
        roots = self._roots(root)
        for host, machine in roots.items():
            self._lay_out(machine / "ml", host)
        self._move("Training")
        self.description["TrainingStartTime"] = began = time.time()
        syncs = [sync for machine in roots.values() if (sync := self._sync(machine / "ml"))]
        code = None if self.stopping.is_set() else self._execute(root, began)
        if self.interrupted.is_set():
            self.interrupted.clear()
            for sync in syncs:
                sync.break_off()
            self._move("Interrupted")
            self._move("Starting")
            return False
        self._move("Uploading")
        target = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.description['TrainingJobName']}"
        for machine in roots.values():
            self.aws.upload(machine / "ml" / "model", f"{target}/output/model/")
            self.aws.upload(machine / "ml" / "output" / "data", f"{target}/output/data/")
        self.wrote = {host: _files(machine / "ml") for host, machine in roots.items()}
        for sync in syncs:
            sync.finish()
        ended = time.time()
        seconds = max(2, round(ended - began))  # of a spot instance fewer are billed: at least one
        billed = max(1, round(seconds * _SPOT_SHARE)) if self.request.get("EnableManagedSpotTraining") else seconds
        self.description |= {
            "TrainingEndTime": ended,
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": billed,
        }
        self.description["ModelArtifacts"] = {"S3ModelArtifacts": f"{target}/output/model/"}
        if self._keep_alive and self._may_be_kept:  # whether it completed, failed or was stopped
            self.description["WarmPoolStatus"] = {"Status": "Available"}
        else:
            self.forget()
        failures = [machine / "ml" / "output" / "failure" for machine in roots.values()]
        if self.stopping.is_set():
            overtime = self.description.get("_overtime")
            self._end("Stopped", "MaxRuntimeExceeded" if overtime else "Stopped")
        elif code == 0:
            self._end("Completed", "Completed")
        else:
            said = next((failure.read_text() for failure in failures if failure.is_file()), "")
            self._end("Failed", "Failed", FailureReason=f"AlgorithmError: {said}, exit code: {code}"[:1024])
        return True

    def _sync(self, ml: Path) -> CheckpointSync | None:
        if checkpoints := self.request.get("CheckpointConfig"):
            sync = CheckpointSync(ml / "checkpoints", checkpoints["S3Uri"], self.aws)
            sync.start()
            return sync
        return None

    @property
    def _hosts(self) -> list[str]:
        return [f"algo-{number + 1}" for number in range(self.request["ResourceConfig"].get("InstanceCount", 1))]

    def _roots(self, root: Path) -> dict[str, Path]:
        """The root of each host's container. That of the first one is the job's."""
        first, *others = self._hosts
        roots = {first: root} | {host: root / host for host in others}
        for machine in roots.values():
            machine.mkdir(exist_ok=True)
            if others:  # they share this machine's network
                (machine / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *roots)))
        return roots

    def _lay_out(self, ml: Path, host: str) -> None:
        for folder in ("input/config", "input/data", "model", "output/data", "checkpoints"):
            (ml / folder).mkdir(parents=True)
        if self.cache:
            (self.cache / host).mkdir(exist_ok=True)
            (ml / "sagemaker").mkdir()
            (ml / "sagemaker" / "warmpoolcache").symlink_to(self.cache / host)
        channels = {channel["ChannelName"]: channel for channel in self.request.get("InputDataConfig", [])}
        for name, channel in channels.items():
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            if not self.aws.download(uri, ml / "input" / "data" / name):
                raise FileNotFoundError(f"no S3 objects under {uri}")
        if checkpoints := self.request.get("CheckpointConfig"):
            self.aws.download(checkpoints["S3Uri"], ml / "checkpoints")
        described = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        for name, content in {
            "hyperparameters": self.request.get("HyperParameters", {}),
            "inputdataconfig": dict.fromkeys(channels, described),
            "resourceconfig": {
                "current_host": host,
                "hosts": self._hosts,
                "network_interface_name": "lo" if len(self._hosts) > 1 else "eth0",
            },
        }.items():
            (ml / "input" / "config" / f"{name}.json").write_text(json.dumps(content))

    def _execute(self, root: Path, began: float) -> int:
        name = self.description["TrainingJobName"]
        environ = {
            **self.aws.instance(self.request.get("Environment", {})),
            "TRAINING_JOB_NAME": name,
            "TRAINING_JOB_ARN": self.description["TrainingJobArn"],
        }
        if self.cache:
            environ[WARM_CACHE] = "/opt/ml/sagemaker/warmpoolcache"
        algorithm = self.request["AlgorithmSpecification"]
        command = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
        if len(self._hosts) > 1:
            environ["MASTER_PORT"] = str(_free_port())
        readers, processes = [], []
        for host, machine in self._roots(root).items():
            process = self.aws.start_container(machine, command, environ, self._network)
            readers.append(self.aws.log_lines(process.stdout, GROUP, f"{name}/{host}-{round(began)}"))
            processes.append(process)
        self.process = processes[0]
        limit = began + self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        while None in [process.poll() for process in processes]:
            if time.time() > limit and not self.stopping.is_set():
                self.description["_overtime"] = True
                self.stopping.set()
            if self.interrupted.is_set():
                for process in processes:
                    process.kill()
            elif self.stopping.wait(0.1) or any(process.returncode for process in processes):
                _end_all(processes)
        for reader in readers if self.aws.logs_come.is_set() else []:
            reader.join()
        return next((process.returncode for process in processes if process.returncode), 0)

    def _move(self, secondary: str) -> None:
        now = time.time()
        self.description["SecondaryStatusTransitions"].append({"Status": secondary, "StartTime": now})
        self.description |= {"SecondaryStatus": secondary, "LastModifiedTime": now}

    def _end(self, status: str, secondary: str, **more: str) -> None:
        self._move(secondary)
        self.description |= more | {"TrainingJobStatus": status}


def _end_all(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """SIGTERM, and SIGKILL where that does not help."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)  # one that has suspended itself: held_scripts.py
    for process in processes:
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()


def _files(ml: Path) -> list[str]:
    """What a container has written to be kept: artifact, checkpoints, figures."""
    kept = [path for name in ("model", "checkpoints", "output") for path in (ml / name).rglob("*") if path.is_file()]
    return [str(path.relative_to(ml)) for path in kept if ".sagemaker-" not in path.name]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
