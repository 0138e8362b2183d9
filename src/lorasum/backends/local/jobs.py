"""Training jobs of the local backend: one train.py process each, which goes on when its client ends."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasum.backends.base import RunningResource
from lorasum.backends.local import job_folder, processes
from lorasum.backends.local.log_file import lines_of
from lorasum.backends.local.preflight import require_loopback, require_packages
from lorasum.backends.records import SCRIPTS, JobRef, JobState, TrainSpec
from lorasum.errors import BackendError
from lorasum.shared.container_limits import visible_gpus
from lorasum.shared.events import Event, read_event
from lorasum.shared.names import (
    ADAPTER_ONLY,
    BASE_AS_TRAINED,
    BASE_SECONDS,
    MAX_SECONDS,
    PROCESSES,
    REPORT_TO,
    STEPS_DONE,
)
from lorasum.shared.records import FileFacts
from lorasum.system import paths
from lorasum.system.files import file_digest, folder_digest, write_file

if TYPE_CHECKING:
    from psutil import Process

NEEDS = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "psutil")
_FLAG = "--checkpoint_dir"
_GRACE = 120.0  # seconds from SIGTERM to SIGKILL, as on SageMaker
_READ_FOR_DIGESTS = 4 << 30  # bytes of an artifact: they take about ten seconds
_RESUME = "the same command starts it again, from its newest checkpoint"
_STOPPED_FILE = "stopped"
"""In a job's folder from when it was asked to stop. The next start removes it."""
_ATTEMPT_FILE = "attempt"
"""It says at which byte of the job's events those of its newest start begin."""
_SCRIPTS_FILE = "scripts"
"""It holds the digest of the container scripts of the job's newest start."""


class Jobs:
    """The methods of backends.base.Backend that are about jobs; it says what each does.

    Args:
        scripts: folder with the train.py that each job runs.
    """

    def __init__(self, scripts: Path) -> None:
        self._scripts = scripts
        self._started: dict[str, subprocess.Popen[bytes]] = {}  # by job folder

    def store_dataset(self, run: str, dataset: Path) -> str:
        return str(dataset)

    def training_request(self, spec: TrainSpec) -> dict[str, Any] | None:
        return None

    def start_training(self, spec: TrainSpec, asking: Callable[[], object] = lambda: None) -> JobRef:
        folder = folder_of(spec.run, spec.job_name)
        job, root = JobRef(spec.job_name, str(folder)), folder / "ml"
        if processes_of(folder) or job_folder.is_complete(root):
            return job
        require_packages("training", NEEDS)
        require_packages("tracking", spec.report_to, f"pip install {' '.join(spec.report_to)}")
        if spec.processes > 1:
            require_loopback()
        if (gpus := visible_gpus(os.environ)) and gpus < spec.processes:
            raise BackendError(
                f"local.processes is {spec.processes}, and this machine has {gpus} GPU{'s' if gpus > 1 else ''}",
                f"set local.processes to {gpus} or less",
            )
        command = [str(self._scripts / spec.program), *job_folder.arguments(root, spec)]
        try:
            job_folder.lay_out(root, spec)
            (folder / _STOPPED_FILE).unlink(missing_ok=True)
            write_file(folder / _SCRIPTS_FILE, folder_digest(self._scripts))
            events = job_folder.metrics_file(root)
            write_file(folder / _ATTEMPT_FILE, str(events.stat().st_size if events.is_file() else 0))
            environ = job_folder.environment(root, spec, os.environ) | _variables(spec)
            started = processes.spawn(processes.python(*command), self._scripts, folder / "log", environ)
        except OSError as error:
            raise BackendError(
                f"cannot start training in {folder}: {error.strerror or error}",
                "free some disk or check the folder's permissions, then run the same command again",
            ) from error
        self._started[job.location] = started
        return job

    def find_training(self, run: str, job_name: str) -> JobRef | None:
        folder = folder_of(run, job_name)
        return JobRef(job_name, str(folder)) if folder.is_dir() else None

    def made_with(self, job: JobRef | None) -> Mapping[str, str]:
        if job is None:
            return {SCRIPTS: folder_digest(self._scripts)}
        record = Path(job.location) / _SCRIPTS_FILE
        return {SCRIPTS: record.read_text(errors="replace")} if record.is_file() else {}

    def steps_of(self, run: str, job: JobRef) -> JobRef | None:
        return self.find_training(run, job_folder.steps_of(Path(job.location) / "ml"))

    def training_jobs(self, run: str) -> list[JobRef]:
        return [JobRef(folder.name, str(folder)) for folder in _folders(run)]

    def training_state(self, job: JobRef) -> JobState:
        """The state, judged by the job's process and files."""
        folder = Path(job.location)
        if processes_of(folder):
            return JobState("running")
        if not folder.is_dir():
            return JobState("absent")
        if job_folder.is_complete(folder / "ml"):
            return JobState("completed")
        if failure := job_folder.failure(folder / "ml"):
            return JobState("failed", failure.message, failure.hint)
        started = self._started.get(job.location)
        status = started.poll() if started else None  # only our own children tell their status
        by_request = (folder / _STOPPED_FILE).exists()
        if by_request or status in (143, -15):
            return JobState("stopped", "the training process was asked to stop", _RESUME, by_request=by_request)
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
        running, attempt = processes_of(Path(job.location)), Path(job.location) / _ATTEMPT_FILE
        try:
            begins = int(attempt.read_bytes())
        except (OSError, ValueError):  # it is not there, or damaged: then all of its starts are shown
            begins = 0
        return _events(job, lambda: any(processes.alive(process) for process in running), begins)

    def training_events(self, job: JobRef) -> Iterator[Event]:
        return _events(job, lambda: False)

    def stop_training(self, job: JobRef, keep_warm: bool = False) -> None:
        folder = Path(job.location)
        if running := processes_of(folder):
            with suppress(OSError):  # the folder is gone, or the disk full: the process is stopped all the same
                (folder / _STOPPED_FILE).touch()  # before its end, which this client may not live to see
            processes.stop(running, _GRACE)

    def training_usd(self, job: JobRef) -> float | None:
        return 0.0

    def is_warm(self, job: JobRef) -> bool:
        return False

    def artifact(self, job: JobRef) -> str:
        return str(_artifact(job))

    def artifact_file(self, job: JobRef, name: str) -> bytes | None:
        path = _artifact(job) / name
        return path.read_bytes() if path.is_file() else None

    def artifact_files(self, job: JobRef) -> Mapping[str, FileFacts]:
        """The artifact's files. Their digests are empty where reading all of them would take long.

        Raises:
            BackendError: one cannot be read.
        """
        folder = _artifact(job)
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
        return _artifact(job)


