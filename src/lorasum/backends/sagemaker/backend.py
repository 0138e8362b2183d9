"""The SageMaker backend: jobs and endpoints of the user's AWS account."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lorasum.backends.base import PricedKind, ResourceKind, RunningResource
from lorasum.backends.records import Check, EndpointRef, EndpointSpec, EndpointState, JobRef, JobState, TrainSpec
from lorasum.backends.sagemaker import deletion, dry_run, endpoint_states, endpoints, jobs, preflight, stopping, storage
from lorasum.backends.sagemaker.invoke import invoke, stream
from lorasum.backends.sagemaker.layout import S3Layout
from lorasum.backends.sagemaker.prices import usd_per_hour
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.contract import Event, FileFacts
from lorasum.errors import ConfigError
from lorasum.reporting import Reporter


class SageMakerBackend:
    """backends.base.Backend on Amazon SageMaker. The docstrings of that class say what each method does.

    Everything a run creates carries the tag lorasum:run and lies in S3 under <bucket>/<prefix>/<run>/, so that it can
    be found without any record.

    Args:
        config: the section `sagemaker`.
        reporter: shows uploads, what is waited for, and what the user should know.
    """

    name = "sagemaker"
    stops_on_interrupt = False

    def __init__(self, config: SageMakerConfig, reporter: Reporter) -> None:
        self._config = config
        self._session = Session(config, reporter)

    @property
    def account_and_region(self) -> str:
        return f"account {self._session.account}, {self._session.region}"

    def usd_per_hour(self, kind: PricedKind) -> float | None:
        is_job = kind != "endpoint"
        types = self._config.training_instance_types if is_job else self._config.endpoint_instance_types
        prices = [self.instance_usd_per_hour(name, "training_job" if is_job else "endpoint") for name in types]
        known = [price for price in prices if price is not None]
        return max(known) * self._config.instances(kind) if len(known) == len(prices) else None

    def instance_usd_per_hour(self, instance_type: str, kind: ResourceKind) -> float | None:
        return usd_per_hour(self._session, instance_type, "Hosting" if kind == "endpoint" else "Training")

    def preflight(self, run: str, report_to: Sequence[str] = ()) -> list[Check]:
        return preflight.checks(self._session)

    def store_dataset(self, run: str, dataset: Path) -> str:
        return jobs.store_dataset(self._session, run, dataset)

    def training_request(self, spec: TrainSpec) -> dict[str, Any] | None:
        return dry_run.training_request(self._session, spec)

    def start_training(self, spec: TrainSpec) -> JobRef:
        needs_hub = not (spec.artifact or spec.model.path or self._config.model_cache)
        if self._config.network_isolation and needs_hub:
            raise ConfigError(
                f"with sagemaker.network_isolation the container cannot download {spec.model.id}",
                "set sagemaker.model_cache: true, or give model.id as a local folder: its weights travel through S3",
            )
        return jobs.start(self._session, spec)

    def find_training(self, run: str, job_name: str) -> JobRef | None:
        return jobs.find(self._session, job_name)

    def made_with(self, run: str, job: JobRef | None) -> Mapping[str, str]:
        return jobs.made_with(self._session, job)

    def training_jobs(self, run: str) -> list[JobRef]:
        return jobs.jobs_of(self._session, run)

    def set_damaged_aside(self, run: str, mark: str) -> list[str]:
        return []  # what is in S3 is written whole or not at all

    def training_state(self, job: JobRef) -> JobState:
        return jobs.state(self._session, job)

    def follow_training(self, job: JobRef) -> Iterator[Event]:
        return jobs.follow(self._session, job)

    def training_events(self, job: JobRef) -> Iterator[Event]:
        return jobs.events(self._session, job.name)

    def stop_training(self, job: JobRef) -> None:
        stopping.stop(self._session, job)

    def training_usd(self, job: JobRef) -> float | None:
        return jobs.usd(self._session, job)

    def is_warm(self, job: JobRef) -> bool:
        return jobs.is_warm(self._session, job)

    def artifact(self, job: JobRef) -> str:
        return jobs.artifact(self._session, job)

    def artifact_file(self, job: JobRef, name: str) -> bytes | None:
        return jobs.artifact_file(self._session, job, name)

    def artifact_files(self, job: JobRef) -> Mapping[str, FileFacts]:
        return jobs.artifact_files(self._session, job)

    def fetch_artifact(self, job: JobRef, folder: Path, below: str = "") -> Path:
        storage.download(self._session, self.artifact(job), folder, below)
        return folder

    def endpoint_requests(self, spec: EndpointSpec) -> dict[str, Any]:
        return dry_run.endpoint_requests(self._session, spec)

    def start_endpoint(self, spec: EndpointSpec) -> EndpointRef:
        return endpoints.start(self._session, spec, jobs.place(self._session, spec.run, "inference"))

    def expire_endpoint(self, run: str, name: str, at: datetime | None) -> None:
        endpoints.expire(self._session, name, at)

    def confirm_endpoint(self, run: str, name: str) -> None:
        endpoints.confirm(self._session, run, name)

    def restore_endpoint(self, run: str, name: str) -> EndpointRef | None:
        return endpoints.restore(self._session, run, name)

    def log_lines(self, kind: ResourceKind, run: str, name: str, follow: bool) -> Iterator[str]:
        if kind == "training_job":
            return jobs.log_lines(self._session, name, follow)
        return endpoint_states.log_lines(self._session, run, name, follow)

    def log_place(self, kind: ResourceKind, run: str, name: str) -> str:
        group = jobs.LOGS if kind == "training_job" else f"/aws/sagemaker/Endpoints/{name}"
        return f"CloudWatch's group {group} in {self._session.region}"

    def endpoint_log(self, run: str, name: str) -> list[str]:
        return endpoint_states.log_tail(self._session, name)

    def endpoint_state(self, run: str, name: str) -> EndpointState:
        return endpoint_states.state(self._session, run, name)

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        return invoke(self._session, endpoint, payload, timeout)

    def stream(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
        if self._config.engine == "vllm":
            yield from stream(self._session, endpoint, payload, timeout)
            return
        self._session.reporter.step("the Hugging Face image does not stream, so the answer comes whole; vLLM's does")
        yield from (answer["generated_text"] for answer in self.invoke(endpoint, payload, timeout))

    def delete_endpoint(self, run: str, name: str) -> bool:
        return endpoints.delete(self._session, run, name)

    def live(self, run: str) -> list[RunningResource]:
        return [*jobs.live(self._session, run), *endpoint_states.live(self._session, run)]

    def stored_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        found = {uri: storage.contents(self._session, uri) for uri in self._folders(run, data, artifacts)}
        return [f"{uri} ({count} objects, {size / 1e6:,.1f} MB)" for uri, (count, size) in found.items() if count]

    def delete_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        if artifacts and self._config.model_cache:
            shared = S3Layout(self._session.bucket_name, self._config.prefix, run).shared_models
            deletion.abort_old_uploads(self._session, shared)
            self._session.reporter.step(f"{shared} stays, for other runs; `aws s3 rm --recursive {shared}` deletes it")
        counts = {uri: deletion.empty(self._session, uri) for uri in self._folders(run, data, artifacts)}
        return [f"{uri} ({count} objects)" for uri, count in counts.items() if count]

    def _folders(self, run: str, data: bool, artifacts: bool) -> list[str]:
        return S3Layout(self._session.bucket_name, self._config.prefix, run).deletable(data, artifacts)
