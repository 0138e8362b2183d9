"""What the client and its containers say to each other. Every name that both must know is spelt here, and only here.

The container imports this file as `contract`, and the client imports the same file as `lorasum.contract`. It needs the
standard library only, because start.py reads it before anything is installed.

Writing is strict: a record cannot be made without all of its fields, and a value of another type raises TypeError.
Reading is lenient, because the other side may be older or newer: unknown keys are ignored, and a key that is
missing or holds another type gives an empty value (0, "", None). An event of an unknown kind becomes an `UnknownEvent`.
"""

import json
import math
import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, get_args

# The prepared dataset: one row is one pack.
INPUT_IDS: Final = "input_ids"
"""The tokens of all examples of the pack, one example after another."""
EXAMPLE_LENGTHS: Final = "example_lengths"
"""Tokens of each example, in order; they sum to the length of `input_ids`."""
PROMPT_LENGTHS: Final = "prompt_lengths"
"""Tokens of each example that stand before its completion."""
COLUMNS: Final = (INPUT_IDS, EXAMPLE_LENGTHS, PROMPT_LENGTHS)

# Files.
MANIFEST_FILE: Final = "manifest.json"
"""In the dataset's folder: what the dataset is. Written last."""
TEST_FILE: Final = "test.jsonl"
"""In the dataset's folder: the test examples as text, a `HeldOutExample` a line."""
RECORD_FILE: Final = "lorasum.json"
"""In an artifact's folder, and in that of its adapter: an `ArtifactRecord`. Written last."""
BASE_SUMMARIES_FILE: Final = "base_summaries.json"
"""In an artifact's folder: a `BaseSummaries`. A job without time for it has none."""
FAILURE_FILE: Final = "failure"
"""In the output folder: why the job failed, as `failure_text` writes it."""
METRICS_FILE: Final = "metrics.jsonl"
"""In the output data folder: the job's events, one a line."""
ADAPTER_FOLDER: Final = "adapter"
"""In an artifact's folder: the adapter alone, which serves itself on its base model."""
CODE_FOLDER: Final = "code"
"""In an artifact's folder: what serves it."""
ANSWERS_FOLDER: Final = "answers"
"""In a batch job's artifact: its answers, in files of the names of the files of prompts."""
TENSORBOARD_FOLDER: Final = "tensorboard"
"""In the output folder: the event files of TensorBoard, which SageMaker copies to S3 while the job runs."""

# Channels: folders below /opt/ml/input/data.
CHANNEL_TRAINING: Final = "training"
CHANNEL_MODEL: Final = "model"
CHANNEL_CODE: Final = "code"
CHANNEL_WHEELS: Final = "wheels"
"""The pinned packages as wheels, for a container without network."""

