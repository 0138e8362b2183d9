"""Deploy: a trained artifact behind an endpoint that has answered a real request before it counts as in service."""

import json
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from lorasum.backends.base import is_here
from lorasum.backends.records import EndpointRef, EndpointSpec, EndpointState, JobRef
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError
from lorasum.ledger.resources import Adapter, Endpoint, Origin, TrainingJob
from lorasum.lifecycle import endpoints, expiry
from lorasum.lifecycle.adapters import adapters
from lorasum.lifecycle.artifacts import check_artifact
from lorasum.lifecycle.costs import known_price, most_usd, price_note, until_note
from lorasum.lifecycle.lookup import chosen_job, recorded
from lorasum.lifecycle.placement import Placement, refuse_what_does_not_fit, shape_of_artifact, warn_of
from lorasum.lifecycle.summarizer import Summarizer
from lorasum.lifecycle.teardowns import TeardownWatch
from lorasum.lock import HeldRun
from lorasum.models.source import ModelRef, resolve_model
from lorasum.reporting import Silent
from lorasum.results.serving import DeployPlan, DeployResult
from lorasum.shared.names import ADAPTER_FOLDER

_DECIDES_NOTHING: Final = {"deploy": {"expires_after"}, "sagemaker": {"scheduler_role"}}
"""How long an endpoint runs makes no other endpoint of it."""
_PLACEHOLDER: Final = "<artifact>"


def deploy(run: RunContext, job: str | None = None, for_one_run: bool = False) -> DeployResult:
    """Serve the artifact of the newest completed job of this config. An endpoint that already does so is kept.

    With deploy.adapters, its adapter is served beside those of other runs, on one base model.

    Args:
        job: the completed job to serve, whatever the config says of training.
        for_one_run: whether `run` removes the endpoint at its end: the next `run` does, if this one is killed.

    Raises:
        LorasumError: nothing is trained, or with another config only, or the artifact is gone, damaged or without
            what is to be served; the instance has no room for the model.
        BackendError, TornDownError: the endpoint did not start, could not answer, or was torn down; it is deleted.
    """
    began, watch = time.monotonic(), TeardownWatch(run.name)
    with run.hold() as held:
        chosen = chosen_job(run, job)
        settings, several = _settings(run.config), adapters(run, chosen)
        before = run.ledger.find(Endpoint, run.name, run.name)
        state = run.backend.endpoint_state(run.name, run.name)
        serving = _serving_already(run, before, state, chosen.artifact, several, settings)
        since = _began(state, serving)
        end = expiry.end_of(run, before, since, run.backend.usd_per_hour("endpoint"))
        if serving:
            row = expiry.extend(held, endpoints.kept_for(held, serving, for_one_run), end)
        else:
            row = _start(run, held, chosen, several, settings, end, since, for_one_run, watch)
    return DeployResult(
        run=run.name,
        endpoint=row.name,
        location=row.location,
        artifact=chosen.artifact,
        job=chosen.name,
        reused=serving is not None,
        seconds=time.monotonic() - began,
        expires_at=row.expires_at,
        ends_itself=row.ends_itself,
        max_usd=_max_usd(run, row, since or datetime.fromisoformat(row.created_at)),
        adapters=tuple(one.run for one in several),
    )


def _max_usd(run: RunContext, row: Endpoint, began: datetime) -> float | None:
    return most_usd(row.expires_at, began, row.usd_per_hour, expiry.most_instances(run.config))


def to_be_spent(run: RunContext, job: str | None = None) -> str:
    """What `deploy` would start and what that costs, in a line; empty if it serves already or nothing is paid for.

    Raises:
        LorasumError: as `deploy`.
    """
    price = run.backend.usd_per_hour("endpoint")
    if price == 0:
        return ""
    quiet = replace(run, connect=lambda: run.backend, reporter=Silent())  # `deploy` says it all again
    chosen = chosen_job(quiet, job)
    before = run.ledger.find(Endpoint, run.name, run.name)
    state = run.backend.endpoint_state(run.name, run.name)
    several = adapters(quiet, chosen)
    if _serving_already(quiet, before, state, chosen.artifact, several, _settings(run.config)):
        return ""
    began = _began(state, None)
    end = expiry.end_of(quiet, before, began, price)
    return f"start endpoint {run.name}{_terms(quiet, _placement(quiet, chosen, several), price, end, began)}"


def plan_deploy(run: RunContext, job: str | None = None) -> DeployPlan:
    """The endpoint that `deploy` would start, as if there were none. Starts nothing, and nothing needs to be trained.

    Args:
        job: as for `deploy`.

    Raises:
        LorasumError: what is trained does not fit the config; or as `deploy` of its artifact.
    """
    chosen = None
    if job or recorded(run.backend, run.ledger, run.name):
        chosen = chosen_job(run, job)
    else:
        run.reporter.warn(f"run {run.name!r} has no trained model yet: {_PLACEHOLDER} stands for it")
    artifact = chosen.artifact if chosen else _PLACEHOLDER
    base = _base(chosen.origin) if chosen else resolve_model(run.config.model, run.reporter)
    several = adapters(run, chosen) if chosen else ()
    placement = _placement(run, chosen, several)
    price = known_price(run.backend, "endpoint")
    end = expiry.end_of(run, None, None, price)
    terms = _terms(run, placement, price, end, None)
    run.reporter.step(f"would start endpoint {run.name}{terms}; nothing was started")
    requests = run.backend.endpoint_requests(_spec(run.config, artifact, base, several, placement))
    return DeployPlan(run.name, run.name, artifact, requests, price)


