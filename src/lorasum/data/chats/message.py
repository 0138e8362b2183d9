"""Reads one message, an object, as chat APIs, help desks and exports store it: its text and its speaker. Pure.

Each has many names, such as `content` or `body` (keys.py). The first one that has a value counts, so that the empty
columns of a Parquet file do no harm.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from lorasum.data.chats.keys import (
    MAY_BE_NUMBERS,
    NAMES,
    PARTNERS,
    ROLES,
    plain_key,
    side_of,
    speakers_among,
    texts_among,
)
from lorasum.data.chats.unsaid import UNSAID, is_thought
from lorasum.data.chats.written import is_html, mended, words_of, written


class MessageError(ValueError):
    """A value is not a dialogue; the message says what is wrong with it."""


def text_of(message: Mapping[str, Any], number: int = 1) -> str:
    """The text of a message: the first of its texts that is not empty.

    Raises:
        MessageError: the value is not text.
    """
    return text_in(plain_keys(message), number)


def text_in(plain: Mapping[str, Any], number: int) -> str:
    nothing = ""
    for key in texts_among(tuple(plain)):
        value = plain[key]
        if isinstance(value, int | float) and (key not in MAY_BE_NUMBERS or nothing):
            continue
        if isinstance(value, list) and key in _GUESSES:
            value = next(([guess] for guess in value if _text([guess], number)), None)
        if (text := _text(value, number)) and text not in _NO_TEXT:
            return words_of(text) if key in ("body", "htmlbody") and is_html(text) else text  # of a help desk
        nothing = nothing or text
    inner = (plain[key] for key in _WITHIN if isinstance(plain.get(key), Mapping))
    return next((text for one in inner if (text := text_of(one, number))), "") or _of_its_type(plain, number) or nothing


def _of_its_type(plain: Mapping[str, Any], number: int) -> str:
    """The text in an object that is named as the message's type, as in WhatsApp's API: `{"type": "image", "image": …}`.

    Of pictures and files it is the caption; what somebody pressed or chose has a title.
    """
    kind = str(plain.get("type"))
    held = plain.get(plain_key(kind))
    if not isinstance(held, Mapping):
        return ""
    if kind in UNSAID:
        return _text(held.get("caption"), number)
    return text_of(held, number) or (_text(held.get("title"), number) if kind.endswith("reply") else "")


_GUESSES = ("alternatives", "nbest")
"""Keys of what a recogniser of speech may have heard: the best guess is the first."""
_NO_TEXT = frozenset(("nan", "NaN", "NaT", "<NA>"))
"""What pandas writes for a missing text. Where there is no other one, it may be meant. `None` is an answer."""
NO_NAMES = _NO_TEXT | {"None", "null"}
"""What stands for a missing name. People may be called so, too."""
_ASSISTANTS = frozenset(("assistant", "gpt", "model", "bot", "chatbot", "chatgpt", "ai"))
_WITHIN = ("data", "kwargs", "audio", "attributes")
"""Keys of an object inside of a message that may hold its text and its speaker."""


def speaker_of(message: Mapping[str, Any]) -> str:
    """The speaker of a message; empty if it has none. A message may be inside another one (`{message: {role: …}}`)."""
    return speaker_in(plain_keys(message))


def is_assistants(message: Mapping[str, Any]) -> bool:
    """Whether a model has said it, whatever it is called."""
    return speaker_of({**message, "name": None}).lower() in _ASSISTANTS


def speaker_in(plain: Mapping[str, Any], but: str = "") -> str:
    """The speaker.

    Args:
        but: what is not a speaker's name.
    """
    of_a_tool = plain.get("role") in ("tool", "function")
    for key in speakers_among(tuple(plain)):
        if not (of_a_tool and key == "name") and (name := _name(plain[key])) and name != but:
            return name
    for key in ("type", "event"):
        if plain.get(key) in ROLES:
            return str(plain[key])
    within = ("message", "content", "text", "value", "transcript", *_WITHIN)
    inner = (speaker_of(plain[key]) for key in within if isinstance(plain.get(key), Mapping))
    if name := next((name for name in inner if name and name != but), ""):
        return name
    if plain.get("lc") and isinstance(kind := plain.get("id"), list) and kind:  # LangChain names a message's class
        return name.lower() if (name := str(kind[-1]).partition("Message")[0]).lower() in ROLES else ""
    partner = next((name for key in PARTNERS if (name := _name(plain.get(key)))), "")
    return side_of(plain, partner) or partner


def has_text(message: Mapping[str, Any]) -> bool:
    plain = plain_keys(message)
    if any(isinstance(plain[key], str | list | Mapping) for key in texts_among(tuple(plain))):
        return True
    inner = plain.get("kwargs" if "lc" in plain else "data" if plain.get("type") in ROLES else "")  # LangChain's
    return isinstance(inner, Mapping) and has_text(inner)


def plain_keys(message: Mapping[Any, Any]) -> dict[str, Any]:
    """The values that are set, by key without case and separators: `senderName` and `Sender Name` are the same key."""
    plain: dict[str, Any] = {}
    for key, value in message.items():
        if value is not None:
            plain.setdefault(plain_key(key), value)
    return plain


def _name(value: Any) -> str:
    """A speaker's name. Numbers are names too, even 0."""
    if isinstance(value, str):
        held = written(value) if value.startswith("{") else None  # in a cell that was written as text
        return _name(held) if isinstance(held, Mapping) else mended(value).strip().removesuffix(":")
    if isinstance(value, list) and len(value) == 1:
        return _name(value[0])
    if isinstance(value, Mapping):
        plain = plain_keys(value)
        ends = (key for end in ("name", "id") for key in plain if key.endswith(end))
        key = next((key for key in chain(NAMES, ends) if key in plain and _name(plain[key])), None)
        if key is None:
            return next((name for name in map(_name, plain.values()) if name), "") if len(plain) == 1 else ""
        last = _name(plain.get(key.replace("first", "last"))) if key.startswith("first") else ""
        return f"{_name(plain[key])} {last}".strip()
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if value == value else ""  # a number that is missing is NaN
    return str(value) if isinstance(value, int) else ""


