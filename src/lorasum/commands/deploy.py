"""Deploy: the newest artifact behind an endpoint that has answered a real request before it counts as in service."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import EndpointRef, EndpointSpec, JobRef
from lorasum.commands.predict import summarize
from lorasum.commands.train import price_note, recorded_jobs
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.ledger import OPEN, Ledger, Resource, cost, run_lock
from lorasum.model_source import ModelRef
from lorasum.results import DeployResult

KIND: Final = "endpoint"
_ORIGIN = ("dataset", "fingerprint", "template", "model", "model_revision")  # of a job's detail: what serving needs
_PROBE = "Ana: Are we still meeting at six?\nBen: Yes, at the station. Don't be late!"


def deploy(run: RunContext) -> DeployResult:
    """Serve the artifact of the run's latest completed training job; one that serves it as the config says is kept.

    Raises:
        LorasumError: nothing is trained, or its artifact is gone.
        BackendError: the endpoint did not start or could not answer; it is deleted.
    """
    began = time.monotonic()
    config, backend, ledger, report = run.config, run.backend, run.ledger, run.reporter
    name = run.name
    with run_lock(name):
        job = _trained(backend, ledger, name)
        artifact = job.detail["artifact"]
        state = backend.endpoint_state(name, name)
        endpoint = state.ref if state.status == "in_service" else None
        row = ledger.find(name, KIND, name)
        known = row is not None and row.state == "live" and is_here(row, backend)
        settings = _settings(config)
        same = endpoint is not None and endpoint.artifact == artifact
        reused = known and same and row is not None and row.detail.get("settings") == settings
        if endpoint is None or not reused:
            report.step(f"starting endpoint {name}{price_note(backend.usd_per_hour(KIND))}")
            spec = EndpointSpec(
                run=name,
                name=name,
                artifact=artifact,
                base=_base(job) if config.deploy.serve == "adapter" else None,
                port=config.local.port,
                startup_timeout=config.local.startup_timeout,
            )
            origin = {key: value for key, value in job.detail.items() if key in _ORIGIN}
            origin |= {"job": job.name, "settings": settings}
            endpoint = serve(config, backend, ledger, spec, origin)
    return DeployResult(name, endpoint.name, endpoint.location, artifact, reused, time.monotonic() - began)


def serve(
    config: Config, backend: Backend, ledger: Ledger, spec: EndpointSpec, origin: Mapping[str, Any]
) -> EndpointRef:
    """Start an endpoint, have it answer one real request, and only then record it as live. Hold the run's lock.

    Whatever goes wrong, Ctrl-C too: what was started is deleted, and if that fails the ledger still has it intended.

    Args:
        origin: what the ledger keeps of where its artifact came from; `template` is used here.
    """
    before = ledger.find(spec.run, KIND, spec.name)
    if before and before.state in OPEN and is_here(before, backend):
        settle_endpoint(backend, ledger, before)  # if it went unseen, nobody knows what it cost
    spent = _spent(ledger, spec.run, spec.name)
    detail = {**origin, "artifact": spec.artifact, "where": backend.where, "usd_before": spent}
    ledger.intend(spec.run, KIND, spec.name, backend.name, detail, backend.usd_per_hour(KIND))
    try:
        endpoint = backend.start_endpoint(spec)
        summarize(config, backend, endpoint, origin["template"], [_PROBE])
    except BaseException as error:
        if before and _goes_on(backend, spec, before):
            detail = {**before.detail, "usd_before": cost(before)}
            ledger.intend(spec.run, KIND, spec.name, backend.name, detail, before.usd_per_hour)
            ledger.mark(spec.run, KIND, spec.name, "live")
            raise
        backend.delete_endpoint(spec.run, spec.name)
        spent = _spent(ledger, spec.run, spec.name)  # at most: when the instance started is not known
        ledger.mark(spec.run, KIND, spec.name, "failed", reason=str(error) or type(error).__name__, usd=spent)
        raise
    ledger.mark(spec.run, KIND, spec.name, "live", location=endpoint.location)
    return endpoint


def _spent(ledger: Ledger, run: str, name: str) -> float | None:
    """What endpoints of this name have cost up to now; None where that is unknown."""
    row = ledger.find(run, KIND, name)
    return cost(row) if row else 0.0


def _goes_on(backend: Backend, spec: EndpointSpec, before: Resource) -> bool:
    """Whether the endpoint, which was to serve something else, went back to what it was recorded to serve."""
    if before.state != "live" or before.detail["artifact"] == spec.artifact:
        return False
    state = backend.endpoint_state(spec.run, spec.name)
    return state.status == "in_service" and state.ref is not None and state.ref.artifact == before.detail["artifact"]


def withdraw(backend: Backend, ledger: Ledger, run: str, name: str) -> bool:
    """Delete an endpoint and record that it is gone. True if there was one. Hold the run's lock."""
    existed = backend.delete_endpoint(run, name)
    if row := ledger.find(run, KIND, name):
        spent = {"usd": cost(row)} if existed else {}  # else nobody knows when it went
        ledger.mark(run, KIND, name, "gone", **spent)
    return existed


def settle_endpoint(backend: Backend, ledger: Ledger, row: Resource) -> None:
    """Write into the ledger where a recorded endpoint stands, judged by the backend. Hold the run's lock."""
    state = backend.endpoint_state(row.run, row.name)
    if state.status == "absent":
        ledger.mark(row.run, KIND, row.name, "gone")
    elif state.status == "failed":
        ledger.mark(row.run, KIND, row.name, "failed", reason=state.reason)


def _settings(config: Config) -> dict[str, Any]:
    """What of the config may make another endpoint of the same artifact; the backend knows what really does."""
    return config.model_dump(mode="json", include={"deploy", config.backend})


def _base(job: Resource) -> ModelRef:
    """The base model that a job's adapter was trained on."""
    where, revision = job.detail["model"], job.detail["model_revision"] or None
    folder = Path(where)
    return ModelRef(where, None, folder) if folder.is_absolute() else ModelRef(where, revision)


def _trained(backend: Backend, ledger: Ledger, run: str) -> Resource:
    """The run's latest completed training job, with its artifact where it should be."""
    done = [row for row in recorded_jobs(ledger, run, backend) if row.state == "done"]
    if not done:
        raise LorasumError(f"run {run!r} has no trained model", "run `lorasum train` with this config first")
    job = done[-1]
    state = backend.training_state(JobRef(job.name, job.detail["location"]))
    if state.status != "completed":
        raise LorasumError(
            f"the artifact of job {job.name} is no longer at {job.detail['artifact']}", "run `lorasum train` again"
        )
    return job
