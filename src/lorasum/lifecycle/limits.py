"""The config's `limits`, turned into the job's own time limit and the endpoint's own end.

So they hold when nobody watches: SageMaker stops the job, and the endpoint ends by itself. A ceiling in USD becomes a
time by the price on demand, which is the most that an instance costs.
"""

from datetime import datetime, timedelta
from typing import Final

from lorasum.config.schema import Config, LimitsConfig
from lorasum.errors import LorasumError
from lorasum.reporting import Reporter

_UNKNOWN = "limits.max_usd cannot be kept, because the price is unknown; only limits.max_hours holds"
SHORTEST_JOB: Final = 60.0
"""Seconds: a shorter job is not worth starting."""
_ENDING: Final = 180.0
"""Seconds that are billed after SageMaker has told a job to stop: two minutes until it is killed, and the upload."""


def paid_after(config: Config) -> float:
    """Seconds that a job of this config is billed for at most after its limit, those of a warm instance included."""
    return _ENDING + 60.0 * config.sagemaker.keep_alive_minutes if config.backend == "sagemaker" else 0.0


def stopped_after(config: Config, limit: int | None) -> int | None:
    """Seconds after which a job of this config is stopped, by `limits` or by SageMaker; None if nothing stops it.

    Args:
        limit: seconds that `limits` allow it.
    """
    if config.backend != "sagemaker":
        return limit
    longest = round(config.sagemaker.max_runtime_hours * 3600)
    return longest if limit is None else min(limit, longest)


def job_most_usd(config: Config, usd_per_hour: float | None, limit: int | None) -> float | None:
    """What a job of this config costs at most, and its end with it; None if nothing stops it or its price is unknown.

    Args:
        limit: as of `stopped_after`.
    """
    seconds = stopped_after(config, limit)
    return None if seconds is None or usd_per_hour is None else usd_per_hour * (seconds + paid_after(config)) / 3600


def refuse_unknown_cost(limits: LimitsConfig, usd_per_hour: float | None, spent: float | None = 0.0) -> None:
    """Refuse to start what only `max_usd` would end, if its price, or what it has cost so far, is unknown.

    Raises:
        LorasumError: it would have no end.
    """
    if limits.max_usd is not None and limits.max_hours is None and None in (usd_per_hour, spent):
        unknown = "the price" if usd_per_hour is None else "the cost of its earlier attempts"
        raise LorasumError(
            f"limits.max_usd cannot be kept, because {unknown} is unknown",
            "set limits.max_hours, which needs no price, or allow pricing:GetProducts",
        )


def job_limit(config: Config, usd_per_hour: float | None, spent: float | None, report: Reporter) -> int | None:
    """Seconds that the config's job may run; None if nothing limits it but its backend.

    Args:
        spent: USD that earlier attempts of the job were billed; None if that is unknown.

    Raises:
        LorasumError: nothing is left of `max_usd`.
    """
    limits = config.limits
    allowed = [] if limits.max_hours is None else [limits.max_hours * 3600]
    most = limits.max_usd
    if most is not None and (usd_per_hour is None or spent is None):
        report.warn(_UNKNOWN)
    elif most is not None and usd_per_hour and spent is not None:
        left = (most - spent) / usd_per_hour * 3600 - paid_after(config)
        if left < SHORTEST_JOB:
            earlier = f", after ${spent:,.2f} for its earlier attempts" if spent else ""
            raise LorasumError(
                f"limits.max_usd is ${most:,.2f}, and pays for {max(left, 0):.0f} s of this job at "
                f"${usd_per_hour:,.2f} an hour{earlier}",
                "raise limits.max_usd, or choose a cheaper instance",
            )
        allowed.append(left)
    return int(min(allowed)) if allowed else None


def with_ceiling(config: Config, usd: float | None) -> Config:
    """The config with a ceiling of its own for its job, unless it has a lower one."""
    if usd is None:
        return config
    most = usd if config.limits.max_usd is None else min(usd, config.limits.max_usd)
    return config.model_copy(update={"limits": config.limits.model_copy(update={"max_usd": most})})


def endpoint_end(
    limits: LimitsConfig, began: datetime, usd_per_hour: float | None, instances: int, report: Reporter
) -> datetime | None:
    """When an endpoint has reached the limits; None if there are none.

    Args:
        began: when its cost began. instances: how many it may grow to.

    Raises:
        LorasumError: only `max_usd` limits it, and its price is unknown.
    """
    refuse_unknown_cost(limits, usd_per_hour)
    hours = [] if limits.max_hours is None else [limits.max_hours]
    if limits.max_usd is not None and usd_per_hour is None:
        report.warn(_UNKNOWN)
    elif limits.max_usd is not None and usd_per_hour:
        hours.append(limits.max_usd / usd_per_hour / instances)
    return began + timedelta(hours=min(hours)) if hours else None
