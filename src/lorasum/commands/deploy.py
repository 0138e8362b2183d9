"""Deploy: a trained artifact behind an endpoint that has answered a real request before it counts as in service."""

import json
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from lorasum.backends.base import is_here
from lorasum.backends.records import EndpointRef, EndpointSpec, JobRef
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
from lorasum.results.serving import DeployPlan, DeployResult
from lorasum.shared.names import ADAPTER_FOLDER

_DECIDES_NOTHING: Final = {"deploy": {"expires_after"}, "sagemaker": {"scheduler_role"}}
"""How long an endpoint runs makes no other endpoint of it."""
_PLACEHOLDER: Final = "<artifact>"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a deploy is to serve, beside what serves now.

    Attributes:
        job: that made the artifact. Its name is empty if nothing is trained yet.
        several: the adapters to serve, which are known to be whole; none if it is the model of the job alone.
        end: when it is to end.
        ends: when it will end by itself; None if it will not.
        endless: the warning that it will not do so at `end`; empty if it will, or is to have no end.
        serving: the record of the run's endpoint, if that is in service and is exactly what would be started.
        since: when the endpoint that serves now was started; None if there is none.
    """

    run: RunContext
    job: TrainingJob
    several: tuple[Adapter, ...]
    usd_per_hour: float | None
    end: datetime | None
    serving: Endpoint | None = None
    since: datetime | None = None
    ends: datetime | None = None
    endless: str = ""

    def placement(self) -> Placement:
        """Where the model is to be served; with a warning of GPUs that would do nothing.

        Raises:
            LorasumError: the artifact is damaged or lacks what is to be served, or the instance has no room for it.
        """
        config, backend = self.run.config, self.run.backend
        reference = JobRef(self.job.name, self.job.location) if self.job.name else None
        if reference and not self.several:
            check_artifact(backend, reference, f"{ADAPTER_FOLDER}/" if config.deploy.serve == "adapter" else "")
        placement = Placement.of(config, shape_of_artifact(backend, reference) if reference else None)
        refuse_what_does_not_fit(placement)
        warn_of(placement.idle(), self.run.reporter)
        return placement

    def spec(self, placement: Placement) -> EndpointSpec:
        config = self.run.config
        return EndpointSpec(
            run=config.name,
            name=config.name,
            artifact=self.job.artifact,
            base=_base(self.job.origin) if self.several or config.deploy.serve == "adapter" else None,
            port=config.local.port,
            startup_timeout=config.local.startup_timeout,
            adapters=self.several,
            gpus=placement.tensor_parallel_size,
            shortens_context=placement.shortens_context,
        )

    def warn_of_no_end(self) -> None:
        if self.endless:
            self.run.reporter.warn(self.endless)

    def said(self, placement: Placement) -> str:
        """The endpoint in a line: its price, its end, and how it is served."""
        most = expiry.most_instances(self.run.config)
        until = until_note(self.ends, self.since or self.run.ledger.now(), self.usd_per_hour, most)
        until = until or ("with no end of its own" if self.endless else "")
        price = price_note(self.usd_per_hour)
        return f"endpoint {self.run.name}{price}{f', {until}' if until else ''}{placement.note()}"


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
        plan = _look(run, job)
        if plan.serving:
            row = expiry.extend(held, endpoints.kept_for(held, plan.serving, for_one_run), plan.end)
        else:
            row = _start(held, plan, watch, for_one_run)
    since = plan.since or datetime.fromisoformat(row.created_at)
    return DeployResult(
        run=run.name,
        endpoint=row.name,
        location=row.location,
        artifact=plan.job.artifact,
        job=plan.job.name,
        reused=plan.serving is not None,
        seconds=time.monotonic() - began,
        expires_at=row.expires_at,
        ends_itself=row.ends_itself,
        max_usd=most_usd(
            row.expires_at if row.ends_itself else None, since, row.usd_per_hour, expiry.most_instances(run.config)
        ),
        adapters=tuple(one.run for one in plan.several),
    )


def to_be_spent(run: RunContext, job: str | None = None) -> str:
    """What `deploy` would start and what that costs, in a line; empty if it serves already or nothing is paid for.

    Raises:
        LorasumError: as `deploy`.
    """
    if run.backend.usd_per_hour("endpoint") == 0:
        return ""
    with run.looking_ahead():
        plan = _look(run, job)
        if plan.serving:
            return ""
        plan.warn_of_no_end()
        return f"start {plan.said(plan.placement())}"


def plan_deploy(run: RunContext, job: str | None = None) -> DeployPlan:
    """The endpoint that `deploy` would start, as if there were none. Starts nothing, and nothing needs to be trained.

    Args:
        job: as for `deploy`.

    Raises:
        LorasumError: what is trained does not fit the config; or as `deploy` of its artifact.
    """
    is_trained = job or recorded(run.backend, run.ledger, run.name)
    chosen = chosen_job(run, job) if is_trained else _not_trained(run)
    several = adapters(run, chosen) if is_trained else ()
    price = known_price(run.backend, "endpoint")
    end = expiry.end_of(run, None, None, price)
    plan = _Plan(run, chosen, several, price, end, None, None, *expiry.foreseen(run, end, None))
    placement = plan.placement()
    plan.warn_of_no_end()
    run.reporter.step(f"would start {plan.said(placement)}; nothing was started")
    requests = run.backend.endpoint_requests(plan.spec(placement))
    return DeployPlan(run.name, run.name, chosen.artifact, requests, price)


def _not_trained(run: RunContext) -> TrainingJob:
    run.reporter.warn(f"run {run.name!r} has no trained model yet: {_PLACEHOLDER} stands for it")
    model = resolve_model(run.config.model, run.reporter)
    origin = Origin(template="", model=model.location, model_revision=model.revision or "")
    return TrainingJob(run=run.name, name="", backend=run.backend.name, artifact=_PLACEHOLDER, origin=origin)


def _start(held: HeldRun, plan: _Plan, watch: TeardownWatch, for_one_run: bool) -> Endpoint:
    watch.check()
    config, job, several, placement = plan.run.config, plan.job, plan.several, plan.placement()
    spec = plan.spec(placement)
    row = replace(
        endpoints.row_of(held.backend, held.name, spec.name, spec.artifact, job.origin),
        job=job.name,
        settings=_settings(config),
        expires_at=plan.end,
        adapters=several,
        most_instances=expiry.most_instances(config),
        for_one_run=for_one_run,
    )

    def probe(endpoint: EndpointRef) -> None:
        watch.check()  # a teardown gives up while this command holds the run's lock
        one_model = Summarizer(held.backend, endpoint, job.origin, config.predict)
        for summarizer in [one_model.of(one) for one in several] or [one_model]:
            _probe(summarizer)
        watch.check()  # an answer may take minutes

    held.reporter.step(f"starting {plan.said(placement)}")
    return endpoints.start(held, row, spec, probe)


def _probe(summarizer: Summarizer) -> None:
    (summary,) = summarizer.summarize([endpoints.PROBE])
    if not summary:
        whose = f"adapter {summarizer.adapter.run}" if summarizer.adapter else "its model"
        raise BackendError(
            f"endpoint {summarizer.endpoint.name} answers with nothing: {whose} ends a summary before the first word",
            "see whether the loss fell (`lorasum logs`); train again with another learning rate or other data",
        )


def _look(run: RunContext, job: str | None) -> _Plan:
    """What is to be served, and what serves now.

    Raises:
        LorasumError: nothing is trained, an adapter cannot be served, or the endpoint has reached its limits.
    """
    chosen = chosen_job(run, job)
    several = adapters(run, chosen)
    row, state = run.ledger.find(Endpoint, run.name, run.name), run.backend.endpoint_state(run.name, run.name)
    meant = (_settings(run.config), several, chosen.artifact)
    serving = since = None
    if row and row.state == "live" and is_here(row, run.backend) and state.status == "in_service" and state.ref:
        serving = row if (row.settings, row.adapters, state.ref.artifact) == meant else None
    if state.status in ("in_service", "creating"):
        since = state.created or (datetime.fromisoformat(serving.created_at) if serving else None)
    price = run.backend.usd_per_hour("endpoint")
    end = expiry.end_of(run, row, since, price)
    there = row if state.status != "absent" else None
    return _Plan(run, chosen, several, price, end, serving, since, *expiry.foreseen(run, end, there))


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
