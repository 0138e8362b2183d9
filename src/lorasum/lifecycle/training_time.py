"""How much work a training is, and how long it takes: at the speed of an earlier job, or else by arithmetic, as a band.

    seconds = tokens * operations a token / (peak operations a second * share of the peak that a training reaches)

The shares of a GPU's peak come from what others measured, counted as here. AWS's and Hugging Face's own BLOOMZ-7B1 job
reached 23% of an A10G's in 2023 (20,632 s for about 8.5 million tokens), torchtune's LoRA of Llama 3.1 8B 56% or
more of an RTX 4090's (3,083 tokens/s). This machine's peak is measured, in large products (engine/operations.py): a
training of BLOOM's shapes in float32 reached 70% of it, one of SmolLM2-135M in bf16 with an int8 base a third.
"""

from dataclasses import dataclass

from lorasum.config.schema import TrainingConfig
from lorasum.data.records import SplitStats
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import TrainingJob
from lorasum.results.training import TimeBand
from lorasum.shared.events import DoneEvent
from lorasum.shared.steps import count_steps

_OF_DATA_SHEET = (0.2, 0.65)
_OF_MEASURED = (0.25, 0.85)
_BYTES_A_SECOND = 250e6  # that a disk or a network passes: an assumption, a g5's own disk is faster
_SHORTEST_STEP = 0.02  # seconds at the peak: what a shorter step takes is decided by launching its hundreds of products


@dataclass(frozen=True, slots=True)
class Workload:
    """What a training goes through.

    Attributes:
        steps: optimizer steps of the whole training.
        tokens: that all steps see; three epochs see each token three times.
        evaluations: passes over the test split.
    """

    packs: int = 0
    steps: int = 0
    tokens: int = 0
    evaluations: int = 0

    @classmethod
    def of(cls, split: SplitStats, training: TrainingConfig) -> "Workload":
        """The work of training on a split."""
        at_once = 1 if training.per_device_batch_size == "auto" else training.per_device_batch_size
        per_step = at_once * training.gradient_accumulation_steps
        per_epoch = -(-split.packs // per_step)
        steps = count_steps(split.packs, per_step, training.epochs, training.max_steps or 0)
        evaluations = -(-steps // (training.evaluate_every or max(per_epoch, 1)))  # the last step has one in any case
        return cls(split.packs, steps, round(split.tokens * steps / per_epoch) if per_epoch else 0, evaluations)


@dataclass(frozen=True, slots=True)
class Speed:
    """What a completed job measured, and which one that was."""

    tokens_per_second: float
    """Of the steps alone."""
    source: str
    """The job's name."""
    evaluation_seconds: float = 0.0
    """Of one pass over the test split."""
    other_seconds: float = 0.0
    """Of all but steps and passes: loading, trying out, saving and merging."""

    @classmethod
    def of(cls, figures: DoneEvent, source: str) -> "Speed":
        """The speed that a job has measured. Its own tokens per second are those of steps and passes together."""
        both = figures.tokens / figures.tokens_per_second
        steps = max(both - figures.evaluation_seconds, 1e-9)
        return cls(
            figures.tokens / steps if figures.tokens else figures.tokens_per_second,
            source,
            figures.evaluation_seconds / max(figures.evaluations, 1),
            max(figures.seconds - both - figures.generation_seconds, 0.0) if figures.evaluations else 0.0,
        )


def seconds_of(work: Workload | None, speed: Speed | None) -> float | None:
    """How long a training takes at a measured speed; None where one of them is not known.

    Left out is what depends on more: the time until an instance runs, what `overhead_seconds` adds, summaries.
    """
    if not (work and work.tokens and speed):
        return None
    return work.tokens / speed.tokens_per_second + work.evaluations * speed.evaluation_seconds + speed.other_seconds


def overhead_seconds(base_bytes: int, merged_bytes: int, measured: bool) -> float:
    """Seconds that a job on SageMaker is paid for besides its steps and evaluations; a rough estimate.

        120 s + 2 * (bytes of the base model + bytes of the merged model) / 250 MB/s

    The 120 s install and import packages and try the model out. The base model is downloaded and loaded, the merged one
    written and uploaded; what is read again for the check is in main memory by then. What a job has `measured` includes
    all of this but the installation and the upload:

        60 s + bytes of the merged model / 250 MB/s
    """
    if measured:
        return 60 + merged_bytes / _BYTES_A_SECOND
    return 120 + 2 * (base_bytes + merged_bytes) / _BYTES_A_SECOND


def band_of(work: Workload | None, operations_per_token: float, peak: float, measured: bool) -> TimeBand | None:
    """The time that a training's steps take by arithmetic; None where a part is unknown, or a step too short for it.

    Args:
        peak: operations a second of the device, or of all devices that share a step.
        measured: whether `peak` was measured in products rather than taken from a data sheet.
    """
    if not (work and work.tokens and operations_per_token and peak):
        return None
    operations, shares = work.tokens * operations_per_token, _OF_MEASURED if measured else _OF_DATA_SHEET
    if operations / work.steps < _SHORTEST_STEP * peak:
        return None
    return TimeBand(operations / peak / shares[1], operations / peak / shares[0], operations, peak, shares)


def measured_speed(
    ledger: Ledger, backend: str, model: str, usd_per_hour: float | None, instance_type: str
) -> Speed | None:
    """The speed of the newest completed job of this model on this backend; None where there is none.

    Args:
        usd_per_hour: of all instances. A job at another price ran on another type or number of instances.
        instance_type: empty on this machine, and where a job may get one of several.
    """
    rows = [
        row
        for row in ledger.rows(TrainingJob)
        if (row.state, row.backend, row.origin.model, row.usd_per_hour) == ("done", backend, model, usd_per_hour)
        and (not instance_type or row.instance_type in ("", instance_type))
        and row.figures.tokens_per_second > 0
    ]
    return Speed.of(rows[-1].figures, rows[-1].name) if rows else None