def folder_of(run: str, job_name: str) -> Path:
    """The folder of a job, which need not exist."""
    return paths.run_dir(run) / "jobs" / job_name


def processes_of(folder: Path) -> list["Process"]:
    """The running processes of the job in this folder, the one that was started first."""
    checkpoints = str(folder / "ml" / "checkpoints")
    return [process for process, _ in processes.find(_FLAG, lambda value: value == checkpoints)]


def set_damaged_aside(run: str, mark: str) -> list[str]:
    """Set aside what cannot be read of jobs that do not run; a line about each file.

    Raises:
        OSError: that cannot be done.
    """
    ended = [folder for folder in _folders(run) if not processes_of(folder)]
    return [line for folder in ended for line in job_folder.set_damaged_aside(folder, mark)]


def live(run: str) -> list[RunningResource]:
    """The run's jobs that have a process."""
    jobs = paths.run_dir(run) / "jobs"
    running = processes.find(_FLAG, lambda value: Path(value).is_relative_to(jobs))
    folders = [jobs / Path(value).relative_to(jobs).parts[0] for _, value in running]
    return [RunningResource("training_job", folder.name, str(folder)) for folder in folders]


def _folders(run: str) -> list[Path]:
    """The folders of a run's jobs, the oldest first."""
    jobs = paths.run_dir(run) / "jobs"
    folders = [folder for folder in jobs.iterdir() if folder.is_dir()] if jobs.is_dir() else []
    return sorted(folders, key=lambda one: one.stat().st_mtime)


def _artifact(job: JobRef) -> Path:
    """The folder of what the job leaves behind."""
    return Path(job.location) / "ml" / "model"


def _variables(spec: TrainSpec) -> dict[str, str]:
    """What the training script is told of the job beside its hyperparameters."""
    limit = {} if spec.max_seconds is None else {MAX_SECONDS: str(spec.max_seconds)}
    return limit | {
        ADAPTER_ONLY: str(int(spec.adapter_only)),
        BASE_SECONDS: str(spec.base_seconds),
        BASE_AS_TRAINED: str(int(spec.base_as_trained)),
        PROCESSES: str(spec.processes),
        REPORT_TO: ",".join(spec.report_to),
        STEPS_DONE: str(int(bool(spec.checkpoints))),
    }


def _events(job: JobRef, is_running: Callable[[], bool], begins: int = 0) -> Iterator[Event]:
    lines = lines_of(job_folder.metrics_file(Path(job.location) / "ml"), is_running, begins)
    return (event for line in lines if (event := read_event(line)))
