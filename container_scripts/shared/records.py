"""Records that a job and the client leave each other as JSON: of an artifact, a dataset, a memory plan."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .events import DoneEvent
from .json_records import Record, from_values, read_object, to_values


def from_json(record: type[Record], text: str | bytes) -> Record:
    """What a JSON object says of a record.

    Raises:
        ValueError: the text is not a JSON object.
    """
    return from_values(record, read_object(text))


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory that a training needs of one GPU, or of this machine.

    Attributes:
        memory_bytes: what it needs in all.
        memory_parts: the same by part, such as `weights` and `activations`.
        memory_free_bytes: what there is.
        recomputed_layers: how many of `layers` are computed again in the backward pass, to save memory.
        packs_at_once: in a forward pass.
        refusal: why it does not fit, and what to do, a line each; empty if it does. Then the sizes are known.
        shared_bytes: of the base model, those that lie once in main memory, for all processes; 0: each has all.
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
    parameters: int = 0
    """How many the base model has; 0 if that was not counted."""
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
    return json.dumps(to_values(summaries), ensure_ascii=False)


ARTIFACT_FORMAT: Final = 1


def record_text(record: ArtifactRecord) -> str:
    """The content of lorasum.json.

    Raises:
        TypeError: a field holds a value of another type.
    """
    return json.dumps(to_values(record), indent=2)


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


@dataclass(frozen=True, slots=True)
class HeldOutExample:
    """A dialogue of the test split, with the summaries that people wrote of it."""

    dialogue: str
    summary: str
    other_references: tuple[str, ...] = ()