# Environment variables.
SM_CHANNEL_TRAINING: Final = "SM_CHANNEL_TRAINING"
SM_CHANNEL_MODEL: Final = "SM_CHANNEL_MODEL"
SM_MODEL_DIR: Final = "SM_MODEL_DIR"
SM_OUTPUT_DIR: Final = "SM_OUTPUT_DIR"
SM_OUTPUT_DATA_DIR: Final = "SM_OUTPUT_DATA_DIR"
SM_HOSTS: Final = "SM_HOSTS"
"""The machines of the job, a JSON list of their names."""
SM_CURRENT_HOST: Final = "SM_CURRENT_HOST"
"""The name of this machine."""
PROGRAM: Final = "LORASUM_PROGRAM"
"""The container script that start.py becomes; default: train.py."""
HUB_TOKEN_ARN: Final = "LORASUM_HUB_TOKEN_ARN"  # noqa: S105  the name of a variable
"""ARN of the secret that holds the hub's token."""
BASE_MODEL: Final = "LORASUM_BASE_MODEL"
"""Folder, or hub id with an optional @revision, of the model to serve instead of the artifact's own."""
ADAPTERS: Final = "LORASUM_ADAPTERS"
"""The adapters that are served on `BASE_MODEL`, a JSON object: name → folder. A request that names none gets the first.
"""
EXPECT_GPU: Final = "LORASUM_EXPECT_GPU"
"""1 on an instance type with a GPU: a container that cannot use one ends at once."""
NO_NETWORK: Final = "LORASUM_NO_NETWORK"
"""1 where the container has no network: pip must not ask for it."""
MAX_SECONDS: Final = "LORASUM_MAX_SECONDS"
"""How long the training job may take. Where no service ends it then, it ends itself."""
BASE_AS_TRAINED: Final = "LORASUM_BASE_AS_TRAINED"
"""1 where the base model is asked with the prompt of the training, although it has a chat format of its own."""
BASE_SECONDS: Final = "LORASUM_BASE_SECONDS"
"""How long the training job may let the base model summarise test dialogues at its end."""
REPORT_TO: Final = "LORASUM_REPORT_TO"
"""Names of the trackers that get the job's figures, with commas between them."""
TRACKER_KEYS_ARN: Final = "LORASUM_TRACKER_KEYS_ARN"
"""ARN of the secret that holds the trackers' keys."""
PROCESSES: Final = "LORASUM_PROCESSES"
"""How many training processes to start on this machine; 1 if it is not set."""
GPU_BYTES: Final = "LORASUM_GPU_BYTES"
"""Free bytes of the GPUs that memory_plan.py is to plan for, as a JSON list."""
RENDEZVOUS: Final = "LORASUM_RENDEZVOUS"
"""Where the processes of one machine find each other: a URL that torch.distributed takes, such as file:///tmp/x."""
LAUNCHED: Final = "LORASUM_LAUNCHED"
"""1 for a training process whose standard input ends when the process that started it does."""
HUB_CACHE: Final = "/tmp/huggingface"  # noqa: S108
"""Value of HF_HOME in a container on SageMaker: downloads go to the volume, because the image's root is small."""

# Serving.
_SERVING_MODULES: Final = (
    "adapters base_look batching blocked caches container_limits contract generation gpu hub_token inference "
    "lora_targets prefix request roomy rotary rows scheduling served_experts sharing thin"
)
SERVING_FILES: Final[Mapping[str, str]] = {
    **{f"{name}.py": f"{name}.py" for name in _SERVING_MODULES.split()},
    "requirements.txt": "requirements-serve.txt",
}
"""What the code folder of an artifact, or of a base model, holds: name there → name among the container scripts."""
# Prompts.
PLACEHOLDER: Final = "{dialogue}"
"""Where the dialogue goes in a prompt template."""

# Requests to an endpoint.
MAX_PROMPTS: Final = 64
"""Most texts of one request."""
MAX_NEW_TOKENS: Final = 1024
"""Longest summary that can be asked for, tokens."""
MAX_BODY: Final = 6_291_456
"""Longest request, bytes: SageMaker's limit."""
_REFUSED: Final = "refused: "


def folders_of(root: Path) -> dict[str, str]:
    """The variables that name a job's folders below `root`, which is /opt/ml in a container."""
    data, output = root / "input" / "data", root / "output"
    folders = {
        SM_CHANNEL_TRAINING: data / CHANNEL_TRAINING,
        SM_MODEL_DIR: root / "model",
        SM_OUTPUT_DIR: output,
        SM_OUTPUT_DATA_DIR: output / "data",
    }
    if (model := data / CHANNEL_MODEL).is_dir():
        folders[SM_CHANNEL_MODEL] = model
    return {name: str(folder) for name, folder in folders.items()}


def refusal_text(reason: str) -> str:
    """What a handler says of a request that cannot be answered as it is.

    The container's model server answers every exception with HTTP 400. The mark at the beginning tells a refusal, which
    is about this request only, from a fault of the server.
    """
    return _REFUSED + reason


def read_refusal(text: str) -> str | None:
    """The reason of a refusal; None if the text of an HTTP 400 is about a fault."""
    return text.removeprefix(_REFUSED) if text.startswith(_REFUSED) else None


def fill_template(template: str, dialogue: str, control_tokens: Sequence[str] = ()) -> str:
    """The prompt: `template` with its one placeholder replaced by `dialogue`, as `plain_text` makes it.

    A plain replacement, not str.format: braces in a dialogue or in the rest of the template stay as they are.
    """
    before, _, after = template.partition(PLACEHOLDER)
    return before + plain_text(dialogue.strip(), control_tokens) + after


