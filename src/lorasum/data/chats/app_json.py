"""Reads the JSON exports of Slack, Telegram, Discord, Messenger and ChatGPT, recognised by their keys."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lorasum.config.data import Messages
from lorasum.data.chats.chat import Chat
from lorasum.data.chats.messages import (
    MessageError,
    is_notice,
    looks_like_messages,
    messages_in,
    render_messages,
    speaker_of,
    text_of,
)
from lorasum.data.chats.slack import is_slack, read_slack

_KNOWN = "give messages ({role, content}, {sender, text}, …) or an export of Slack, Telegram, Discord or Messenger"


_ROW = {"dialogue", "prompt", "instruction", "input", "summary"}


class NoChatError(ValueError):
    """JSON that holds no chat, or several; the message says which."""


def read_json(data: Any, how: Messages | None = None) -> Chat:
    """The chat in decoded JSON.

    Raises:
        NoChatError: there is none, or more than one.
    """
    how = how or Messages()
    if isinstance(data, Mapping) and (text := _text_in(data)):
        return Chat(text)
    form, messages = _found(data)
    if form == "Slack export":
        return read_slack(messages)
    kept = [message for message in messages if not (isinstance(message, Mapping) and _is_no_message(message, form))]
    left_out = Counter(notices=len(messages) - len(kept))
    try:
        rendered = render_messages([_complete(message) for message in kept], how)
    except MessageError as error:
        raise NoChatError(str(error)) from error
    return Chat(rendered, form, {kind: count for kind, count in left_out.items() if count})


def _found(data: Any) -> tuple[str, list[Any]]:
    """The form of an export, such as `Slack export`, and its messages in order of time."""
    if is_slack(data):
        return "Slack export", data
    if isinstance(data, Mapping):
        chats = data.get("chats")
        if isinstance(chats, Mapping) and isinstance(chats.get("list"), list):
            return _found(_only([chat for chat in chats["list"] if isinstance(chat, Mapping)]))
        if is_slack(data.get("messages")):
            return "Slack export", data["messages"]
        if isinstance(data.get("mapping"), Mapping):
            return "ChatGPT export", _branch(data)
        messages = data.get("messages")
        if isinstance(messages, list) and looks_like_messages(messages):
            return _form(data, messages)
    if isinstance(data, list) and data and all(isinstance(one, Mapping) for one in data):
        if all(isinstance(one.get("mapping"), Mapping) or _inner(one) for one in data):
            return _found(_only(data))
        if all("timestamp" in one and isinstance(one.get("author"), Mapping) for one in data):
            return "Discord export", _by_time(data, "timestamp")
    messages = messages_in(data) if isinstance(data, list | Mapping) else None
    if messages and isinstance(data, Mapping) and data.get("object") == "list":
        return "messages", _by_time(messages, "created_at")  # OpenAI's API begins with the newest
    if not messages or not looks_like_messages(messages):
        if isinstance(data, list) and data and all(isinstance(one, Mapping) and _ROW & set(one) for one in data):
            raise NoChatError(f"it holds {len(data)} rows: give them to --input")
        raise NoChatError(f"this JSON is no chat: {_KNOWN}")
    return "messages", messages


def _form(data: Mapping[str, Any], messages: list[Any]) -> tuple[str, list[Any]]:
    """The form of an object with `messages`, and its messages in order of time: Messenger's begin with the newest."""
    first = messages[0]
    if isinstance(first, Mapping) and ("sender_name" in first or "senderName" in first):
        return "Messenger export", _by_time(messages, "timestamp_ms" if "sender_name" in first else "timestamp")
    if "guild" in data and "channel" in data:
        return "Discord export", _by_time(messages, "timestamp")
    if {"id", "type", "messages"} <= set(data) or (isinstance(first, Mapping) and "date_unixtime" in first):
        return "Telegram export", messages
    return "messages", messages


def _by_time(messages: list[Any], key: str) -> list[Any]:
    """The messages in order of `key`, if all have it and its values have one type."""
    times = [message.get(key) if isinstance(message, Mapping) else None for message in messages]
    if all(isinstance(time, str) for time in times) or all(isinstance(time, int | float) for time in times):
        return sorted(messages, key=lambda message: message[key])
    return messages


