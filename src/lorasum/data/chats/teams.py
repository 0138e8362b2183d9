"""Reads Teams' messages, as Microsoft Graph answers them. Pure.

https://learn.microsoft.com/graph/api/resources/chatmessage lists the keys, and those of attachments.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lorasum.data.chats.message import speaker_of
from lorasum.data.chats.quoting import quoted, sense_of
from lorasum.data.chats.written import objects, unformatted, words_of, written

_NOTICES = ("systemEventMessage", "unknownFutureValue", "chatEvent", "typing")
"""What `messageType` says where nobody wrote. System events are an unknown value to those who do not ask for them."""
_REPLY = re.compile(r"<blockquote[^<>]*schema\.skype\.com/Reply.*?</blockquote>", re.DOTALL)
"""What older answers have of the message that is replied to."""
_EMOJI = re.compile(r"""<(?:emoji|img(?=[^<>]*/Emoji))\b[^<>]*\balt=(["'])([^"'<>]*)\1[^<>]*>(?:</emoji>)?""")
_CARD = "application/vnd.microsoft."
_IN_CARDS = (
    "title", "activityTitle", "subtitle", "activitySubtitle", "text", "activityText", "body", "items", "columns",
    "inlines", "facts", "rows", "cells", "sections",
)  # fmt: skip
"""Keys of cards that hold words or other parts, in the order in which they are shown."""


def is_teams(message: Any) -> bool:
    """Whether a message in decoded JSON is one of Teams."""
    body = message.get("body") if isinstance(message, Mapping) else None
    return isinstance(body, Mapping) and "contentType" in body and message.get("messageType") in ("message", *_NOTICES)


def is_written(message: Mapping[str, Any]) -> bool:
    """Whether somebody wrote the message, and did not take it back."""
    return message.get("messageType") not in _NOTICES and not message.get("deletedDateTime")


def complete(message: Any) -> Any:
    """A message with its subject and emoji, what its cards say, and the message that it passes on."""
    if not is_teams(message):
        return message
    body = message["body"]
    text = str(body.get("content") or "")
    if body.get("contentType") == "html":
        quotes, end, rest = text.rpartition("</blockquote>")  # without it, each one that is open is sought to the end
        text = words_of(_EMOJI.sub(r"\2", _REPLY.sub("", quotes + end) + rest))
    subject = str(message.get("subject") or "").strip()
    parts = [f"{subject}: {text.strip()}".removesuffix(": ") if subject else text.strip()]
    known = {*map(sense_of, (parts[0], *parts[0].splitlines()))}
    for held in objects(message.get("attachments")):
        kind, content = str(held.get("contentType")), held.get("content")
        content = written(content) if isinstance(content, str) else content
        if kind == "forwardedMessageReference" and isinstance(content, Mapping):
            parts.append(_passed_on(content))
        elif kind.startswith(_CARD):
            parts.append(_of_card(kind, content, known))
    return {**message, "body": None, "text": "\n".join(part for part in parts if part)}


def _passed_on(held: Mapping[str, Any]) -> str:
    text = words_of(_EMOJI.sub(r"\2", str(held.get("originalMessageContent") or "")))
    author = speaker_of({"from": held.get("originalMessageSender")})
    return quoted(author, text) if text and author else text


def _of_card(kind: str, content: Any, known: set[tuple[str, ...]]) -> str:
    """What a card says and the text above it does not. Only adaptive cards show tags as they are."""
    said = _parts(content) if kind.endswith(".adaptive") else map(unformatted, _parts(content))
    parts = [part for part in said if sense_of(part) not in known]
    return "" if sense_of(text := " ".join(parts)) in known else text


def _parts(part: Any) -> Iterator[str]:
    """The words of a card that an app sends, but not those of its buttons and fields."""
    if isinstance(part, str):
        yield from filter(None, [part.strip()])
    elif isinstance(part, list):
        for one in part:
            yield from _parts(one)
    elif (
        isinstance(part, Mapping)
        and not str(part.get("type")).startswith("Input")
        and part.get("isVisible") is not False
    ):
        name, value = part.get("title", part.get("name")), part.get("value")
        if isinstance(name, str) and isinstance(value, str):
            yield f"{name}: {value}"
        else:
            for key in _IN_CARDS:
                yield from _parts(part.get(key))