def plain_text(text: str, control_tokens: Sequence[str]) -> str:
    """`text` without anything that a tokenizer takes for a control token: people write "</s>" and "<|im_end|>" too.

    A space behind the first character is enough: "< /s>" is read as text. Training, and every server, does the same.
    """
    if not control_tokens or not any(token[0] in text for token in control_tokens):
        return text
    for token in control_tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def without_bos(tokenizer: Any, prompt: str) -> str:
    """A rendered chat without its BOS token, if `tokenizer` puts one before every text: there would be two."""
    adds_bos = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return prompt.removeprefix(tokenizer.bos_token) if adds_bos else prompt


def end_last_line(file: Path) -> None:
    """Remove the incomplete last line of a file, which a killed process has left. There may be no file."""
    if file.exists() and (size := file.stat().st_size):
        with file.open("rb") as kept, mmap.mmap(kept.fileno(), 0, access=mmap.ACCESS_READ) as content:
            whole = content.rfind(b"\n") + 1
        if whole < size:
            os.truncate(file, whole)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of a training on one GPU, or on this machine. Sizes in bytes, as in StartEvent.

    Attributes:
        refusal: why it does not fit, and what to do, a line each; empty if it does. Then the sizes are known.
        shared_bytes: as in StartEvent.
    """

    memory_bytes: int
    memory_parts: Mapping[str, int]
    memory_free_bytes: int
    recomputed_layers: int
    layers: int
    packs_at_once: int
    refusal: str = ""
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What memory_plan.py tells of a training before anything is started. Sizes in bytes.

    Attributes:
        plans: the memory on each GPU that was asked about, in their order; without any, on this machine.
        process_bytes: main memory of each training process with its tensors on a GPU; 0 on a CPU: `plans` have it.
        merge_bytes: main memory that the merge of the largest weight takes.
        base_bytes: the base model's weights on the disk.
        merged_bytes: the merged model's.
        checkpoint_bytes: all checkpoints that are kept at once, and the adapter.
        step_operations: floating-point operations of a step for each token, if no layer is recomputed; 0: not known.
        forward_operations: of them, those that are done again if all layers are recomputed.
        peak: operations a second of large matrix products on this machine; 0 where GPUs were asked about.
        parameters: how many the base model has.
    """

    plans: tuple[MemoryPlan, ...]
    process_bytes: int
    merge_bytes: int
    base_bytes: int
    merged_bytes: int
    checkpoint_bytes: int
    step_operations: float = 0.0
    forward_operations: float = 0.0
    peak: float = 0.0
    parameters: int = 0


def read_needs(line: str) -> Needs:
    """What a line of memory_plan.py says.

    Raises:
        ValueError: the line is not a JSON object.
    """
    return _read(Needs, _object(line))


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
    """Progress after an optimizer step. A loss that is not a finite number travels as None."""

    step: int
    steps: int
    epoch: float
    loss: float | None
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float


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


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The job's figures. The artifact's record holds them too.

    Attributes:
        eval_loss, score: with the weights that the artifact has; as in `EvalEvent`.
        kept_step: the step of these weights.
        kept_because: why it is this step, such as `highest rougeL of 3 evaluations`.
        tokens_per_second: of training and test loss, without the time of generating.
        seconds: of the whole job.
        generation_seconds: what generating and scoring summaries took of that.
        evaluation_seconds: what computing the test loss took, in `evaluations` evaluations.
        peak_memory_bytes: most that was held at once: of the GPU's memory by tensors, or else of the machine's by the
            process.
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
    return json.dumps({_EVENT: _KINDS[type(event)], **_values(event, _six_digits)})


