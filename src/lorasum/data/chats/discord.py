"""Reads Discord's messages, as its API and DiscordChatExporter have them, in JSON and as text. Pure.

https://discord.com/developers/docs/resources/message lists the fields and the types.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lorasum.data.chats.chat import Chat
from lorasum.data.chats.message import speaker_of, text_of
from lorasum.data.chats.written import objects

_WRITTEN = frozenset((
    "default", "reply", "chatinputcommand", "contextmenucommand", "threadstartermessage", "0", "19", "20", "21", "23",
))  # fmt: skip
"""Types of messages that somebody wrote: plain ones, answers, commands, beginnings of threads."""
_OWN_EMOJI = re.compile(r"<a?(:\w+:)\d+>")


def is_discord(message: Any) -> bool:
    """Whether a message in decoded JSON is one of Discord's."""
    return isinstance(message, Mapping) and "timestamp" in message and isinstance(message.get("author"), Mapping)


def is_written(message: Mapping[str, Any]) -> bool:
    """Whether somebody wrote the message, by its type; a message without one counts as written."""
    return "type" not in message or str(message["type"]).replace("_", "").lower() in _WRITTEN


_TEXT = re.compile(r"\s*={20,}\nGuild: .*\n(?:.*\n){1,6}?={20,}\n")
_TEXT_END = re.compile(r"\n={20,}\nExported [\d.,\s]+ message\(s\)\n={20,}\s*\Z")
_TEXT_HEAD = re.compile(
    r"(?:\A\n*|\n\n+)\[(?=[^\[\]\n]*\d[:.]\d\d)([^\[\]\n]{8,40})\] (\S[^\n]*?)(?: \(pinned\))?(?=\n)"
)
_TEXT_EXTRAS = re.compile(r"^\{(Attachments|Embed|Stickers|Reactions)\}$", re.MULTILINE)
_TEXT_NOTICES = ("Joined the server.", "Pinned a message.", "Left the group.", "Changed the channel icon.")


def read_discord_text(text: str) -> Chat | None:
    """The chat in what DiscordChatExporter writes as plain text; None if `text` is none, or its dates have no time.

    [03/06/2024 18:01] wilma
    who tests?
    """
    if not (above := _TEXT.match(text)):
        return None
    body = _TEXT_END.sub("", text[above.end() :])
    heads = [*_TEXT_HEAD.finditer(body)]
    heads = [head for head in heads if _form(head[1]) == _form(heads[0][1])]  # people paste lines of logs
    if not heads and body.strip():
        return None
    lines, left_out = [], Counter[str]()
    for head, end in zip(heads, [*(head.start() for head in heads[1:]), len(body)], strict=False):
        text, *extras = _TEXT_EXTRAS.split(body[head.end() : end])
        boxes = [held for kind, held in zip(extras[::2], extras[1::2], strict=True) if kind == "Embed"]
        said = text.strip() or " ".join(" ".join(boxes).split())
        if said and said not in _TEXT_NOTICES:
            lines.append(f"{head[2]}: {said}")
        else:
            left_out["notices" if said else "media"] += 1
    return Chat("\n".join(lines), "Discord export", dict(left_out))


def _form(time: str) -> str:
    """The signs between a time's words and numbers: `// :` of `6/3/2024 6:01`."""
    return re.sub(r"\w+", "", time)


def complete(message: Any) -> Any:
    """A message with what it asks in a poll, what a bot says in a box, what it passes on, and the names of those it
    mentions. Polls of Telegram have the same form."""
    if not isinstance(message, Mapping):
        return message
    poll, content = message.get("poll"), message.get("content")
    if isinstance(poll, Mapping) and not text_of({key: message.get(key) for key in ("text", "content")}):
        asked = [text_of({"text": poll.get("question")})] if poll.get("question") else []
        answers = [text_of(one.get("poll_media") or one) for one in objects(poll.get("answers"))]
        return {**message, "text": " OPTION: ".join(["POLL: " + "".join(asked), *answers])}
    if content == "":
        passed_on = message.get("forwardedMessage") or message.get("message_snapshots")
        said = text_of({"parts": passed_on if isinstance(passed_on, list) else [passed_on]}) if passed_on else ""
        boxes = (*_of_boxes(message.get("embeds")), *_of_components(message.get("components")))
        return {**message, "content": said or " ".join(boxes)}
    return {**message, "content": _plain(content, message)} if isinstance(content, str) and "<" in content else message


def _plain(content: str, message: Mapping[str, Any]) -> str:
    """Discord's text with mentions and the server's own emoji as people see them."""
    names = {str(one.get("id")): speaker_of({"user": one}) for one in objects(message.get("mentions"))}
    content = re.sub(r"<@!?(\d+)>", lambda match: "@" + names.get(match[1], match[1]), content)
    return _OWN_EMOJI.sub(r"\1", content)


def _of_boxes(boxes: Any) -> list[str]:
    """The words in Discord's embeds."""
    said: list[str] = []
    for box in objects(boxes):
        said += [str(box[key]) for key in ("title", "description") if box.get(key)]
        said += [f"{one.get('name')}: {one.get('value')}" for one in objects(box.get("fields"))]
    return said


def _of_components(components: Any) -> Iterator[str]:
    """The texts in Discord's components, which may be nested."""
    for one in objects(components):
        if isinstance(one.get("content"), str):
            yield one["content"]
        yield from _of_components(one.get("components"))
