"""A chat that was read: what people said, and what was left out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Chat:
    """A dialogue.

    Attributes:
        dialogue: one line a message, `speaker: text`.
        form: what it was read from, such as `WhatsApp export`; empty for text that was taken as it is.
        left_out: what was there and is not in `dialogue`, by kind: `notices`, `media`.
    """

    dialogue: str
    form: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