def _only(chats: list[Mapping[str, Any]]) -> Any:
    if len(chats) != 1:
        names = [
            str(chat.get("name") or chat.get("title") or chat.get("id") or number)
            for number, chat in enumerate(chats, 1)
        ]
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise NoChatError(f"it holds {len(chats)} chats ({listed}): give one of them, or all to --input")
    return chats[0]


def _inner(one: Mapping[str, Any]) -> bool:
    return any(
        isinstance(one.get(key), list) and looks_like_messages(one[key]) for key in ("messages", "conversations")
    )


def _branch(chat: Mapping[str, Any]) -> list[Any]:
    """The messages of a ChatGPT conversation that lead to its newest one. Others belong to discarded answers."""
    nodes, at = chat["mapping"], chat.get("current_node")
    messages: list[Any] = []
    while isinstance(at, str) and isinstance(node := nodes.get(at), Mapping) and len(messages) < len(nodes):
        message = node.get("message")
        metadata = message.get("metadata") if isinstance(message, Mapping) else None
        hidden = isinstance(metadata, Mapping) and metadata.get("is_visually_hidden_from_conversation")
        messages.append(None if hidden else message)
        at = node.get("parent")
    return [message for message in reversed(messages) if isinstance(message, Mapping)]


def _text_in(data: Mapping[str, Any]) -> str:
    """The dialogue of an object such as `{"dialogue": "Ana: hi"}`."""
    texts = (data.get(key) for key in ("dialogue", "conversation", "transcript"))
    return next((value.strip() for value in texts if isinstance(value, str) and messages_in(value) is None), "")


_SENT = re.compile(
    r"(?:.{1,80} (?:sent|shared) (?:an?|\d+) (?:attachment|photo|video|gif|sticker|voice message|link|story|file)s?"
    r"|liked a message|reacted .{1,12} to your message ?|.{1,80} unsent a message|you missed an? .{0,20}call.*)\.?",
    re.IGNORECASE,
)


def _is_no_message(message: Mapping[str, Any], form: str) -> bool:
    """Whether nobody wrote the message: it is a notice, a call, a deleted message, or Messenger's words for a
    picture."""
    kind = message.get("type")
    if is_notice(message) or message.get("is_unsent") or message.get("isUnsent") or "call_duration" in message:
        return True
    if form == "Discord export" and isinstance(kind, int):
        return kind not in _WRITTEN
    text = message.get("content", message.get("text"))
    if form != "Messenger export" or not isinstance(text, str):
        return False
    about_itself = text.startswith(f"{message.get('sender_name')} ") and any(key in message for key in _ATTACHED)
    return about_itself or bool(_SENT.fullmatch(text))


_WRITTEN = frozenset((0, 19, 20, 21, 23))
"""Discord's numbers for messages that somebody wrote: plain ones, answers, commands, beginnings of threads."""
_ATTACHED = ("photos", "videos", "gifs", "files", "audio_files", "sticker", "share")


def _complete(message: Any) -> Any:
    """A message with what it asks in a poll, what a bot says in a box, and the names of those it mentions."""
    if not isinstance(message, Mapping):
        return message
    poll, embeds = message.get("poll"), message.get("embeds")
    if isinstance(poll, Mapping) and not text_of({key: message.get(key) for key in ("text", "content")}):
        asked = [text_of({"text": poll.get("question")})] if poll.get("question") else []
        options = poll.get("answers")
        answers = [text_of(one) for one in options if isinstance(one, Mapping)] if isinstance(options, list) else []
        return {**message, "text": " OPTION: ".join(["POLL: " + "".join(asked), *answers])}
    content = message.get("content")
    if content == "" and isinstance(embeds, list):
        boxes = [box for box in embeds if isinstance(box, Mapping)]
        said = [str(box[key]) for box in boxes for key in ("title", "description") if box.get(key)]
        return {**message, "content": " ".join(said)}
    mentions = message.get("mentions")
    if isinstance(content, str) and "<@" in content and isinstance(mentions, list):
        names = {str(one.get("id")): speaker_of({"user": one}) for one in mentions if isinstance(one, Mapping)}
        return {**message, "content": re.sub(r"<@!?(\d+)>", lambda match: "@" + names.get(match[1], match[1]), content)}
    return message
