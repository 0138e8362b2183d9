"""Training jobs on SageMaker.

A job's name is a hash of everything in it, and SageMaker accepts each name once. So the same command never starts two
jobs. A job that ended without an artifact gets another attempt, <name>-2, which resumes from the same checkpoints.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorasum.backends.base import RunningResource
from lorasum.backends.records import JobRef, JobState, TrainSpec
from lorasum.backends.sagemaker import job_requests, model_cache, sdk, stopping, storage
from lorasum.backends.sagemaker.attempts import (
    RUNNING,
    attempt_of,
    create_attempt,
    find_attempts,
    next_attempt,
)
from lorasum.backends.sagemaker.channels import channels_of, uris_of
from lorasum.backends.sagemaker.images import training_image
from lorasum.backends.sagemaker.job_requests import job_was_made_with, training_request
from lorasum.backends.sagemaker.layout import Folder, S3Layout
from lorasum.backends.sagemaker.logs import Log
from lorasum.backends.sagemaker.parts import listed
from lorasum.backends.sagemaker.place import place_of, shown_place
from lorasum.backends.sagemaker.prices import billed_seconds, billed_usd, kept_warm
from lorasum.backends.sagemaker.quotas import InstanceUse, check_quotas, tell_of_no_warm_pool
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.backends.sagemaker.tags import of_run
from lorasum.errors import BackendError, ConfigError
from lorasum.shared.events import Event, LogEvent, StatusEvent, read_event
from lorasum.shared.failure import read_failure
from lorasum.shared.names import CHANNEL_MODEL, RECORD_FILE
from lorasum.shared.records import FileFacts
from lorasum.system import paths
from lorasum.system.retry import until_answered

if TYPE_CHECKING:
    from sagemaker.core.resources import TrainingJob

LOGS: Final = "/aws/sagemaker/TrainingJobs"
_LAST_LOOKS = 3  # times that the log is read after the job has ended: its last lines may come late
_RESUME = "the same command starts it again, from its newest checkpoint"
_NO_INSTANCE_YET = ("Starting", "Pending")
_PLATFORM = {
    "ClientError": f"set right in the config what it says of role, image, data, disk or VPC; then {_RESUME}",
    "InternalServerError": f"an error on AWS's side: {_RESUME}",
}
"""What helps, by how a reason begins that is not the container's own."""
_NO_CAPACITY = (
    "nothing was billed: the same command tries again, and sagemaker.training_instance_alternatives names other types"
)
_STOPPED = {
    "MaxRuntimeExceeded": ("it reached sagemaker.max_runtime_hours or one of limits", f"raise it; {_RESUME}"),
    "MaxWaitTimeExceeded": ("it reached sagemaker.max_wait_hours", f"raise it, or set spot: false; {_RESUME}"),
    "Interrupted": ("its spot instance was taken away", _RESUME),
}


