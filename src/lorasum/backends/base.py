"""The backend contract. A backend knows how to start, watch and stop things in one place; it keeps no records.

Commands write the ledger around these calls; only `cli/backends.py` picks a backend. Every method may be called twice,
and after a crash at any point in between.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from lorasum.backends.records import Check, EndpointRef, EndpointSpec, EndpointState, JobRef, JobState, TrainSpec
from lorasum.ledger.resources import Resource
from lorasum.shared.events import Event
from lorasum.shared.records import FileFacts

ResourceKind = Literal["training_job", "endpoint"]
"""What can run, and has a log."""
PricedKind = Literal[ResourceKind, "batch_job"]
"""What has a price of its own: a batch job is a training job to a backend, on other instances."""


@dataclass(frozen=True, slots=True)
class RunningResource:
    """One thing that runs now.

    Attributes:
        location: the backend's address of it (folder, URL, ARN).
        free_rest: what is left of it, where that costs nothing, such as an endpoint's configuration; else empty.
    """

    kind: ResourceKind
    name: str
    location: str = ""
    free_rest: str = ""

    def __str__(self) -> str:
        detail = self.location or (f"{self.free_rest}, which cost nothing" if self.free_rest else "")
        return f"{self.kind.replace('_', ' ')} {self.name}" + (f" ({detail})" if detail else "")

    @property
    def removal(self) -> str:
        """What removing it is, in words: `delete endpoint chats (ARN)`."""
        return f"{'delete' if self.kind == 'endpoint' else 'stop'} {self}"


def is_here(row: Resource, backend: "Backend") -> bool:
    """Whether this backend can see a recorded resource. It cannot see those of another account or region."""
    return row.backend == backend.name and row.account_and_region in ("", backend.account_and_region)


def is_active(backend: "Backend", job: JobRef) -> bool:
    """Whether a job runs, or an instance is kept for it."""
    return backend.training_state(job).status == "running" or backend.is_warm(job)


class Backend(Protocol):
    """Where training jobs and endpoints live."""

    name: str
    stops_on_interrupt: bool
    """Whether Ctrl-C in `train` stops the job, as on the user's own machine. If not, the job goes on."""

    @property
    def account_and_region(self) -> str:
        """Which account and region it works in; empty on the user's own machine. It cannot see others."""

    @property
    def access(self) -> Mapping[str, str]:
        """The keys of its config by which another process reaches what it made; none on the user's own machine."""

    def usd_per_hour(self, kind: PricedKind) -> float | None:
        """USD an hour of a running one, with all of its instances; 0 on the user's own machine, None if unknown."""

    def instance_usd_per_hour(self, instance_type: str, kind: ResourceKind) -> float | None:
        """USD an hour of one instance of a type; None if that is unknown, or there are no types."""

    def preflight(self, report_to: Sequence[str] = (), expires: bool = False) -> list[Check]:
        """Whether jobs and endpoints could start, one check after the other; creates nothing.

        Where the first one fails, the backend cannot be used at all.

        Args:
            report_to: the trackers that a job's figures go to.
            expires: whether the endpoint is to end by itself.

        Raises:
            OutageError: the backend cannot be reached for now.
        """

    def store_dataset(self, run: str, dataset: Path) -> str:
        """Copy a prepared dataset to a place that jobs can read; returns its folder or URI. A second call is cheap."""

    def training_request(self, spec: TrainSpec) -> dict[str, Any] | None:
        """The request that `start_training` would send; None if a job needs none. Creates nothing."""

    def start_training(self, spec: TrainSpec, asking: Callable[[], object] = lambda: None) -> JobRef:
        """Start the job, or adopt it when a job of this name is already running.

        A job of this name that stopped or failed is started again and resumes from its newest checkpoint.

        Args:
            asking: called just before the call that creates it, where what was created may be shown late.

        Raises:
            BackendError: the job could not be started; nothing is left running.
            UnseenError: nobody knows whether it was created.
        """

    def find_training(self, run: str, job_name: str) -> JobRef | None:
        """The job of this name, whoever started it; None if there is none."""

    def training_jobs(self, run: str) -> list[JobRef]:
        """The run's jobs, ended ones too, found without the ledger, the oldest first."""

    def set_damaged_aside(self, run: str, mark: str) -> list[str]:
        """Rename the records of this run that cannot be read, so that what needs them makes them again.

        What a running process writes is left alone. Returns what was done, one line each.

        Args:
            mark: ends the new names, such as ".damaged-2026-11-29T005136".
        """

    def made_with(self, job: JobRef | None) -> Mapping[str, str]:
        """Versions that the job's name does not cover, such as container scripts and image; keys are plural nouns.

        Args:
            job: a job that was started; what is not on record is left out. None: one of today.
        """

    def steps_of(self, run: str, job: JobRef) -> JobRef | None:
        """The job whose checkpoints a job has: itself, unless it went on from another's. None if that is gone."""

    def training_state(self, job: JobRef) -> JobState:
        """The job's state now, from the job itself and not from a record. It takes no right to read logs."""

    def follow_training(self, job: JobRef) -> Iterator[Event]:
        """Yield the events of the job's newest attempt, from its beginning until the job is no longer running.

        Another process may follow the same job. Leaving the iterator does not stop the job.
        """

    def training_events(self, job: JobRef) -> Iterator[Event]:
        """Yield the events that the job's script has written up to now, of all attempts, without waiting for more."""

    def stop_training(self, job: JobRef, keep_warm: bool = False) -> None:
        """Stop the job and wait until it is gone; it may write a checkpoint first. Stopping an absent job succeeds.

        An instance that is kept warm is let go too, unless the next job is to take it (`keep_warm`).
        """

    def training_usd(self, job: JobRef) -> float | None:
        """USD that all its attempts were billed; 0 on the user's own machine, and None if a price is unknown."""

    def is_warm(self, job: JobRef) -> bool:
        """Whether an instance is kept, and billed, after an attempt has ended; never on the user's own machine."""

    def artifact(self, job: JobRef) -> str:
        """Folder or URI of the artifact of a completed job."""

    def artifact_file(self, job: JobRef, name: str) -> bytes | None:
        """A small file of the artifact, such as its lorasum.json; None if there is none."""

    def artifact_files(self, job: JobRef) -> Mapping[str, FileFacts]:
        """The artifact's files as they are now, by their path below it. With digests only where these take a few
        seconds."""

    def fetch_artifact(self, job: JobRef, folder: Path, below: str = "") -> Path:
        """The artifact's files as a folder of this machine. Where they are elsewhere, they are copied into `folder`.

        Args:
            below: only files whose path begins with it. A second call copies what is missing.

        Raises:
            BackendError: it cannot be read.
            OSError: `folder` cannot be written.
        """

    def endpoint_requests(self, spec: EndpointSpec) -> dict[str, Any]:
        """What `start_endpoint` would send or start for a first endpoint, by operation. Creates nothing."""

    def start_endpoint(self, spec: EndpointSpec, asking: Callable[[], object] = lambda: None) -> EndpointRef:
        """Start the endpoint and wait until it answers /ping with 200; adopt one that already serves this artifact.

        One of this name that serves another artifact is replaced. What that served is kept where the backend can,
        until `confirm_endpoint` or `restore_endpoint` is called.

        Args:
            asking: as for `start_training`.

        Raises:
            BackendError: it did not start in `spec.startup_timeout`, or its port is taken; the message holds the
                log's last lines. After this, as after Ctrl-C, `delete_endpoint` removes what there may be of it.
            UnseenError: nobody knows whether it was created.
        """

    def check_expiry(self) -> None:
        """Raise the BackendError with which `expire_endpoint` would refuse every end, if there is one."""

    def expire_endpoint(self, run: str, name: str, at: datetime | None) -> None:
        """Have what serves under this name end by itself at `at`, with a time zone, without any lorasum running.

        It may be called before the endpoint is started, and again to move the time. None cancels it. `delete_endpoint`
        takes the time away too; `start_endpoint` does not.

        Raises:
            BackendError: that cannot be arranged; the message says why, the hint what to allow.
        """

    def confirm_endpoint(self, run: str, name: str) -> None:
        """The endpoint has answered: what it served before is no longer needed."""

    def restore_endpoint(self, run: str, name: str) -> EndpointRef | None:
        """The endpoint did not answer: have it serve again what it last answered with, and wait until it does.

        Returns None if there is nothing to go back to.

        Raises:
            BackendError: it could not be put back; the message says what is left.
        """

    def log_lines(self, kind: ResourceKind, run: str, name: str, follow: bool) -> Iterator[str]:
        """Yield the lines that the process has written, from the beginning; nothing where there is no log.

        Args:
            follow: wait for new lines until it no longer runs.

        Raises:
            BackendError: the log cannot be read.
        """

    def log_place(self, kind: ResourceKind, run: str, name: str) -> str:
        """Where the log is, for people; and of a job the file of its figures, if there is one."""

    def log_tail(self, of: JobRef | EndpointRef) -> list[str]:
        """The last lines of its newest log; none if they cannot be read or the user has the log as a file."""

    def endpoint_state(self, run: str, name: str) -> EndpointState:
        """The endpoint's state now."""

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        """POST `payload` as JSON and return the decoded answer; `timeout` in seconds.

        Raises:
            RefusedError: it refused this request; another one may be answered.
            BackendError: no endpoint answers there, it answered with an error, or it took too long.
        """

    def stream(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
        """Yield the answer to one prompt in pieces, as they are generated; where they do not come, the whole at once.

        Leaving the iterator ends generating.

        Raises:
            RefusedError, BackendError: as `invoke`, at any piece.
        """

    def delete_endpoint(self, run: str, name: str, mark: str = "") -> bool:
        """Stop the endpoint and wait until it is gone. True if there was one; an absent one succeeds with False.

        What else there is of it costs nothing, and is deleted then. Where that cannot be done, a warning says so.

        Args:
            mark: of the spec that it was started by. One that was started by another counts as absent, and stays.
        """

    def begin_to_end(self, run: str, running: RunningResource) -> None:
        """Ask for the end of a job or an endpoint, and do not wait: so that several end at the same time.

        `stop_training` and `delete_endpoint` ask again, and see to it. Where nothing is billed, this may do nothing.

        Raises:
            BackendError: it was refused.
        """

    def runs(self, beginning: str) -> list[str]:
        """Names of runs that begin so and have jobs or endpoints here, ended ones too, found without the ledger.

        Raises:
            BackendError: they cannot be listed.
        """

    def live(self, run: str) -> list[RunningResource]:
        """Everything of this run that is running or kept warm now, found without the ledger."""

    def stored_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        """What `delete_files` would delete, one line each."""

    def delete_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        """Delete what the backend stores for a run of which nothing runs; absent files succeed.

        `data`: its copies of the run's datasets, if it made any. `artifacts`: what jobs and endpoints left behind,
        with checkpoints; logs that are kept elsewhere stay. Returns the folders or URIs that had any.
        """
