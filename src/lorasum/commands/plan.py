"""Plan: what a run would take and cost, and whether it can start. Nothing is created, and nothing is guessed."""

from lorasum.backends.records import Check
from lorasum.context import RunContext
from lorasum.lifecycle.estimates import Workload, measured_speed, seconds_of
from lorasum.lifecycle.memory import fit, memory_of
from lorasum.lifecycle.planning import example_job, idle_processes, planned_job
from lorasum.reporting import Silent
from lorasum.resources import Dataset
from lorasum.results import PlanResult


def plan(run: RunContext) -> PlanResult:
    """The training's work, time and price, the endpoint's price, and what the backend says of its start.

    Raises:
        LorasumError: what is prepared does not fit the config; limits.max_usd is too low for any of it.
    """
    prepared = run.ledger.latest(Dataset, run.name, "done")
    job = planned_job(run.config, run.ledger, Silent()) if prepared else example_job(run.config)
    checks = tuple(run.backend.preflight(run.name, run.config.training.report_to))
    memory = memory_of(run.config, job.spec) if prepared else None
    if memory:
        checks += (fit(run.config, memory),)
    if idle := idle_processes(job.spec):
        checks += (Check("packs for each process", False, idle.message, idle.hint),)
    reachable = all(check.ok for check in checks[:1])
    price = run.backend.usd_per_hour("training_job") if reachable else None
    serving = run.backend.usd_per_hour("endpoint") if reachable else None
    speed = measured_speed(run.ledger, run.backend.name, job.origin.model or job.spec.model.location, price)
    work = job.work or Workload()
    longest = job.ceiling.seconds(price, 0.0, run.reporter)
    if run.backend.name == "sagemaker":
        most = round(run.config.sagemaker.max_runtime_hours * 3600)
        longest = most if longest is None else min(longest, most)
    return PlanResult(
        run=run.name,
        job=job.spec.job_name,
        prepared=prepared is not None,
        packs=work.packs,
        steps=work.steps,
        tokens=work.tokens,
        seconds=seconds_of(work, speed),
        seconds_from=speed.source if speed else "",
        usd_per_hour=price,
        longest_seconds=longest,
        endpoint_usd_per_hour=serving,
        checks=checks,
        memory=memory if memory and memory.card >= 0 else None,
    )
