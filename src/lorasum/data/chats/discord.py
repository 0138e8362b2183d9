"""Reads Discord's messages in JSON, as its API and DiscordChatExporter have them. Pure.

https://discord.com/developers/docs/resources/message lists the fields and the types.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lorasum.data.chats.message import MessageError, speaker_of, text_of
from lorasum.data.chats.quoting import asked, sense_of
from lorasum.data.chats.written import objects

_WRITTEN = frozenset((
    "default", "reply", "chatinputcommand", "contextmenucommand", "threadstartermessage", "0", "19", "20", "21", "23",
))  # fmt: skip
"""Types of messages that somebody wrote: plain ones, answers, commands, beginnings of threads."""
_OF_OTHERS = frozenset(("text", "message", "comment", "post", "user"))
"""What other lists call a message that somebody wrote."""
_DISCORDS = re.compile(r"\d|[A-Z]|default")
_OWN_EMOJI = re.compile(r"<a?(:\w+:)\d+>")
_LINK = re.compile(r"https?://[^\s<>()]+")
_ID = re.compile(r"(?=[\w-]*\d)[\w-]{8,}\Z")
"""The end of an address that belongs to one page alone, such as that of a film."""
_COMMAND = re.compile(r"<(/[^<>:]{1,100}):\d+>")


def is_discord(message: Any) -> bool:
    """Whether a message in decoded JSON is one of Discord's. Those in a data set may have lost their times."""
    author = message.get("author") if isinstance(message, Mapping) else None
    return isinstance(author, Mapping) and ("timestamp" in message or "isBot" in author)


def are_discord(messages: list[Any]) -> bool:
    """Whether messages are a list of Discord's, whose types are numbers or as `GuildMemberJoin`, and not `question`."""
    if not all(map(is_discord, messages)):
        return False
    kinds = [str(message["type"]) for message in messages if message.get("type") is not None]
    return not kinds or any(map(_DISCORDS.match, kinds))


def is_written(message: Mapping[str, Any]) -> bool:
    """Whether somebody wrote the message, by its type; a message without one counts as written."""
    kind = _kind(message)
    return not kind or kind in _WRITTEN or kind in _OF_OTHERS


def _kind(message: Mapping[str, Any]) -> str:
    kind = message.get("type")
    return "" if kind is None else str(kind).replace("_", "").lower()


def complete(message: Any) -> Any:
    """A message with what it asks in a poll, what it passes on, what an app says in boxes, and the names of those it
    mentions. A thread begins with the message that it is about."""
    if not isinstance(message, Mapping):
        return message
    about = message.get("referenced_message")
    if isinstance(about, Mapping) and not message.get("content") and _kind(message) in ("21", "threadstartermessage"):
        return complete(about)
    said = _said(message)
    return {**message, "content": said} if said else message


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    content = content.strip() if isinstance(content, str) else ""
    parts = [content]
    if isinstance(poll := message.get("poll"), Mapping):
        answers = [*filter(None, (_text(one.get("poll_media") or one) for one in objects(poll.get("answers"))))]
        question = _text(poll.get("question"))
        parts += [asked(question, answers)] if question or answers else []
    snapshots = [one.get("message") for one in objects(message.get("message_snapshots"))]
    parts += [_said(one) for one in (message.get("forwardedMessage"), *snapshots) if isinstance(one, Mapping)]
    parts += _of_boxes(message, content)
    if not content:
        parts += _of_components(message.get("components"))
    return _plain(" ".join(part for part in parts if part), message)


def _text(value: Any) -> str:
    try:
        return text_of({"text": value})
    except MessageError:
        return ""


def _plain(content: str, message: Mapping[str, Any]) -> str:
    """Discord's text with mentions and the server's own emoji as people see them."""
    names = {str(one.get("id")): speaker_of({"user": one}) for one in objects(message.get("mentions"))}
    content = re.sub(r"<@!?(\d+)>", lambda match: "@" + names.get(match[1], match[1]), content)
    return _COMMAND.sub(r"\1", _OWN_EMOJI.sub(r"\1", content))


def _of_boxes(message: Mapping[str, Any], content: str) -> Iterator[str]:
    """The words in the boxes (embeds) that an app sent, or that stand where there is no text."""
    author = message.get("author")
    author = author if isinstance(author, Mapping) else {}
    by_app = bool(message.get("webhook_id") or author.get("isBot") or author.get("bot"))
    known = {sense_of(content), *map(sense_of, content.splitlines())}
    for box in objects(message.get("embeds")):
        parts = [*_of_box(box)]
        if (content and _is_preview(box, content, by_app)) or sense_of(" ".join(parts)) in known:
            continue
        yield from (part for part in parts if sense_of(part) not in known)


def _of_box(box: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(of := box.get("author"), Mapping) and of.get("name"):
        yield str(of["name"])
    yield from (str(box[key]) for key in ("title", "description") if box.get(key))
    yield from (f"{one.get('name')}: {one.get('value')}" for one in objects(box.get("fields")))


def _is_preview(box: Mapping[str, Any], content: str, by_app: bool) -> bool:
    """Whether a box shows the page behind a link. Only apps send others, and the API tells them by their type.

    A link may lead to its page by a shorter address: https://youtu.be/abc is https://www.youtube.com/watch?v=abc.
    """
    if box.get("type", "rich") != "rich":
        return True
    if "://" not in content or not by_app:
        return "://" in content
    url = str(box.get("url") or "")
    return bool(url) and (url in content or _page(url) in map(_page, _LINK.findall(content)))


def _page(url: str) -> str:
    """What an address has in common with others of the same page: its end, if that is an ID."""
    url = url.rpartition("://")[2].removeprefix("www.").rstrip("/.,;!?")
    return found[0] if (found := _ID.search(url[-64:])) else url


def _of_components(components: Any) -> Iterator[str]:
    """The texts in Discord's components, which may be nested."""
    for one in objects(components):
        if isinstance(one.get("content"), str):
            yield one["content"]
        yield from _of_components(one.get("components"))
