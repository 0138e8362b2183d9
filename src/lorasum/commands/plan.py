"""Plan: what a run would take and cost, and whether it can start. Nothing is created."""

from dataclasses import replace

from lorasum.backends.records import Check
from lorasum.context import RunContext
from lorasum.errors import HubOutageError, ModelError
from lorasum.lifecycle import expiry
from lorasum.lifecycle.estimate import Estimate, checks, estimate_of
from lorasum.lifecycle.limits import job_limit, job_most_usd, stopped_after
from lorasum.lifecycle.placement import Placement, before_training, warn_of
from lorasum.lifecycle.planning import PlannedJob, example_job, idle_processes, planned_job
from lorasum.lifecycle.training_time import Speed, Workload, measured_speed, seconds_of
from lorasum.models.source import model_file, tokenizer_identity
from lorasum.reporting import Reporter
from lorasum.results.training import InstanceOption, PlanResult

_SPOT = 0.1  # of the price on demand: AWS promises savings of up to 90%
_UNPREPARED = "that takes a prepared dataset"


def plan(run: RunContext) -> PlanResult:
    """The training's work, needs, time and price, the endpoint's price, and what the backend says of its start.

    Raises:
        LorasumError: what is prepared does not fit the config; limits.max_usd is too low.
    """
    prepared = run.ledger.latest_dataset(run.name)
    job = planned_job(run.config, run.ledger, run.reporter) if prepared else example_job(run.config)
    estimate = estimate_of(job, run.reporter) if prepared else Estimate(job, None, _UNPREPARED)
    found = list(run.backend.preflight(run.config.training.report_to, expiry.is_wanted(run.config)))
    reachable = all(check.ok for check in found[:1])
    placement = before_training(job.placement, job.spec.model, estimate.needs) if prepared else job.placement
    found += _job_checks(estimate, bool(prepared)) + _endpoint_checks(placement, run.reporter) + _packs_checks(job)
    price, serving, limit = _prices(run, reachable)
    speed = _speed(run, job, price, job.hardware.only_type)
    work, tightest = job.work or Workload(), job.hardware.tightest
    seconds, memory = seconds_of(work, speed), estimate.memory(tightest)
    return PlanResult(
        run=run.name,
        job=job.spec.job_name,
        prepared=prepared is not None,
        packs=work.packs,
        steps=work.steps,
        tokens=work.tokens,
        training_seconds=seconds,
        measured_job=speed.source if speed else None,
        overhead_seconds=estimate.overhead_seconds(measured=speed is not None),
        usd_per_hour=price,
        spot_least_usd_per_hour=_times(price, _SPOT) if price and run.config.sagemaker.spot else None,
        limit_seconds=stopped_after(run.config, limit),
        max_usd=job_most_usd(run.config, price, limit),
        endpoint_usd_per_hour=serving,
        checks=tuple(found),
        memory=memory if memory and not memory.refusal else None,
        memory_unknown=estimate.unknown,
        host=estimate.host(tightest),
        disk=estimate.disk(tightest),
        instances=tuple(_option(run, estimate, placement, name, reachable) for name in job.hardware.choices),
        band=None if seconds else estimate.band(tightest),
    )


def _prices(run: RunContext, reachable: bool) -> tuple[float | None, float | None, int | None]:
    """USD an hour of the job and of the endpoint, and the seconds that `limits` allow the job for that."""
    price = run.backend.usd_per_hour("training_job") if reachable else None
    serving = run.backend.usd_per_hour("endpoint") if reachable else None
    return price, serving, job_limit(run.config, price, 0.0, run.reporter)


def _endpoint_checks(placement: Placement, report: Reporter) -> list[Check]:
    """Whether the model has room on the endpoint. GPUs that would do nothing stop no endpoint, and are warned of."""
    warn_of(placement.idle(), report)
    room = placement.memory()
    return [replace(room, stops_training=False)] if room else []


def _packs_checks(job: PlannedJob) -> list[Check]:
    idle = idle_processes(job.spec)
    return [Check("packs for each process", False, idle.message, idle.hint)] if idle else []


def _job_checks(estimate: Estimate, prepared: bool) -> list[Check]:
    """Whether the training fits; with nothing prepared, whether the hub gives us the model, which else was asked."""
    model = estimate.job.spec.model
    if prepared or model.path is not None:
        return checks(estimate) if prepared else []
    try:
        _, commit = tokenizer_identity(model)
        config = model_file(model, "config.json")  # a gated model's commit is public, and its files are not
    except ModelError as error:
        return [Check("model", False, error.message, error.hint, unknown=isinstance(error, HubOutageError))]
    if config is None:
        return [
            Check("model", False, f"{model.id} has no config.json", "set model.id to a full model: no adapter, no GGUF")
        ]
    return [Check("model", True, f"{model.id} at commit {commit}")]


def _speed(run: RunContext, job: PlannedJob, usd_per_hour: float | None, instance_type: str) -> Speed | None:
    return measured_speed(run.ledger, run.backend.name, job.spec.model.location, usd_per_hour, instance_type)


def _option(run: RunContext, estimate: Estimate, placement: Placement, name: str, reachable: bool) -> InstanceOption:
    """What the run would be on this instance type."""
    job, hardware, backend = estimate.job, estimate.hardware, run.backend
    price = backend.instance_usd_per_hour(name, "training_job") if reachable else None
    serving = backend.instance_usd_per_hour(name, "endpoint") if reachable else None
    hour = _times(price, run.config.sagemaker.instance_count)
    speed = None if hour is None else _speed(run, job, hour, name)
    seconds, overhead = seconds_of(job.work, speed), estimate.overhead_seconds(measured=speed is not None)
    return InstanceOption(
        instance_type=name,
        gpus=hardware.gpus(name),
        gpu_bytes=hardware.gpu_gib(name) << 30,
        host_bytes=hardware.ram_bytes(name),
        disk_bytes=hardware.disk_bytes(name, 0),
        trains=name in hardware.types,
        serves=name in hardware.endpoint_types,
        fits=None if estimate.memory(name) is None else not estimate.refusal(name),
        short_of=estimate.refusal(name),
        endpoint_fits=placement.fits(name),
        usd_per_hour=hour,
        training_seconds=seconds,
        overhead_seconds=overhead,
        usd=None if seconds is None else _times(hour, (seconds + overhead) / 3600),
        endpoint_usd_per_hour=serving,
        endpoint_usd_per_day=_times(serving, 24),
        endpoint_usd_in_30_days=_times(serving, 24 * 30),
        band=None if seconds else estimate.band(name),
    )


def _times(value: float | None, factor: float | None) -> float | None:
    """Their product; None where one of them is not known."""
    return None if value is None or factor is None else value * factor
