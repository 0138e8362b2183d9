"""The SageMaker backend: jobs and endpoints of the user's AWS account."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from lorasum.backends.base import PricedKind, ResourceKind, RunningResource
from lorasum.backends.records import Check, EndpointRef, JobRef
from lorasum.backends.sagemaker import deletion, endpoint_deletion, endpoint_states, parts, preflight, stopping, storage
from lorasum.backends.sagemaker.attempts import attempt_of
from lorasum.backends.sagemaker.endpoints import Endpoints
from lorasum.backends.sagemaker.jobs import LOGS, Jobs
from lorasum.backends.sagemaker.layout import S3Layout
from lorasum.backends.sagemaker.logs import Log
from lorasum.backends.sagemaker.prices import usd_per_hour
from lorasum.backends.sagemaker.session import Session
from lorasum.backends.sagemaker.tags import all_runs, runs_of
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.reporting import Reporter

_ACCESS = {"profile", "bucket", "bucket_owner", "prefix"}
"""Keys that say where to look for what a run created, and as whom; beside the region."""


class SageMakerBackend(Jobs, Endpoints):
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

    @property
    def access(self) -> Mapping[str, str]:
        given = self._config.model_dump(include=_ACCESS, exclude_none=True)
        return {**given, "region": self._session.region}

    def usd_per_hour(self, kind: PricedKind) -> float | None:
        is_job = kind != "endpoint"
        types = self._config.training_instance_types if is_job else self._config.endpoint_instance_types
        prices = [self.instance_usd_per_hour(name, "training_job" if is_job else "endpoint") for name in types]
        known = [price for price in prices if price is not None]
        return max(known) * self._config.instances(kind) if len(known) == len(prices) else None

    def instance_usd_per_hour(self, instance_type: str, kind: ResourceKind) -> float | None:
        return usd_per_hour(self._session, instance_type, "Hosting" if kind == "endpoint" else "Training")

    def preflight(self, report_to: Sequence[str] = (), expires: bool = False) -> list[Check]:
        return preflight.checks(self._session, expires)

    def log_lines(self, kind: ResourceKind, run: str, name: str, follow: bool) -> Iterator[str]:
        if kind == "training_job":
            return self._job_log(run, name, follow)
        return endpoint_states.log_lines(self._session, name, follow)

    def log_tail(self, of: JobRef | EndpointRef) -> list[str]:
        if isinstance(of, EndpointRef):
            return endpoint_states.log_of(self._session, of.name).tail()
        return Log(self._session, LOGS, f"{attempt_of(of)}/").tail()

    def log_place(self, kind: ResourceKind, run: str, name: str) -> str:
        group = LOGS if kind == "training_job" else f"/aws/sagemaker/Endpoints/{name}"
        return f"CloudWatch's group {group} in {self._session.region}"

    def begin_to_end(self, run: str, running: RunningResource) -> None:
        if running.kind == "endpoint":
            endpoint_deletion.begin(self._session, run, running.name)
        else:
            stopping.begin_to_stop(self._session, running.name)

    def runs(self, beginning: str) -> list[str]:
        if not beginning:
            return all_runs(self._session)
        arns = []
        for operation, kind in (("list_training_jobs", "TrainingJob"), ("list_endpoints", "Endpoint")):
            named = parts.listed(self._session, operation, beginning)
            arns += [one[f"{kind}Arn"] for one in named if one[f"{kind}Name"].startswith(beginning)]
        return sorted({run for run in runs_of(self._session, arns).values() if run.startswith(beginning)})

    def live(self, run: str) -> list[RunningResource]:
        return [*self._live_jobs(run), *endpoint_states.live(self._session, run)]

    def stored_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        found = {uri: storage.contents(self._session, uri) for uri in self._folders(run, data, artifacts)}
        return [f"{uri} ({count} objects, {size / 1e6:,.1f} MB)" for uri, (count, size) in found.items() if count]

    def delete_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        if artifacts:
            place = f"--region {self._session.region}"
            place += f" --profile {shlex.quote(self._config.profile)}" if self._config.profile else ""
            forget = f"aws logs delete-log-group {place} --log-group-name /aws/sagemaker/Endpoints/{run}"
            self._session.reporter.step(f"logs stay in CloudWatch; `{forget}` deletes those of an endpoint")
        if artifacts and self._config.model_cache:
            shared = S3Layout(self._session.bucket_name, self._config.prefix, run).shared_models
            deletion.abort_old_uploads(self._session, shared)
            self._session.reporter.step(f"{shared} stays, for other runs; `aws s3 rm --recursive {shared}` deletes it")
        counts = deletion.empty_all(self._session, self._folders(run, data, artifacts))
        return [uri for uri, count in counts.items() if count]

    def _folders(self, run: str, data: bool, artifacts: bool) -> list[str]:
        return S3Layout(self._session.bucket_name, self._config.prefix, run).deletable(data, artifacts)
