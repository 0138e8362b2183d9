"""What a training job costs, takes and needs, before it is started: shown to the user, and held to `limits`."""

from dataclasses import dataclass

from lorasum.errors import LorasumError
from lorasum.formatting import counted, duration
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import TrainingJob
from lorasum.lifecycle.costs import job_note
from lorasum.lifecycle.estimate import Estimate, fitted
from lorasum.lifecycle.limits import job_limit, job_most_usd, refuse_unknown_cost, stopped_after
from lorasum.lifecycle.lookup import FoundJob
from lorasum.lifecycle.planning import PlannedJob
from lorasum.lifecycle.training_time import Speed, measured_speed, seconds_of
from lorasum.models.hub import is_commit
from lorasum.reporting import Reporter
from lorasum.results.training import TimeBand


@dataclass(frozen=True, slots=True)
class Quote:
    """A job's price, time and memory.

    Attributes:
        usd_per_hour: of all its instances; None if that is unknown.
        limit: seconds after which `limits` stop it; None if they do not.
        speed: what an earlier job has measured; None if none has.
        estimate: of memory, and of time by arithmetic.
    """

    job: PlannedJob
    usd_per_hour: float | None
    limit: int | None
    speed: Speed | None
    estimate: Estimate

    @property
    def seconds(self) -> float | None:
        """At the measured speed; None if that is unknown."""
        return seconds_of(self.job.work, self.speed)

    @property
    def overhead(self) -> float:
        """Seconds that come on top, from the start of the container to the end of the upload."""
        return self.estimate.overhead_seconds(measured=self.speed is not None)

    def __str__(self) -> str:
        """The end of a line about the job."""
        config, price, limit = self.job.config, self.usd_per_hour, self.limit
        note = job_note(price, stopped_after(config, limit), job_most_usd(config, price, limit))
        return f"{note}{self._time()}{self._memory()}"

    def refuse_what_cannot_end(self, report: Reporter) -> None:
        """Refuse a job that would reach its limit before its end, even in the shortest time that arithmetic gives.

        Where only the estimate of what comes on top tells so, which is rough, warn of it.
        """
        needed, speed, band = self.seconds, self.speed, self._band()
        reason = f"at the {speed.tokens_per_second:,.0f} tokens/s of job {speed.source}" if speed else ""
        if needed is None and band:
            peak = f"{band.peak_operations_per_second / 1e12:.3g} TFLOP/s"
            needed, reason = band.shortest_seconds, f"at {band.shares[1]:.0%} of {peak}"
        if self.limit is None or needed is None or needed + self.overhead <= self.limit:
            return
        takes, allowed = f"{needed / 3600:.2g} h for its steps {reason}", f"limits allow {self.limit / 3600:.2g} h"
        if needed > self.limit:
            hint = "raise limits.max_usd or limits.max_hours, or train for fewer epochs"
            raise LorasumError(f"this job needs {takes}, and {allowed}", hint)
        report.warn(
            f"this job needs {takes} and about {duration(self.overhead)} to start and end, and {allowed}: "
            "it may be stopped before it leaves a model, with its steps paid for"
        )

    def _band(self) -> TimeBand | None:
        return self.estimate.band(self.job.hardware.tightest)

    def _time(self) -> str:
        work, seconds, band = self.job.work, self.seconds, self._band()
        if work is None:
            return self._of_a_merge()
        done = f": {counted(work.steps, 'step')}, {counted(work.tokens, 'token')}"
        if seconds is not None and self.speed:
            amount = "less than a minute" if seconds < 60 else f"about {seconds / 60:,.0f} min"
            time = f"{amount} by the speed of job {self.speed.source}"
        elif band:
            time = f"{band.shortest_seconds / 60:,.0f} to {band.longest_seconds / 60:,.0f} min by arithmetic"
        else:
            nobody_asked = self.estimate.needs is None and not self.estimate.unknown
            hint = "; `lorasum plan` estimates it" if nobody_asked else ""
            return f"{done}, time unknown, as no earlier job has measured it{hint}"
        more = f", and about {duration(self.overhead)} to start and end" if self.overhead else ""
        return f"{done}, {time}{more}"

    def _of_a_merge(self) -> str:
        done, model = self.job.spec.checkpoints, self.job.spec.model
        if not done:
            return ""
        seconds = self.estimate.overhead_seconds(measured=False)
        time = f", in about {duration(seconds)}" if seconds else ""
        base = "" if model.path or is_commit(model.revision) else f"; onto {model.id} as it is now: no commit pins it"
        return f": it merges what job {done} has trained, and repeats no step{time}{base}"

    def _memory(self) -> str:
        """What the job needs of its instance, or why that is not known; empty where nobody has asked."""
        name = self.job.hardware.tightest
        memory, why = self.estimate.memory(name), self.estimate.unknown
        if memory is None:
            return f"; memory not estimated: {why}" if why else ""
        needed, free = memory.memory_bytes / 2**30, memory.memory_free_bytes / 2**30
        shared = f", and {memory.shared_bytes / 2**30:.1f} GiB of its main memory" if memory.shared_bytes else ""
        return f"; {needed:.1f} of {free:.1f} GiB of {name}{shared}"


def quote(ledger: Ledger, found: FoundJob, row: TrainingJob, report: Reporter) -> Quote:
    """What starting a job, or its next attempt, comes to.

    Args:
        row: what the ledger is to be told of it.

    Raises:
        LorasumError: `limits` end it too early to be worth its cost or cannot be kept, or it does not fit its instance.
    """
    job = found.job
    refuse_unknown_cost(job.config.limits, row.usd_per_hour, row.usd_before)
    limit = job_limit(job.config, row.usd_per_hour, row.usd_before, report)
    speed = measured_speed(ledger, row.backend, row.origin.model, row.usd_per_hour, row.instance_type)
    quoted = Quote(job, row.usd_per_hour, limit, speed, fitted(job, report))
    if found.ref is None:  # a later attempt goes on from a checkpoint: nobody knows how much is left
        quoted.refuse_what_cannot_end(report)
    return quoted
