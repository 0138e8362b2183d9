"""The local backend: jobs and endpoints are processes of this machine, in the user's account, without Docker."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lorasum import paths
from lorasum.backends.base import RunningResource
from lorasum.backends.local import container, endpoints, processes
from lorasum.backends.local.log_file import lines_of
from lorasum.backends.records import Check, EndpointRef, EndpointSpec, EndpointState, JobRef, JobState, TrainSpec
from lorasum.contract import (
    BASE_AS_TRAINED,
    BASE_SECONDS,
    MAX_SECONDS,
    PROCESSES,
    REPORT_TO,
    Event,
    FileFacts,
    read_event,
)
from lorasum.errors import BackendError
from lorasum.files import file_digest, folder_digest, write_file

if TYPE_CHECKING:
    from psutil import Process

_JOB_FLAG = "--checkpoint_dir"
_TRAINING_NEEDS = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "psutil")

_READ_FOR_DIGESTS = 4 << 30  # bytes of an artifact: they take about ten seconds
_JOB_GRACE = 120.0  # seconds from SIGTERM to SIGKILL, as on SageMaker
_RESUME = "the same command starts it again, from its newest checkpoint"


class LocalBackend:
    """backends.base.Backend on this machine. The docstrings of that class say what each method does.

    A process is recognised by its command line, which names a folder of the run: for a training job the folder of its
    checkpoints, for an endpoint that of its state. No other record is kept.

    Args:
        scripts: folder with the train.py that each job runs; by default the one that comes with lorasum.
    """

    name = "local"
    account_and_region = ""
    stops_on_interrupt = True

    def __init__(self, scripts: Path | None = None) -> None:
        self._scripts = (scripts or paths.container_scripts()).resolve()
        self._started: dict[str, subprocess.Popen[bytes]] = {}  # by job folder; only our own children tell their status

    def usd_per_hour(self, kind: Literal["training_job", "endpoint"]) -> float | None:
        return 0.0

    def preflight(self, run: str, report_to: Sequence[str] = ()) -> list[Check]:
        needs = {"training": _TRAINING_NEEDS, "serving": endpoints.NEEDS}
        checks = [_check(what, modules) for what, modules in needs.items()]
        return checks + [_check(name, [name], f"pip install {name}") for name in report_to]

    def store_dataset(self, run: str, dataset: Path) -> str:
        return str(dataset)

    def training_request(self, spec: TrainSpec) -> dict[str, Any] | None:
        return None

    def start_training(self, spec: TrainSpec) -> JobRef:
        folder = _job_folder(spec.run, spec.job_name)
        job = JobRef(spec.job_name, str(folder))
        if _job_processes(folder) or container.is_complete(folder / "ml"):
            return job
        processes.require("training", _TRAINING_NEEDS)
        processes.require("tracking", spec.report_to, f"pip install {' '.join(spec.report_to)}")
        if 0 < (gpus := container.gpus(os.environ)) < spec.processes:
            raise BackendError(
                f"local.processes is {spec.processes}, and this machine has {gpus} GPU{'s' if gpus > 1 else ''}",
                f"set local.processes to {gpus} or less",
            )
        root = folder / "ml"
        command = [
            str(self._scripts / spec.program),
            *container.arguments(container.hyperparameters(root, spec)),
        ]
        try:
            container.lay_out(root, spec)
            _stopped(folder).unlink(missing_ok=True)
            write_file(_made_with(folder), folder_digest(self._scripts))
            environ = container.environment(root, spec, self._scripts, os.environ) | _variables(spec)
            started = processes.spawn(processes.python(*command), self._scripts, folder / "log", environ)
        except OSError as error:
            raise BackendError(
                f"cannot start training in {folder}: {error.strerror or error}",
                "free some disk or check the folder's permissions, then run the same command again",
            ) from error
        self._started[str(folder)] = started
        return job

    def find_training(self, run: str, job_name: str) -> JobRef | None:
        folder = _job_folder(run, job_name)
        return JobRef(job_name, str(folder)) if folder.is_dir() else None

    def made_with(self, run: str, job: JobRef | None) -> Mapping[str, str]:
        if job is None:
            return {"container scripts": folder_digest(self._scripts)}
        record = _made_with(Path(job.location))
        return {"container scripts": record.read_text(errors="replace")} if record.is_file() else {}

    def training_jobs(self, run: str) -> list[JobRef]:
        jobs = paths.run_dir(run) / "jobs"
        folders = [folder for folder in jobs.iterdir() if folder.is_dir()] if jobs.is_dir() else []
        return [JobRef(folder.name, str(folder)) for folder in sorted(folders, key=lambda one: one.stat().st_mtime)]

    def set_damaged_aside(self, run: str, mark: str) -> list[str]:
        ended = [Path(job.location) for job in self.training_jobs(run) if not _job_processes(Path(job.location))]
        try:
            done = [line for folder in ended for line in container.set_damaged_aside(folder, mark)]
            return done + endpoints.set_damaged_aside(run, mark)
        except OSError as error:
            raise BackendError(
                f"cannot set {error.filename} aside: {error.strerror}", "check the disk and the folder's permissions"
            ) from error

    def training_state(self, job: JobRef) -> JobState:
        folder = Path(job.location)
        if _job_processes(folder):
            return JobState("running")
        if not folder.is_dir():
            return JobState("absent")
        if container.is_complete(folder / "ml"):
            return JobState("completed")
        if failure := container.failure(folder / "ml"):
            return JobState("failed", failure.message, failure.hint)
        started = self._started.get(job.location)
        status = started.poll() if started else None
        if _stopped(folder).exists() or status in (143, -15):
            return JobState("stopped", "the training process was asked to stop", _RESUME)
        if status == -9:
            return JobState(
                "failed",
                "the training process was killed (signal 9), as systems do when memory runs out",
                f"close other programs, or lower data.max_length; {_RESUME}",
            )
        how = f"ended with status {status}" if status is not None else "ended without a result"
        said = processes.last_lines(folder / "log", 1)
        reason = f"the training process {how}" + (f"; its log ends: {said[0][:300]}" if said else "")
        return JobState("failed", reason, f"its log is {folder / 'log'}; {_RESUME}")

    def follow_training(self, job: JobRef) -> Iterator[Event]:
        running = _job_processes(Path(job.location))
        path = container.metrics_file(Path(job.location) / "ml")
        for line in lines_of(path, lambda: any(processes.alive(process) for process in running)):
            if event := read_event(line):
                yield event

    def training_events(self, job: JobRef) -> Iterator[Event]:
        lines = lines_of(container.metrics_file(Path(job.location) / "ml"), lambda: False)
        return (event for line in lines if (event := read_event(line)))

    def stop_training(self, job: JobRef) -> None:
        folder = Path(job.location)
        if running := _job_processes(folder):
            processes.stop(running, _JOB_GRACE)
            if folder.is_dir():
                _stopped(folder).touch()

    def training_usd(self, job: JobRef) -> float | None:
        return 0.0

    def is_warm(self, job: JobRef) -> bool:
        return False

    def artifact(self, job: JobRef) -> str:
        return str(Path(job.location) / "ml" / "model")

    def artifact_file(self, job: JobRef, name: str) -> bytes | None:
        path = Path(self.artifact(job)) / name
        return path.read_bytes() if path.is_file() else None

    def artifact_files(self, job: JobRef) -> Mapping[str, FileFacts]:
        folder = Path(self.artifact(job))
        try:
            sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
            read = sum(sizes.values()) <= _READ_FOR_DIGESTS
            return {
                path.relative_to(folder).as_posix(): FileFacts(size, file_digest(path) if read else "")
                for path, size in sizes.items()
            }
        except OSError as error:
            raise BackendError(f"cannot read {error.filename}: {error.strerror}", "check its permissions") from error

    def fetch_artifact(self, job: JobRef, folder: Path, below: str = "") -> Path:
        return Path(self.artifact(job))

    def start_endpoint(self, spec: EndpointSpec) -> EndpointRef:
        return endpoints.start(spec)

    def expire_endpoint(self, run: str, name: str, at: datetime | None) -> None:
        endpoints.expire(run, name, at)

    def confirm_endpoint(self, run: str, name: str) -> None:
        return  # nothing to delete: the process that served before has ended

    def restore_endpoint(self, run: str, name: str) -> EndpointRef | None:
        return None

    def log_lines(self, kind: Literal["training_job", "endpoint"], run: str, name: str, follow: bool) -> Iterator[str]:
        of_a_job = kind == "training_job"
        folder = _job_folder(run, name) if of_a_job else endpoints.folder_of(run, name)

        def is_running() -> bool:
            return follow and bool(_job_processes(folder) if of_a_job else endpoints.processes_of(folder))

        for line in lines_of(folder / "log", is_running):
            yield line.decode("utf-8", errors="replace").rstrip()

    def log_place(self, kind: Literal["training_job", "endpoint"], run: str, name: str) -> str:
        if kind == "endpoint":
            return str(endpoints.folder_of(run, name) / "log")
        folder = _job_folder(run, name)
        return f"{folder / 'log'}; its figures, one JSON object a line: {container.metrics_file(folder / 'ml')}"

    def endpoint_log(self, run: str, name: str) -> list[str]:
        return []  # the user has it as a file

    def endpoint_state(self, run: str, name: str) -> EndpointState:
        return endpoints.state(run, name)

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        return endpoints.invoke(endpoint, payload, timeout)

    def delete_endpoint(self, run: str, name: str) -> bool:
        return endpoints.delete(run, name)

    def live(self, run: str) -> list[RunningResource]:
        return [*_live_jobs(run), *endpoints.live(run)]

    def stored_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        return [str(folder) for folder in _artifact_folders(run) if artifacts and folder.is_dir()]

    def delete_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        deleted = self.stored_files(run, data, artifacts)
        for folder in deleted:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise BackendError(f"cannot delete {folder}: {error}", "check the folder's permissions") from error
        return deleted


def _variables(spec: TrainSpec) -> dict[str, str]:
    """What the training script is told of the job beside its hyperparameters."""
    limit = {} if spec.max_seconds is None else {MAX_SECONDS: str(spec.max_seconds)}
    return limit | {
        BASE_SECONDS: str(spec.base_seconds),
        BASE_AS_TRAINED: str(int(spec.base_as_trained)),
        PROCESSES: str(spec.processes),
        REPORT_TO: ",".join(spec.report_to),
    }


def _check(what: str, modules: Sequence[str], fix: str = processes.INSTALL) -> Check:
    try:
        processes.require(what, modules, fix)
    except BackendError as error:
        return Check(f"packages for {what}", False, error.message, error.hint)
    return Check(f"packages for {what}", True, "installed")


def _artifact_folders(run: str) -> list[Path]:
    return [paths.run_dir(run) / name for name in ("jobs", "endpoints")]


def _job_folder(run: str, job_name: str) -> Path:
    return paths.run_dir(run) / "jobs" / job_name


def _stopped(folder: Path) -> Path:
    """A file that exists while the job is stopped on request. The next start removes it."""
    return folder / "stopped"


def _made_with(folder: Path) -> Path:
    """The file that holds the digest of the container scripts of the job's newest start."""
    return folder / "scripts"


def _job_processes(folder: Path) -> list["Process"]:
    checkpoints = str(folder / "ml" / "checkpoints")
    return [process for process, _ in processes.find(_JOB_FLAG, lambda value: value == checkpoints)]


def _live_jobs(run: str) -> list[RunningResource]:
    jobs = paths.run_dir(run) / "jobs"
    running = processes.find(_JOB_FLAG, lambda value: Path(value).is_relative_to(jobs))
    folders = [jobs / Path(value).relative_to(jobs).parts[0] for _, value in running]
    return [RunningResource("training_job", folder.name, str(folder)) for folder in folders]
