"""The events of a job, one JSON object a line of its log and of metrics.jsonl."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .json_records import from_values, read_object, six_digits, to_values


@dataclass(frozen=True, slots=True)
class StartEvent:
    """The training plan, told once everything is loaded and before the first step. Sizes in bytes."""

    device: str
    compute_dtype: str
    dtype_reason: str
    quantization: str
    parameters: int
    trainable_parameters: int
    lora_targets: tuple[str, ...]
    packs: int
    tokens: int
    tokens_per_step: int
    steps: int
    epochs: float
    """How often the steps see the dataset."""
    loss_on: str
    packs_at_once: int
    layers: int
    recomputed_layers: int
    memory_bytes: int
    memory_parts: Mapping[str, int]
    memory_free_bytes: int
    resumed_from_step: int
    quantized_layers: int
    """Linear layers of the base that hold int8 or 4-bit codes. Experts in one parameter count as one."""
    whole_layers: int
    """Linear layers, as above, that hold their weights in the compute type; the head is one."""
    one_example_at_a_time: bool
    """Whether each example has a forward pass of its own: right for every architecture, and slower."""
    not_the_fastest_because: str
    """Why the loss is not computed by the fastest way; empty if it is."""
    processes: int = 1
    """Processes that train together, each on a device of its own."""
    shared_bytes: int = 0
    """Of the base model, those that lie once in each machine's main memory, for all its processes; 0: each has all."""
    remade_modules: int = 0
    """Norms and gated layers that keep less, because the backward pass makes their values again."""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """Progress after an optimizer step, or some answered rows of a batch. A loss that is not a finite number travels as
    None, and so does a time left that is not known yet."""

    step: int
    steps: int
    epoch: float
    loss: float | None
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class EvalEvent:
    """An evaluation after `step` steps.

    Attributes:
        eval_loss: on the test split.
        score: of the summaries that the model generated of test dialogues, 0 to 100; None if it was not asked to.
        scored_by: the name of that score, such as `rougeL`.
        generation_seconds: what generating and scoring them took.
    """

    step: int
    eval_loss: float | None
    score: float | None = None
    scored_by: str = ""
    generation_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SavedEvent:
    """The adapter is on disk, in `path` below the artifact's folder."""

    path: str


@dataclass(frozen=True, slots=True)
class MergedEvent:
    """The merged model is on disk."""

    shards: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BaseEvent:
    """The base model has summarised the first test dialogues: `summaries` of `dialogues`."""

    summaries: int
    dialogues: int
    seconds: float
    why_not_all: str
    """Empty if it has summarised all of them."""


MERGE_LEFT_OUT: Final = "the merge was left out"
"""`DoneEvent.not_merged` where nobody had asked for a merged model: a later job can make it, without a step."""


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The job's figures. The artifact's record holds them too.

    Attributes:
        eval_loss, score: with the weights that the artifact has; as in `EvalEvent`.
        kept_step: the step of these weights.
        kept_because: why it is this step, such as `highest rougeL of 3 evaluations`.
        tokens: of all steps, those of earlier attempts too.
        tokens_per_second: of training and test loss, without the time of generating, since this attempt began; 0 if no
            step was left.
        seconds: of the whole job.
        generation_seconds: what generating and scoring summaries took of that.
        evaluation_seconds: what computing the test loss took, in `evaluations` evaluations.
        not_merged: why the artifact has the adapter alone; empty if it has the merged model too.
        peak_memory_bytes: most that was held at once: of the GPU's memory by PyTorch, free pieces of it too, or
            else of the machine's by the process.
    """

    train_loss: float | None
    eval_loss: float | None
    tokens: int
    tokens_per_second: float
    seconds: float
    kept_step: int = 0
    kept_because: str = ""
    score: float | None = None
    scored_by: str = ""
    generation_seconds: float = 0.0
    peak_memory_bytes: int = 0
    evaluation_seconds: float = 0.0
    evaluations: int = 0
    not_merged: str = ""


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """A sign of life between the other events: `done` of `total` parts of a work, such as "test loss"."""

    what: str
    done: int
    total: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """Something is odd, and the job goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """From the platform, not from the script: its word for what the job is doing, and what it has billed so far."""

    status: str
    billable_seconds: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class LogEvent:
    """From the platform, not from the script: any other line of the job's log."""

    line: str


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a kind that this version does not know."""

    kind: str
    values: Mapping[str, Any]


Event = (
    StartEvent
    | StepEvent
    | EvalEvent
    | SavedEvent
    | MergedEvent
    | BaseEvent
    | DoneEvent
    | ProgressEvent
    | WarningEvent
    | StatusEvent
    | LogEvent
    | UnknownEvent
)

_EVENT: Final = "event"
_EVENTS: Final[Mapping[str, type[Any]]] = {
    "start": StartEvent,
    "step": StepEvent,
    "eval": EvalEvent,
    "saved": SavedEvent,
    "merged": MergedEvent,
    "base": BaseEvent,
    "done": DoneEvent,
    "progress": ProgressEvent,
    "warning": WarningEvent,
    "status": StatusEvent,
    "log": LogEvent,
}
_KINDS: Final = {record: kind for kind, record in _EVENTS.items()}


def event_line(event: Event) -> str:
    """The event as one JSON object, key `event` first, without a line break. Floats have six digits.

    Raises:
        TypeError: a field holds a value of another type.
    """
    if isinstance(event, UnknownEvent):
        return json.dumps({_EVENT: event.kind, **event.values})
    return json.dumps({_EVENT: _KINDS[type(event)], **to_values(event, six_digits)})


def read_event(line: str | bytes) -> Event | None:
    """The event of one line of a job's metrics or log; None for any other line, or for half of one."""
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    if not text.lstrip().startswith("{"):
        return None
    try:
        values = read_object(text)
    except ValueError:
        return None
    kind = values.pop(_EVENT, None)
    if not isinstance(kind, str):
        return None
    record = _EVENTS.get(kind)
    event: Event = from_values(record, values) if record else UnknownEvent(kind, values)
    return event
