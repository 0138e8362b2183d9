"""The records that `data/` gives to other packages: examples, and the manifest of a prepared dataset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lorasum.data.settings import Settings


@dataclass(frozen=True, slots=True)
class Example:
    """One dialogue and its summary.

    Attributes:
        other_references: summaries by other people; the model is scored against them too, and not trained on them.
    """

    dialogue: str
    summary: str
    other_references: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """All summaries by people."""
        return (self.summary, *self.other_references)

    def as_row(self) -> dict[str, object]:
        """The example as a row of JSON. Most have one reference only."""
        row: dict[str, object] = {"dialogue": self.dialogue, "summary": self.summary}
        return row | {"other_references": self.other_references} if self.other_references else row


@dataclass(frozen=True, slots=True)
class SplitStats:
    """Counts of one split after packing. Tokens are the tokenizer's."""

    examples: int
    packs: int
    tokens: int
    completion_tokens: int
    longest_example_tokens: int
    fill: float
    """tokens / (packs * max_length), 0 to 1."""
    shortest_example_tokens: int = 0
    longest_at: str = ""
    """The place of the longest example, such as train.jsonl:17."""
    shortest_at: str = ""
    histogram: tuple[int, ...] = ()
    """Examples by length: equal steps from 0 to `longest_example_tokens`, both included."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a prepared dataset's manifest.json holds: all that is known of the dataset without its rows."""

    fingerprint: str
    template: str
    tokenizer: str
    tokenizer_revision: str | None
    eos_token_id: int
    max_length: int
    splits: Mapping[str, SplitStats]
    dropped: Mapping[str, int]
    """Rows left out, by reason."""
    lorasum_version: str
    shared_with_test: Mapping[str, int] = field(default_factory=dict)
    """Training examples whose dialogue is in the test split: `exact`, and `near` ones."""
    personal: Mapping[str, int] = field(default_factory=dict)
    """How many email addresses, phone and card numbers the dialogues and summaries seem to hold, by kind."""
    prompt_format: Literal["chat", "template"] = "template"
    """Whether `template` is the model's chat format, made with `instruction` and `system`, or the user's own."""
    instruction: str = ""
    system: str = ""
    control_tokens: tuple[str, ...] = ()
    """Texts that the tokenizer reads as control tokens, such as `</s>`. In dialogues and summaries they are escaped."""
    base_template: str = ""
    """The base model's own chat format, where `template` is not it; empty otherwise."""
    settings: Settings | None = None
    """What the dataset was made with; None if that is not on record."""


@dataclass(frozen=True, slots=True)
class Look:
    """What `init` has learnt about the training data.

    Attributes:
        files: names of the files that were read.
        others: other columns that could be the summary.
        rows: number of rows that were read; `examples` of them are usable.
        unusable: number of unusable rows, by reason.
        first_unusable: place of the first unusable row, and the reason.
        more: whether the source has more rows than were read.
        language: ISO 639-1 code.
    """

    files: tuple[str, ...]
    dialogue_column: str
    summary_column: str
    others: tuple[str, ...]
    rows: int
    examples: int
    unusable: Mapping[str, int]
    first_unusable: str
    more: bool
    median_dialogue_characters: int
    longest_dialogue_characters: int
    longest_summary_characters: int
    longest_example_characters: int
    language: str