class Jobs:
    """The methods of backends.base.Backend that are about jobs; it says what each does."""

    _session: Session

    def store_dataset(self, run: str, dataset: Path) -> str:
        uri = S3Layout(self._session.bucket, self._session.config.prefix, run).uri(Folder.DATA, dataset.name)
        storage.upload(self._session, storage.folder_files(dataset), uri, "uploading the dataset")
        return uri

    def training_request(self, spec: TrainSpec) -> dict[str, Any] | None:
        place = shown_place(self._session, spec.run, "training")
        uris = uris_of(channels_of(self._session.config, spec), place)
        if model_cache.wants(self._session, spec.model):
            uris[CHANNEL_MODEL] = model_cache.uri(place.layout, spec.model)
        return training_request(spec, spec.job_name, place, self._session.config, uris)

    def start_training(self, spec: TrainSpec, asking: Callable[[], object] = lambda: None) -> JobRef:
        """Upload what the job needs and create it. If the name is taken, somebody else has started this very job."""
        config = self._session.config
        if config.network_isolation and not (spec.artifact or spec.model.path or config.model_cache):
            raise ConfigError(
                f"with sagemaker.network_isolation the container cannot download {spec.model.id}",
                "set sagemaker.model_cache: true, or give model.id as a local folder: its weights travel through S3",
            )
        attempts = find_attempts(self._session, spec.job_name)
        if attempts and _state(self._session, attempts[-1]).status in ("running", "completed"):
            return _reference(spec.job_name, attempts[-1])
        name = next_attempt(spec.job_name, attempts)
        use: InstanceUse = "spot training job" if config.spot else "training job"
        types = config.training_instance_types
        check_quotas(self._session, types, use, config.instances(spec.kind))
        if len(types) > 1:
            self._session.reporter.step(
                f"the job takes the first of these that is free: {', '.join(types)}; the price is the dearest's"
            )
        if config.keep_alive_minutes and spec.kind == "training_job":
            tell_of_no_warm_pool(self._session, config.training_instance_type)
        place = place_of(self._session, spec.run, "training")
        channels = channels_of(config, spec)
        uris = uris_of(channels, place)
        if spec.artifact:
            uris[CHANNEL_MODEL] = spec.artifact
        elif model_cache.wants(self._session, spec.model):
            uris[CHANNEL_MODEL] = model_cache.filled(self._session, place.layout, spec.model)
        request = training_request(spec, name, place, config, uris)
        for channel, content in channels.items():
            storage.upload(self._session, content.files(), uris[channel], f"uploading {content.what}")
        asking()
        return _reference(spec.job_name, create_attempt(self._session, request))

    def find_training(self, run: str, job_name: str) -> JobRef | None:
        attempts = find_attempts(self._session, job_name)
        return _reference(job_name, attempts[-1]) if attempts else None

    def training_jobs(self, run: str) -> list[JobRef]:
        """The run's jobs, each by its newest attempt; the oldest first. They are found by their tag."""
        attempts = _attempts_of(self._session, run, [{"SortBy": "CreationTime", "SortOrder": "Ascending"}])
        newest = {name: arn for arn, name in attempts.items()}
        return [JobRef(name, arn) for name, arn in newest.items()]

    def set_damaged_aside(self, run: str, mark: str) -> list[str]:
        return []  # what is in S3 is written whole or not at all

    def made_with(self, job: JobRef | None) -> Mapping[str, str]:
        if job:
            return job_was_made_with(described) if (described := _describe(self._session, job)) else {}
        scripts = storage.fingerprint(storage.folder_files(paths.container_scripts()))
        return job_requests.made_with(
            self._session.config, training_image(self._session.config, self._session.region), scripts
        )

    def steps_of(self, run: str, job: JobRef) -> JobRef | None:
        described = _describe(self._session, job)
        name = job_requests.steps_of(described) if described else job.name
        return job if name == job.name else self.find_training(run, name)

    def training_state(self, job: JobRef) -> JobState:
        """The state that SageMaker shows. A completed job whose artifact was deleted counts as absent."""
        described = _describe(self._session, job)
        return _state(self._session, described) if described else JobState("absent")

    def follow_training(self, job: JobRef) -> Iterator[Event]:
        """The script's events, `log` events for the other lines of its log, and `status` events from SageMaker.

        A `status` event has SageMaker's name of the status, the seconds that this attempt was billed, and their price.
        """
        logs, told = Log(self._session, LOGS, f"{attempt_of(job)}/"), ""
        while described := sdk.awaited(self._session, "TrainingJob", attempt_of(job)):
            ended = described.training_job_status not in RUNNING  # before the log is read: nothing is missed
            if described.secondary_status != told:
                told = described.secondary_status
                billed, cost = billed_seconds(described), billed_usd(self._session, described)
                yield StatusEvent(told, billed, cost)
            for _ in range(_LAST_LOOKS if ended else 1):
                for line in until_answered(logs.permitted_lines, poll_seconds(), self._session.reporter):
                    if event := read_event(line):
                        yield event
                    elif line.strip():
                        yield LogEvent(line.rstrip())
                if ended:
                    time.sleep(min(poll_seconds(), 1))
            if ended:
                return
            time.sleep(poll_seconds())

    def training_events(self, job: JobRef) -> Iterator[Event]:
        """The script's events in the logs of all attempts, the oldest first, as far as CloudWatch still has them."""
        for described in find_attempts(self._session, job.name):
            for line in Log(self._session, LOGS, f"{described.training_job_name}/").new_lines():
                if event := read_event(line):
                    yield event

    def stop_training(self, job: JobRef, keep_warm: bool = False) -> None:
        stopping.stop(self._session, job)
        if not keep_warm:
            stopping.let_go(self._session, job)

    def training_usd(self, job: JobRef) -> float | None:
        """What all attempts were billed, each at the price of the instance it ran on; None if a price is unknown."""
        total = 0.0
        for described in find_attempts(self._session, job.name):
            if (cost := billed_usd(self._session, described)) is None:
                return None
            total += cost
        return total

    def is_warm(self, job: JobRef) -> bool:
        """Whether an attempt's instance is kept warm. It may be an earlier attempt's, of another instance type."""
        return any(kept_warm(described) for described in find_attempts(self._session, job.name))

    def artifact(self, job: JobRef) -> str:
        described = _describe(self._session, job)
        if described is None:
            raise BackendError(f"there is no training job {attempt_of(job)} any more", "run `lorasum train` again")
        return _artifact(described)

    def artifact_file(self, job: JobRef, name: str) -> bytes | None:
        return storage.read(self._session, self.artifact(job) + name)

    def artifact_files(self, job: JobRef) -> Mapping[str, FileFacts]:
        """The artifact's files and their sizes, as S3 lists them; a digest would take a download."""
        uri = self.artifact(job)
        _, prefix = storage.split_uri(uri)
        return {key.removeprefix(prefix): FileFacts(size, "") for key, size in storage.objects(self._session, uri)}

    def fetch_artifact(self, job: JobRef, folder: Path, below: str = "") -> Path:
        storage.download(self._session, self.artifact(job), folder, below)
        return folder

    def _job_log(self, run: str, job_name: str, follow: bool) -> Iterator[str]:
        """The lines of the log of the job's newest attempt."""
        if job := self.find_training(run, job_name):
            log = Log(self._session, LOGS, f"{attempt_of(job)}/")
            yield from log.lines(lambda: follow and self.training_state(job).status == "running")

    def _live_jobs(self, run: str) -> list[RunningResource]:
        """The run's jobs that are running or whose instance is kept warm. They are found by their tag."""
        wanted = [{"StatusEquals": status} for status in RUNNING] + [{"WarmPoolStatusEquals": "Available"}]
        return [
            RunningResource("training_job", name, arn) for arn, name in _attempts_of(self._session, run, wanted).items()
        ]


