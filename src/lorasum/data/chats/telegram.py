"""Reads the messages of Telegram's exports. Pure.

Telegram Desktop writes them in `export_output_json.cpp`: a text is a list where a part of it has a style.
"""

from collections.abc import Mapping
from typing import Any

from lorasum.data.chats.quoting import asked, quoted
from lorasum.data.chats.written import objects


def is_telegram(message: Any) -> bool:
    """Whether a message in decoded JSON is one of Telegram's exports."""
    return (
        isinstance(message, Mapping)
        and message.get("type") in ("message", "service")
        and {"id", "date"} <= message.keys()
        and not {"from_id", "actor_id"}.isdisjoint(message)
    )


def complete(message: Any) -> Any:
    """A message with its whole text: what is said, then what is asked in a poll or listed to be done. What somebody
    else wrote is quoted."""
    if not is_telegram(message):  # in an object that only looks like a chat of Telegram
        return message
    parts = [_text_of(message.get("text"))]
    if isinstance(poll := message.get("poll"), Mapping):
        answers = (_text_of(one.get("text")) for one in objects(poll.get("answers")))
        parts.append(asked(_text_of(poll.get("question")), answers))
    if isinstance(tasks := message.get("todo_list"), Mapping):
        listed = (_text_of(one.get("text")) for one in objects(tasks.get("answers")))
        parts.append("\n".join([_text_of(tasks.get("title")), *(f"- {task}" for task in listed)]))
    text, author = "\n".join(part for part in parts if part), message.get("forwarded_from")
    return {**message, "text": quoted(author, text) if text and author not in (None, "", message.get("from")) else text}


def _text_of(parts: Any) -> str:
    """A text. Its parts follow one another as they are: a style may begin inside of a word."""
    if isinstance(parts, str):
        return parts.strip()
    texts = (
        part.get("text") if isinstance(part, Mapping) else part for part in (parts if isinstance(parts, list) else ())
    )
    return "".join(text for text in texts if isinstance(text, str)).strip()
