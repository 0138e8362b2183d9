"""Dialogues that are lists of messages, as chat APIs and help desks keep them, to text. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from lorasum.config.schema import Messages

_SPEAKERS = ("sender", "speaker", "author", "from", "name", "user", "role")
_TEXTS = ("text", "content", "message", "value", "body", "utterance")


class MessageError(ValueError):
    """A list that is no dialogue; the message says what is wrong with which of its messages."""


def render_messages(messages: Iterable[Any], how: Messages) -> str:
    """One line a message. A message without text (a picture, a call of a tool) is left out.

    Raises:
        MessageError: one of them is no object, or has its text under no known name.
    """
    lines = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise MessageError(f"message {number} is not an object")
        key = next((name for name in _TEXTS if name in message), None)
        if key is None:
            raise MessageError(f"message {number} has none of {', '.join(_TEXTS)}")
        if text := _text(message[key], number):
            speaker = next((str(message[name]) for name in _SPEAKERS if message.get(name)), "")
            shown = how.speakers.get(speaker, speaker)
            lines.append(how.format.replace("{speaker}", shown).replace("{text}", text) if shown else text)
    return "\n".join(lines)


def _text(value: Any, number: int) -> str:
    """A message's text: one piece, or the text pieces of several."""
    if value is None:
        return ""
    if isinstance(value, list):
        pieces = [piece.get("text", "") if isinstance(piece, Mapping) else piece for piece in value]
        value = " ".join(piece for piece in pieces if isinstance(piece, str))
    if not isinstance(value, str):
        raise MessageError(f"message {number} is not text ({type(value).__name__})")
    return value.strip()