def _parts_in(text: str) -> list[Any] | None:
    """The parts of a message that are written as JSON: `[{"type": "text", "text": "hi"}]`; None for other text, which
    may be JSON that somebody says."""
    parts = written(text)
    return parts if isinstance(parts, list) and all(map(_is_part, parts)) else None


def _is_part(value: Any) -> bool:
    kind = str(value.get("type")) if isinstance(value, Mapping) else ""
    return kind in UNSAID or (kind in _SAID and "text" in value)


_SAID = ("text", "input_text", "output_text")


def _with_blanks(piece: Any, text: str) -> str:
    """The text of a piece with the blanks around it, as they are in its object."""
    whole = piece.get("text") if isinstance(piece, Mapping) else None
    return whole if isinstance(whole, str) and whole.strip() == text else text


def _text(value: Any, number: int) -> str:
    """A message's text: one piece, or the text pieces of several."""
    if isinstance(value, str):
        parts = _parts_in(value) if value.startswith("[{") else None
        return mended(value).strip() if parts is None else _text(parts, number)
    if isinstance(value, Mapping):
        if (kind := str(value.get("type", value.get("content_type")))) in UNSAID or is_thought(value):
            return _text(value.get("transcript"), number) if "audio" in kind else ""
        text = text_of(value, number)
        return words_of(text) if value.get("contentType") == "html" else text
    if isinstance(value, list):
        runs = any(isinstance(piece, str) for piece in value) and any(isinstance(piece, Mapping) for piece in value)
        pieces = [piece if isinstance(piece, str) else _text(piece, number) for piece in value]
        if runs:  # Telegram cuts a text where a link begins, with the blanks there; others list paragraphs
            pieces = [_with_blanks(*both) for both in zip(value, pieces, strict=True)]
        between = "" if runs else " "
        return mended(between.join(piece for piece in pieces if piece)).strip()
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageError(f"message {number} is not text ({type(value).__name__})")
    return str(value)