def read_event(line: str | bytes) -> Event | None:
    """The event of one line of a job's metrics or log; None for any other line, or for half of one."""
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    if not text.lstrip().startswith("{"):
        return None
    try:
        values = _object(text)
    except ValueError:
        return None
    kind = values.pop(_EVENT, None)
    if not isinstance(kind, str):
        return None
    record = _EVENTS.get(kind)
    event: Event = _read(record, values) if record else UnknownEvent(kind, values)
    return event


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file was when it was written. An empty sha256 means that it was not computed."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MergeCheck:
    """How far the merged model's logits are from others', on `prompts` prompts of the data.

    `prompts` is 0 where they were not compared. Each figure is the norm of the difference, divided by the norm of the
    adapter's logits. Each row of logits is taken without its mean.
    """

    prompts: int = 0
    from_adapter: float = 0.0
    """From those of the adapter on the base model."""
    from_base: float = 0.0
    """From those of the base model alone."""


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """lorasum.json: what an artifact is, and how it wants to be used."""

    format: int
    run: str
    base_model: str
    base_revision: str | None
    template: str | None
    """Prompt template with one {dialogue}."""
    eos_token_id: int | None
    """Token that ends a summary: the tokenizer's EOS, or the one that ends a turn of the model's chat format."""
    control_tokens: tuple[str, ...]
    """What the tokenizer takes for a control token, such as `</s>`; in a dialogue it is text."""
    dataset_fingerprint: str
    generation: Mapping[str, float]
    """Parameters of a request that gives none: max_new_tokens, temperature."""
    training: DoneEvent
    versions: Mapping[str, str]
    """Version of each library that made it."""
    merge_check: MergeCheck = MergeCheck()
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    """Every other file of the artifact, by its path below the artifact's folder."""


@dataclass(frozen=True, slots=True)
class BaseSummaries:
    """What the base model says of the first test dialogues, in source order."""

    generation: Mapping[str, float]
    """The parameters that it was asked with: max_new_tokens, temperature."""
    summaries: tuple[str, ...]
    template: str
    """The prompt that it was asked with."""


def base_summaries_text(summaries: BaseSummaries) -> str:
    """The content of base_summaries.json."""
    return json.dumps(_values(summaries), ensure_ascii=False)


def read_base_summaries(text: str | bytes) -> BaseSummaries:
    """What base_summaries.json says.

    Raises:
        ValueError: the text is not a JSON object.
    """
    return _read(BaseSummaries, _object(text))


ARTIFACT_FORMAT: Final = 1


def record_text(record: ArtifactRecord) -> str:
    """The content of lorasum.json.

    Raises:
        TypeError: a field holds a value of another type.
    """
    return json.dumps(_values(record), indent=2)


def read_record(text: str | bytes) -> ArtifactRecord:
    """What lorasum.json says.

    Raises:
        ValueError: the text is not a JSON object.
    """
    return _read(ArtifactRecord, _object(text))


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """What the training script needs to know of a split."""

    tokens: int


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What the training script needs to know of a dataset: a part of the client's manifest.json."""

    fingerprint: str
    template: str
    eos_token_id: int
    control_tokens: tuple[str, ...]
    splits: Mapping[str, SplitFacts]
    base_template: str = ""
    """The base model's own chat format, where `template` is another; empty otherwise."""

    def base_prompt(self, as_trained: bool) -> str:
        """The template that the base model is asked with: its own chat format, unless it is to be asked as trained."""
        return self.template if as_trained else self.base_template or self.template


def read_manifest(text: str | bytes) -> DatasetFacts:
    """What manifest.json says to the training script.

    Raises:
        ValueError: the text is not a JSON object.
    """
    return _read(DatasetFacts, _object(text))


@dataclass(frozen=True, slots=True)
class HeldOutExample:
    """A dialogue of the test split, with the summaries that people wrote of it."""

    dialogue: str
    summary: str
    other_references: tuple[str, ...] = ()


def read_held_out(line: str | bytes) -> HeldOutExample:
    """One line of test.jsonl.

    Raises:
        ValueError: it is not a JSON object.
    """
    return _read(HeldOutExample, _object(line))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: one line of what happened, and one of what to do, which may be empty."""

    message: str
    hint: str = ""


_HINT: Final = "\nhint: "
_FAILURE_LIMIT: Final = 1024  # characters of SageMaker's FailureReason, its own words included
_PLATFORM_PREFIX: Final = "AlgorithmError: "
_PLATFORM_SUFFIX: Final = re.compile(r", exit code: -?\d+\s*$")
_OURS: Final = _FAILURE_LIMIT - len(_PLATFORM_PREFIX) - len(", exit code: 255")


def failure_text(failure: Failure) -> str:
    """The content of the `failure` file. Where both lines together are too long, the message is cut for the hint."""
    message, hint = _one_line(failure.message), _one_line(failure.hint)
    end = (_HINT + hint)[: max(_OURS // 2, _OURS - len(message))] if hint else ""
    return message[: _OURS - len(end)] + end


def read_failure(text: str) -> Failure:
    """What a `failure` file says, or SageMaker's FailureReason, which puts words of its own around it."""
    ours = _PLATFORM_SUFFIX.sub("", text).removeprefix(_PLATFORM_PREFIX.rstrip())
    message, _, hint = ours.partition(_HINT)
    return Failure(_one_line(message), _one_line(hint))


