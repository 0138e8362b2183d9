"""The config's section `data`: where the examples come from, and how they become prompts and packs."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lorasum.config.section import Section
from lorasum.models.prompt import DEFAULT_INSTRUCTION, DEFAULT_TEMPLATE
from lorasum.shared.requests import PLACEHOLDER


def _with_one(placeholder: str) -> AfterValidator:
    def checked(text: str) -> str:
        if text.count(placeholder) != 1:
            raise ValueError(f"must contain {placeholder} exactly once")
        return text

    return AfterValidator(checked)


class Columns(Section):
    """Which column of the source holds what; `annotations.summary` is a key of the object in `annotations`."""

    dialogue: str = "dialogue"
    """Column of the dialogue: a text, a list of messages (role and content, sender and text, ...), or what a chat app
    exported. docs/chats.md lists the forms."""
    summary: str | Annotated[list[str], Field(min_length=1)] = "summary"
    """Column of the summary: a text, or a list of references. Several columns, such as [summary1, summary2], are as
    many references: the first that has text is trained on, and the best one counts when test dialogues are scored."""

    @property
    def summaries(self) -> tuple[str, ...]:
        """The columns of the summary."""
        return (self.summary,) if isinstance(self.summary, str) else tuple(self.summary)


class Messages(Section):
    """How a dialogue that is a list of messages becomes text, one message a line."""

    format: Annotated[str, _with_one("{text}")] = "{speaker}: {text}"
    """One message; {text} has to be in it."""
    speakers: dict[str, str] = {}
    """Names to show instead of the data's, such as {user: Customer, assistant: Agent}."""


class DataConfig(Section):
    """Where the examples come from and how they become packs.

    Give `dataset`, or give `train` together with `test` or `test_fraction`.
    """

    dataset: str | None = None
    """Hub dataset id, such as `knkarthick/samsum`."""
    revision: str | None = None
    """Commit, tag or branch of the hub dataset."""
    subset: str | None = None
    """Configuration name of the hub dataset, where it has several."""
    train_split: str = "train"
    """Split of the hub dataset to train on."""
    test_split: str = "test"
    """Split of the hub dataset to evaluate on."""
    streaming: bool = False
    """Read the hub dataset while it is downloaded, and keep no copy of it on this disk."""
    train: str | list[str] | None = None
    """Training files: .jsonl, .json, .csv, .tsv, .parquet or .arrow, the text ones also as .gz, .zst, .bz2 or .xz. A
    file, a folder of them, a pattern (`chats/*.jsonl`), an s3:// address of one of these, or a list. Relative to this
    file."""
    test: str | list[str] | None = None
    """Test files, as `train`."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training dialogues that become the test split, 0 to 1, in place of `test`. The order of the rows
    makes no difference, and dialogues that are written alike go to the same split."""
    test_seed: int = 0
    """Seed of `test_fraction`: another seed chooses other dialogues."""
    columns: Columns = Columns()
    messages: Messages = Messages()
    format: Literal["auto", "chat", "template"] = "auto"
    """How the model is asked: `chat`, in the chat format of its tokenizer, or `template`. `auto` is `chat` where the
    tokenizer has a chat format and no `template` is given."""
    instruction: Annotated[str, _with_one(PLACEHOLDER)] = DEFAULT_INSTRUCTION
    """With the chat format: the user's turn, with one `{dialogue}`."""
    system: str = ""
    """With the chat format: the system's turn; default: the model's own, if it has one."""
    template: Annotated[str, _with_one(PLACEHOLDER)] | None = None
    """Without the chat format: the prompt, with one `{dialogue}`; the completion is the summary and the end-of-sequence
    token. Default: "Summarize the chat dialogue:", the dialogue, "---" and "Summary:", a line each."""
    max_length: Annotated[int, Field(gt=0, le=10_000_000)] = 2048
    """Longest pack, in tokens. A pack holds whole examples."""
    too_long: Literal["error", "drop", "truncate_dialogue"] = "error"
    """What happens to an example longer than `max_length`: stop, leave it out, or cut its dialogue from the start
    and keep the summary whole."""
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """How many unusable rows (no summary, not text, ...) may be left out, with a warning. One more is an error.
    Duplicates and examples that are too long do not count."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What happens to an example that repeats another one of its split word for word."""
    redact: bool = False
    """Put <EMAIL>, <PHONE>, <CARD> and <IBAN> in the place of email addresses, phone, card and bank account numbers."""
    phone_region: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = "US"
    """Country of phone numbers that name none: two capital letters. For `redact` and for counting them."""

    @property
    def own_template(self) -> str:
        """The prompt where the model is not asked in its chat format."""
        return DEFAULT_TEMPLATE if self.template is None else self.template

    @property
    def chat_format(self) -> bool | None:
        """Whether the model is asked in its chat format; None where that is for the tokenizer to say."""
        if self.format == "auto":
            return False if self.template is not None else None
        return self.format == "chat"

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if self.dataset and (self.train or self.test):
            raise ValueError("give either dataset (hub) or train and test (files), not both")
        if self.test and self.test_fraction:
            raise ValueError("give either test or test_fraction, not both")
        if not self.dataset and not (self.train and (self.test or self.test_fraction)):
            raise ValueError("give dataset (a hub id), or train, and test or test_fraction")
        if not self.dataset and (self.revision or self.subset or self.streaming):
            raise ValueError("revision, subset and streaming are for hub datasets only")
        return self