def _attempts_of(session: Session, run: str, wanted: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The listed attempts that have the run's tag: ARN → the job's name."""
    jobs: dict[str, str] = {}
    for which in wanted:
        found = listed(session, "list_training_jobs", run, **which)
        jobs |= {job["TrainingJobArn"]: job["TrainingJobName"] for job in found}
    ours = of_run(session, run, list(jobs))
    retry = re.compile(rf"^({re.escape(run)}(?:-rows)?-[0-9a-f]{{8}})-\d+$")  # not of a run whose name ends in a date
    return {arn: retry.sub(r"\1", name) for arn, name in jobs.items() if arn in ours}


def _describe(session: Session, job: JobRef) -> "TrainingJob | None":
    return sdk.get(session, "TrainingJob", attempt_of(job))


def _state(session: Session, described: "TrainingJob") -> JobState:
    status, secondary = described.training_job_status, described.secondary_status
    if status in RUNNING:
        return JobState("running", pending=secondary in _NO_INSTANCE_YET)
    if status == "Completed":
        whole = storage.exists(session, _artifact(described) + RECORD_FILE)
        return JobState("completed") if whole else JobState("absent", "its artifact is no longer in S3")
    if status == "Stopped":
        why, hint = _STOPPED.get(secondary, ("it was asked to stop", _RESUME))
        return JobState("stopped", why, hint, by_request=secondary not in _STOPPED)
    failure = read_failure(str(described.failure_reason or secondary))
    sold_out = failure.message.startswith("CapacityError")
    hint = failure.hint or _PLATFORM.get(failure.message.partition(":")[0], _RESUME)
    return JobState("failed", failure.message, _NO_CAPACITY if sold_out else hint, sold_out)


def _artifact(described: "TrainingJob") -> str:
    known = described.model_artifacts
    uri = (known and known.s3_model_artifacts) or (
        f"{described.output_data_config.s3_output_path}/{described.training_job_name}/output/model"
    )
    return str(uri).rstrip("/") + "/"


def _reference(job_name: str, described: "TrainingJob") -> JobRef:
    return JobRef(job_name, described.training_job_arn)
