"""Training jobs that are run: channels, configuration files, the job's own command, its log, its output."""

import io
import json
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import stand_in_container as container
from stand_in_aws import Aws
from stand_in_checkpoints import CheckpointSync

_GRACE = 120  # seconds from SIGTERM to SIGKILL
_NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
_SPOT_SHARE = 0.3  # of the seconds a job ran, billed at the price on demand
GROUP = "/aws/sagemaker/TrainingJobs"


class Job(threading.Thread):
    """One job, from Pending to its end. `description` is what DescribeTrainingJob answers."""

    def __init__(
        self, request: dict[str, Any], arn: str, aws: Aws, instance: str | None, may_be_kept: bool, network: bool
    ) -> None:
        super().__init__(daemon=True)
        self.request = request
        self.aws = aws
        self._instance = instance
        self._may_be_kept = may_be_kept
        self._network = network
        self.stopping = threading.Event()
        self.interrupted = threading.Event()
        self.root = Path()
        self.process: subprocess.Popen[bytes] | None = None
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

    @property
    def _keep_alive(self) -> int:
        return int(self.request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0))

    def _run(self, root: Path) -> bool:
        """On one instance. False if that was taken away."""
        ml = root / "ml"
        self._move("Pending")
        if self._instance is None:
            self._end("Failed", "Failed", FailureReason=_NO_CAPACITY)
            return True
        if "InstancePreferences" in self.request["ResourceConfig"]:
            chosen = {"SelectedInstanceType": self._instance, "SelectedInstanceCount": 1}
            self.description["ResourceConfig"] = self.request["ResourceConfig"] | chosen
        self._move("Downloading")
        self._lay_out(ml)
        self._move("Training")
        self.description["TrainingStartTime"] = began = time.time()
        sync = self._sync(ml)
        code = None if self.stopping.is_set() else self._execute(root, began)
        if self.interrupted.is_set():
            self.interrupted.clear()
            if sync:
                sync.break_off()
            self._move("Interrupted")
            self._move("Starting")
            return False
        self._move("Uploading")
        target = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.description['TrainingJobName']}"
        self.aws.upload(ml / "model", f"{target}/output/model/")
        self.aws.upload(ml / "output" / "data", f"{target}/output/data/")
        if sync:
            sync.finish()
        ended = time.time()
        seconds = max(1, round(ended - began))
        billed = max(1, round(seconds * _SPOT_SHARE)) if self.request.get("EnableManagedSpotTraining") else seconds
        self.description |= {
            "TrainingEndTime": ended,
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": billed,
        }
        self.description["ModelArtifacts"] = {"S3ModelArtifacts": f"{target}/output/model/"}
        if self._keep_alive and self._may_be_kept:  # whether it completed, failed or was stopped
            self.description["WarmPoolStatus"] = {"Status": "Available"}
        failure = ml / "output" / "failure"
        if self.stopping.is_set():
            overtime = self.description.get("_overtime")
            self._end("Stopped", "MaxRuntimeExceeded" if overtime else "Stopped")
        elif code == 0:
            self._end("Completed", "Completed")
        else:
            said = failure.read_text() if failure.is_file() else ""
            self._end("Failed", "Failed", FailureReason=f"AlgorithmError: {said}, exit code: {code}"[:1024])
        return True

    def _sync(self, ml: Path) -> CheckpointSync | None:
        if checkpoints := self.request.get("CheckpointConfig"):
            sync = CheckpointSync(ml / "checkpoints", checkpoints["S3Uri"], self.aws)
            sync.start()
            return sync
        return None

    def _lay_out(self, ml: Path) -> None:
        for folder in ("input/config", "input/data", "model", "output/data", "checkpoints"):
            (ml / folder).mkdir(parents=True)
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
            "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
        }.items():
            (ml / "input" / "config" / f"{name}.json").write_text(json.dumps(content))

    def _execute(self, root: Path, began: float) -> int:
        name = self.description["TrainingJobName"]
        environ = {
            **self.aws.instance(self.request.get("Environment", {})),
            "TRAINING_JOB_NAME": name,
            "TRAINING_JOB_ARN": self.description["TrainingJobArn"],
        }
        algorithm = self.request["AlgorithmSpecification"]
        command = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
        self.process = process = container.start(root, command, environ, subprocess.PIPE, self._network)
        assert isinstance(process.stdout, io.BufferedReader)
        reader = self.aws.log_lines(process.stdout, GROUP, f"{name}/algo-1-{round(began)}")
        limit = began + self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        while process.poll() is None:
            if time.time() > limit and not self.stopping.is_set():
                self.description["_overtime"] = True
                self.stopping.set()
            if self.interrupted.is_set():
                process.kill()
            elif self.stopping.wait(0.1):
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
        reader.join()
        return process.wait()

    def _move(self, secondary: str) -> None:
        now = time.time()
        self.description["SecondaryStatusTransitions"].append({"Status": secondary, "StartTime": now})
        self.description |= {"SecondaryStatus": secondary, "LastModifiedTime": now}

    def _end(self, status: str, secondary: str, **more: str) -> None:
        self._move(secondary)
        self.description |= more | {"TrainingJobStatus": status}
