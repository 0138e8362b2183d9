"""Everything that decides about the content of a dataset, and its fingerprint: a hash of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from lorasum.config.data import DataConfig
from lorasum.data.personal.finding import RULES as REDACTION

FORMAT = 5
"""Version of the dataset's layout and of the code that decides about its content."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a dataset is made with. Other versions of lorasum may have other fields.

    Attributes:
        sources: identity of the source of each split.
        tokenizer: identity of the tokenizer.
        template: the user's own; None if prompts have the model's chat format.
        redact: the region of phone numbers and the version of the rules; None if nothing is taken out.
        chat: the chat template, the instruction and the system's turn; None if there is no chat format.
        chosen: the settings that choose the rows of a source, by their keys in the config. They are recorded to say
            later what was changed, and are not part of the hash: `sources` has what they have chosen.
    """

    # A field's name is hashed together with its value: another name would prepare every dataset again.
    format: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)
    tokenizer: str = ""
    columns: Mapping[str, object] = field(default_factory=dict)
    template: str | None = None
    max_length: int = 0
    too_long: str = ""
    max_bad_rows: int = 0
    duplicates: str = ""
    messages: Mapping[str, object] = field(default_factory=dict)
    redact: tuple[str, int] | None = None
    chat: tuple[str, str, str] | None = None
    chosen: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls, sources: Mapping[str, str], tokenizer: str, data: DataConfig, chat_template: str | None = None
    ) -> "Settings":
        """The settings of a dataset that is made now.

        Args:
            sources: identity of the source of each split.
            tokenizer: identity of the tokenizer.
            chat_template: the tokenizer's, if prompts have the model's chat format.
        """
        return cls(
            format=FORMAT,
            sources=dict(sources),
            tokenizer=tokenizer,
            columns=data.columns.model_dump(),
            template=data.own_template if chat_template is None else None,
            max_length=data.max_length,
            too_long=data.too_long,
            max_bad_rows=data.max_bad_rows,
            duplicates=data.duplicates,
            messages=data.messages.model_dump(),
            redact=(data.phone_region, REDACTION) if data.redact else None,
            chat=None if chat_template is None else (chat_template, data.instruction, data.system),
            chosen=chosen(data),
        )

    @property
    def fingerprint(self) -> str:
        """A hash in 12 hex digits: it differs whenever the dataset would."""
        hashed = asdict(self)
        del hashed["chosen"]
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]

    def recorded(self) -> "Settings":
        """The settings for the manifest, with a short digest in place of the identity of each source."""
        return replace(self, sources={split: identity_digest(text) for split, text in self.sources.items()})


def chosen(data: DataConfig) -> dict[str, object]:
    """The settings that choose the rows of a source, by their keys in the config."""
    names = ("dataset", "revision", "subset", "train_split", "test_split", "test_fraction", "test_seed")
    return {name: getattr(data, name) for name in names}


def identity_digest(identity: str) -> str:
    """A digest of a source's identity. A hub dataset's identity is kept, because it is short and names the commit."""
    return identity if identity.startswith("hub ") else hashlib.sha256(identity.encode()).hexdigest()[:16]
