"""Chat: the dialogue that was read from a chat, and what was left out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Chat:
    """A dialogue.

    Attributes:
        dialogue: one line a message, `speaker: text`.
        form: the form of its source, such as `WhatsApp export`; empty for text that was taken as it is.
        left_out: how many messages are not in `dialogue`, by kind: `notices`, `media`.
    """

    dialogue: str
    form: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