def count_steps(packs: int, per_step: int, epochs: float, max_steps: int) -> int:
    """The optimizer steps of a training, each with `per_step` packs; `max_steps` of 0 leaves it to `epochs`."""
    return max_steps or max(round(epochs * -(-packs // per_step)), 1)


def too_few_packs(at_once: int, passes: int, processes: int) -> Failure | None:
    """What is wrong if an optimizer step has fewer packs than processes that share it; None if it has enough."""
    packs = at_once * passes
    if packs >= processes:
        return None
    return Failure(
        f"an optimizer step has {packs} pack{'s' if packs > 1 else ''} for {processes} processes",
        f"set training.gradient_accumulation_steps to {-(-processes // at_once)} or more, which changes what is "
        "learnt; or train with fewer processes: each GPU has one",
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


Record = TypeVar("Record")


class _Kind(NamedTuple):
    """How values of one field type are checked and read."""

    fits: Callable[[Any], bool]
    read: Callable[[Any], Any]
    empty: Any


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or isinstance(value, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(map(_is_text, value))


def _maps_to(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(_is_text, value)) and all(map(fits, value.values()))


def _optional(kind: _Kind) -> _Kind:
    return _Kind(lambda value: value is None or kind.fits(value), lambda v: None if v is None else kind.read(v), None)


def _records(record: type[Any]) -> _Kind:
    """Names and records: JSON objects where they are read."""
    return _Kind(
        _maps_to(lambda value: isinstance(value, Mapping | record)),
        lambda found: {name: _read(record, values) for name, values in found.items()},
        {},
    )


_INT = _Kind(_is_int, int, 0)
_FLOAT = _Kind(_is_number, float, 0.0)
_TEXT = _Kind(_is_text, str, "")
_TYPES: Final[Mapping[Any, _Kind]] = {
    bool: _Kind(lambda value: isinstance(value, bool), bool, False),
    int: _INT,
    float: _FLOAT,
    str: _TEXT,
    int | None: _optional(_INT),
    float | None: _optional(_FLOAT),
    str | None: _optional(_TEXT),
    tuple[str, ...]: _Kind(_are_texts, tuple, ()),
    tuple[MemoryPlan, ...]: _Kind(
        lambda value: isinstance(value, list), lambda found: tuple(_read(MemoryPlan, one) for one in found), ()
    ),
    Mapping[str, int]: _Kind(_maps_to(_is_int), dict, {}),
    Mapping[str, float]: _Kind(_maps_to(_is_number), dict, {}),
    Mapping[str, str]: _Kind(_maps_to(_is_text), dict, {}),
}


def _kind(type_: Any) -> _Kind:
    """How values of a type are checked and read. `Mapping[str, FileFacts]` has records by their names."""
    return _TYPES.get(type_) or _records(get_args(type_)[1])


def _object(text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: the text is not one, or it is nested too deep.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def _read(record: type[Record], values: Any) -> Record:
    given = values if isinstance(values, Mapping) else {}
    return record(**{one.name: _field(one.type, given.get(one.name)) for one in fields(record)})  # type: ignore[arg-type]


def _field(type_: Any, value: Any) -> Any:
    if is_dataclass(type_):
        return _read(type_, value)  # type: ignore[arg-type]
    kind = _kind(type_)
    return kind.read(value) if kind.fits(value) else kind.empty


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _six_digits(value: Any) -> Any:
    value = _finite(value)
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _values(record: Any, written: Callable[[Any], Any] = _finite) -> dict[str, Any]:
    """A record's fields as JSON values."""
    values = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if is_dataclass(one.type):
            value = _values(value, written)
        elif not _kind(one.type).fits(value):
            raise TypeError(f"{type(record).__name__}.{one.name} is {value!r}, not {one.type}")
        elif isinstance(value, Mapping):
            value = {key: _values(item, written) if is_dataclass(item) else item for key, item in value.items()}
        values[one.name] = written(value)
    return values
