"""The local backend: jobs and endpoints are processes of this machine, in the user's account, without Docker."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lorasum import paths
from lorasum.backends.base import PricedKind, ResourceKind, RunningResource
from lorasum.backends.local import endpoints, invoke, job_folder, jobs
from lorasum.backends.local.log_file import lines_of
from lorasum.backends.local.preflight import check_packages
from lorasum.backends.records import Check, EndpointRef, EndpointSpec, EndpointState, JobRef, JobState, TrainSpec
from lorasum.contract import Event, FileFacts
from lorasum.errors import BackendError
from lorasum.files import folder_digest


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
        self._started: dict[str, subprocess.Popen[bytes]] = {}  # by job folder

    def usd_per_hour(self, kind: PricedKind) -> float | None:
        return 0.0

    def instance_usd_per_hour(self, instance_type: str, kind: ResourceKind) -> float | None:
        return None

    def preflight(self, run: str, report_to: Sequence[str] = ()) -> list[Check]:
        needs = {"training": jobs.NEEDS, "serving": endpoints.NEEDS}
        checks = [check_packages(what, modules) for what, modules in needs.items()]
        return checks + [check_packages(name, [name], f"pip install {name}") for name in report_to]

    def store_dataset(self, run: str, dataset: Path) -> str:
        return str(dataset)

    def training_request(self, spec: TrainSpec) -> dict[str, Any] | None:
        return None

    def start_training(self, spec: TrainSpec) -> JobRef:
        job = JobRef(spec.job_name, str(jobs.folder_of(spec.run, spec.job_name)))
        if started := jobs.start(self._scripts, spec):
            self._started[job.location] = started
        return job

    def find_training(self, run: str, job_name: str) -> JobRef | None:
        return jobs.find(run, job_name)

    def made_with(self, run: str, job: JobRef | None) -> Mapping[str, str]:
        return jobs.made_with(job) if job else {"container scripts": folder_digest(self._scripts)}

    def training_jobs(self, run: str) -> list[JobRef]:
        return jobs.jobs_of(run)

    def set_damaged_aside(self, run: str, mark: str) -> list[str]:
        try:
            return jobs.set_damaged_aside(run, mark) + endpoints.set_damaged_aside(run, mark)
        except OSError as error:
            raise BackendError(
                f"cannot set {error.filename} aside: {error.strerror}", "check the disk and the folder's permissions"
            ) from error

    def training_state(self, job: JobRef) -> JobState:
        return jobs.state(job, self._started.get(job.location))

    def follow_training(self, job: JobRef) -> Iterator[Event]:
        return jobs.follow(job)

    def training_events(self, job: JobRef) -> Iterator[Event]:
        return jobs.events(job)

    def stop_training(self, job: JobRef) -> None:
        jobs.stop(job)

    def training_usd(self, job: JobRef) -> float | None:
        return 0.0

    def is_warm(self, job: JobRef) -> bool:
        return False

    def artifact(self, job: JobRef) -> str:
        return str(jobs.artifact(job))

    def artifact_file(self, job: JobRef, name: str) -> bytes | None:
        path = jobs.artifact(job) / name
        return path.read_bytes() if path.is_file() else None

    def artifact_files(self, job: JobRef) -> Mapping[str, FileFacts]:
        return jobs.artifact_files(job)

    def fetch_artifact(self, job: JobRef, folder: Path, below: str = "") -> Path:
        return jobs.artifact(job)

    def endpoint_requests(self, spec: EndpointSpec) -> dict[str, Any]:
        return {"command": endpoints.command(spec)}

    def start_endpoint(self, spec: EndpointSpec) -> EndpointRef:
        return endpoints.start(spec)

    def expire_endpoint(self, run: str, name: str, at: datetime | None) -> None:
        endpoints.expire(run, name, at)

    def confirm_endpoint(self, run: str, name: str) -> None:
        return  # nothing to delete: the process that served before has ended

    def restore_endpoint(self, run: str, name: str) -> EndpointRef | None:
        return None

    def log_lines(self, kind: ResourceKind, run: str, name: str, follow: bool) -> Iterator[str]:
        of_a_job = kind == "training_job"
        folder = jobs.folder_of(run, name) if of_a_job else endpoints.folder_of(run, name)

        def is_running() -> bool:
            return follow and bool(jobs.processes_of(folder) if of_a_job else endpoints.processes_of(folder))

        for line in lines_of(folder / "log", is_running):
            yield line.decode("utf-8", errors="replace").rstrip()

    def log_place(self, kind: ResourceKind, run: str, name: str) -> str:
        if kind == "endpoint":
            return str(endpoints.folder_of(run, name) / "log")
        folder = jobs.folder_of(run, name)
        return f"{folder / 'log'}; its figures, one JSON object a line: {job_folder.metrics_file(folder / 'ml')}"

    def endpoint_log(self, run: str, name: str) -> list[str]:
        return []  # the user has it as a file

    def endpoint_state(self, run: str, name: str) -> EndpointState:
        return endpoints.state(run, name)

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        return invoke.invoke(endpoint, payload, timeout)

    def stream(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
        return invoke.stream(endpoint, payload, timeout)

    def delete_endpoint(self, run: str, name: str) -> bool:
        return endpoints.delete(run, name)

    def live(self, run: str) -> list[RunningResource]:
        return [*jobs.live(run), *endpoints.live(run)]

    def stored_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        folders = [paths.run_dir(run) / name for name in ("jobs", "endpoints")]
        return [str(folder) for folder in folders if artifacts and folder.is_dir()]

    def delete_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        deleted = self.stored_files(run, data, artifacts)
        for folder in deleted:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise BackendError(f"cannot delete {folder}: {error}", "check the folder's permissions") from error
        return deleted
