"""The local backend: jobs and endpoints are processes of this machine, in the user's account, without Docker."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lorasum.backends.base import PricedKind, ResourceKind, RunningResource
from lorasum.backends.local import endpoints, job_folder, jobs
from lorasum.backends.local.endpoints import Endpoints
from lorasum.backends.local.jobs import Jobs
from lorasum.backends.local.log_file import lines_of
from lorasum.backends.local.preflight import check_packages
from lorasum.backends.records import Check, EndpointRef, JobRef
from lorasum.errors import BackendError
from lorasum.system import paths


class LocalBackend(Jobs, Endpoints):
    """backends.base.Backend on this machine. The docstrings of that class say what each method does.

    A process is recognised by its command line, which names a folder of the run: for a training job the folder of its
    checkpoints, for an endpoint that of its state. No other record is kept.

    Args:
        scripts: folder with the train.py that each job runs; by default the one that comes with lorasum.
    """

    name = "local"
    account_and_region = ""
    access: Mapping[str, str] = {}
    stops_on_interrupt = True

    def __init__(self, scripts: Path | None = None) -> None:
        super().__init__((scripts or paths.container_scripts()).resolve())

    def usd_per_hour(self, kind: PricedKind) -> float | None:
        return 0.0

    def instance_usd_per_hour(self, instance_type: str, kind: ResourceKind) -> float | None:
        return None

    def preflight(self, report_to: Sequence[str] = (), expires: bool = False) -> list[Check]:
        serving = replace(check_packages("serving", endpoints.NEEDS), stops_training=False)
        trackers = [check_packages(name, [name], f"pip install {name}") for name in report_to]
        return [check_packages("training", jobs.NEEDS), serving, *trackers]

    def set_damaged_aside(self, run: str, mark: str) -> list[str]:
        try:
            return jobs.set_damaged_aside(run, mark) + endpoints.set_damaged_aside(run, mark)
        except OSError as error:
            raise BackendError(
                f"cannot set {error.filename} aside: {error.strerror}", "check the disk and the folder's permissions"
            ) from error

    def log_lines(self, kind: ResourceKind, run: str, name: str, follow: bool) -> Iterator[str]:
        of_a_job = kind == "training_job"
        folder = jobs.folder_of(run, name) if of_a_job else endpoints.folder_of(run, name)

        def is_running() -> bool:
            return follow and bool(jobs.processes_of(folder) if of_a_job else endpoints.processes_of(folder))

        for line in lines_of(folder / "log", is_running):
            yield line.decode("utf-8", errors="replace").rstrip()

    def log_tail(self, of: JobRef | EndpointRef) -> list[str]:
        return []  # the user has it as a file

    def log_place(self, kind: ResourceKind, run: str, name: str) -> str:
        if kind == "endpoint":
            return str(endpoints.folder_of(run, name) / "log")
        folder = jobs.folder_of(run, name)
        return f"{folder / 'log'}; its figures, one JSON object a line: {job_folder.metrics_file(folder / 'ml')}"

    def begin_to_end(self, run: str, running: RunningResource) -> None:
        return  # nothing here is billed

    def runs(self, beginning: str) -> list[str]:
        return [name for name in paths.runs() if name.startswith(beginning)]

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