def _spec(
    config: Config, artifact: str, base: ModelRef, several: tuple[Adapter, ...], placement: Placement
) -> EndpointSpec:
    return EndpointSpec(
        run=config.name,
        name=config.name,
        artifact=artifact,
        base=base if several or config.deploy.serve == "adapter" else None,
        port=config.local.port,
        startup_timeout=config.local.startup_timeout,
        adapters=several,
        gpus=placement.tensor_parallel_size,
        shortens_context=placement.shortens_context,
    )


def _placement(run: RunContext, job: TrainingJob | None, several: tuple[Adapter, ...]) -> Placement:
    """Where the model of a job is to be served; with a warning of GPUs that would do nothing.

    Args:
        several: the adapters to serve, which are known to be whole; none if it is the model of the job alone.

    Raises:
        LorasumError: the artifact is damaged or lacks what is to be served, or the instance has no room for it.
    """
    reference = JobRef(job.name, job.location) if job else None
    if reference and not several:
        check_artifact(run.backend, reference, f"{ADAPTER_FOLDER}/" if run.config.deploy.serve == "adapter" else "")
    placement = Placement.of(run.config, shape_of_artifact(run.backend, reference) if reference else None)
    refuse_what_does_not_fit(placement)
    warn_of(placement.idle(), run.reporter)
    return placement


def _terms(
    run: RunContext, placement: Placement, usd_per_hour: float | None, end: datetime | None, began: datetime | None
) -> str:
    """The end of a line about an endpoint: its price, its end, and how it is served."""
    until = _until(run.config, end, began or run.ledger.now(), usd_per_hour)
    return f"{price_note(usd_per_hour)}{f', {until}' if until else ''}{placement.note()}"


def _until(config: Config, end: datetime | None, began: datetime, usd_per_hour: float | None) -> str:
    return until_note(end, began, usd_per_hour, expiry.most_instances(config))


def _start(
    run: RunContext,
    held: HeldRun,
    job: TrainingJob,
    several: tuple[Adapter, ...],
    settings: str,
    end: datetime | None,
    began: datetime | None,
    for_one_run: bool,
    watch: TeardownWatch,
) -> Endpoint:
    config = run.config
    watch.check()
    placement = _placement(run, job, several)
    spec = _spec(config, job.artifact, _base(job.origin), several, placement)
    row = replace(
        endpoints.row_of(run.backend, run.name, spec.name, spec.artifact, job.origin),
        job=job.name,
        settings=settings,
        expires_at=end,
        adapters=several,
        most_instances=expiry.most_instances(config),
        for_one_run=for_one_run,
    )

    def probe(endpoint: EndpointRef) -> None:
        watch.check()  # a teardown gives up while this command holds the run's lock
        one_model = Summarizer(run.backend, endpoint, job.origin, config.predict)
        for summarizer in [one_model.of(one) for one in several] or [one_model]:
            _probe(summarizer)

    price = run.backend.usd_per_hour("endpoint")
    run.reporter.step(f"starting endpoint {run.name}{_terms(run, placement, price, end, began)}")
    return endpoints.start(held, row, spec, probe)


def _probe(summarizer: Summarizer) -> None:
    (summary,) = summarizer.summarize([endpoints.PROBE])
    if not summary:
        whose = f"adapter {summarizer.adapter.run}" if summarizer.adapter else "its model"
        raise BackendError(
            f"endpoint {summarizer.endpoint.name} answers with nothing: {whose} ends a summary before the first word",
            "see whether the loss fell (`lorasum logs`); train again with another learning rate or other data",
        )


def _began(state: EndpointState, row: Endpoint | None) -> datetime | None:
    """When the endpoint that serves now was started; None if there is none.

    Args:
        row: its record, if it is to go on as it is.
    """
    if state.status not in ("in_service", "creating"):
        return None
    return state.created or (datetime.fromisoformat(row.created_at) if row else None)


def _serving_already(
    run: RunContext,
    row: Endpoint | None,
    state: EndpointState,
    artifact: str,
    several: tuple[Adapter, ...],
    settings: str,
) -> Endpoint | None:
    """`row`, the record of the run's endpoint, if that is in service and is exactly what would be started."""
    if row is None or row.state != "live" or not is_here(row, run.backend):
        return None
    if state.ref is None or state.status != "in_service" or state.ref.artifact != artifact:
        return None
    return row if (row.settings, row.adapters) == (settings, several) else None


def _settings(config: Config) -> str:
    """The parts of the config that may call for another endpoint of the same artifact. The backend knows which of them
    do."""
    decides = config.model_dump(mode="json", include={"deploy", config.backend}, exclude=_DECIDES_NOTHING)
    return json.dumps(decides, sort_keys=True)


def _base(origin: Origin) -> ModelRef:
    """The base model that an adapter was trained on."""
    folder = Path(origin.model)
    return (
        ModelRef(origin.model, None, folder)
        if folder.is_absolute()
        else ModelRef(origin.model, origin.model_revision or None)
    )
