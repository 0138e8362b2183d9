"""Reads the JSON exports of Slack, Telegram, Discord, Messenger, Teams and ChatGPT, recognised by their keys."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lorasum.config.data import Messages
from lorasum.data.chats import discord, teams, telegram
from lorasum.data.chats.chat import Chat
from lorasum.data.chats.message import MessageError
from lorasum.data.chats.messages import (
    keys_without_speaker,
    lines_of,
    looks_like_messages,
    messages_in,
    render_messages,
)
from lorasum.data.chats.messenger import is_about_the_chat
from lorasum.data.chats.order import by_time, oldest_first
from lorasum.data.chats.slack import is_slack, read_slack
from lorasum.data.chats.unsaid import is_notice
from lorasum.formatting import listing

_KNOWN = "give messages ({role, content}, {sender, text}, …) or an export of Slack, Telegram, Discord or Messenger"


_OF_ONE_PERSON = {"ID", "Timestamp", "Contents"}
_ROW = {"dialogue", "prompt", "instruction", "input", "summary"}


class NoChatError(ValueError):
    """JSON that holds no chat, or several; the message says which."""


class Export(NamedTuple):
    """What an app exported: its form, such as `Telegram export`, and its messages in order of time."""

    form: str
    messages: list[Any]


def read_json(data: Any, how: Messages | None = None) -> Chat:
    """The chat in decoded JSON.

    Raises:
        NoChatError: there is none, or more than one.
    """
    how = how or Messages()
    if isinstance(data, Mapping) and (text := _text_in(data)):
        return Chat(text)
    data = _chat_in(data)
    try:
        if export := export_in(data):
            return read_export(export, how)
        messages = messages_in(data) if isinstance(data, list | Mapping) else None
        if messages and looks_like_messages(messages):
            nameless = " that tell no speaker" if keys_without_speaker(messages) else ""
            return Chat(render_messages(messages, how), f"messages{nameless}")
    except MessageError as error:
        raise NoChatError(str(error)) from error
    if isinstance(data, list) and data and all(isinstance(one, Mapping) and _ROW & set(one) for one in data):
        raise NoChatError(f"it holds {len(data)} rows: give them to --input")
    if isinstance(data, list) and all(isinstance(one, Mapping) and set(one) >= _OF_ONE_PERSON for one in data) and data:
        raise NoChatError("it holds what one person wrote: Discord's data package leaves out what others answered")
    raise NoChatError(f"it holds no chat: {_KNOWN}")


def export_in(data: Any) -> Export | None:
    """The export of one chat that decoded JSON is, or None: plain messages are none."""
    if isinstance(data, list):
        if is_slack(data):
            return Export("Slack export", data)
        if data and discord.are_discord(data):
            return Export("Discord export", by_time(data))
        if data and all(map(teams.is_teams, data)):
            return Export("Teams export", by_time(data))
        return Export("Telegram export", oldest_first(data)) if data and all(map(telegram.is_telegram, data)) else None
    if not isinstance(data, Mapping):
        return None
    if isinstance(data.get("mapping"), Mapping):
        return Export("ChatGPT export", _branch(data))
    answered = data.get("value")
    if isinstance(answered, list) and answered and all(isinstance(one, Mapping) for one in answered):
        return Export("Teams export", by_time(answered)) if "messageType" in answered[0] else None
    messages = data.get("messages")
    if is_slack(messages):
        return Export("Slack export", list(messages or ()))
    return _of_object(data, messages) if isinstance(messages, list) and looks_like_messages(messages) else None


def read_export(export: Export, how: Messages) -> Chat:
    """The chat in an export, without what nobody wrote; that is counted.

    Raises:
        MessageError: one of the messages is none.
    """
    form, messages = export
    if form == "Slack export":
        return read_slack(messages)
    kept = [message for message in messages if not (isinstance(message, Mapping) and _is_no_message(message, form))]
    lines = lines_of(map(_COMPLETE.get(form, _as_it_is), kept), how)
    left_out = {"notices": len(messages) - len(kept), "media": len(kept) - len(lines)}
    return Chat("\n".join(lines), form, {kind: count for kind, count in left_out.items() if count})


def _as_it_is(message: Any) -> Any:
    return message


_COMPLETE = {"Discord export": discord.complete, "Teams export": teams.complete, "Telegram export": telegram.complete}
"""What brings together the words of a message that an app keeps in several places."""


def _chat_in(data: Any) -> Any:
    """The only chat in an export of all chats, or in a list of chats; other data as it is."""
    chats = data.get("chats") if isinstance(data, Mapping) else None
    if isinstance(chats, Mapping) and isinstance(chats.get("list"), list):
        return _only([chat for chat in chats["list"] if isinstance(chat, Mapping)])
    if isinstance(data, list) and data and all(isinstance(one, Mapping) and _is_chat(one) for one in data):
        return _only(data)
    return data


def _only(chats: list[Mapping[str, Any]]) -> Any:
    if len(chats) != 1:
        names = [
            str(chat.get("name") or chat.get("title") or chat.get("id") or number)
            for number, chat in enumerate(chats, 1)
        ]
        raise NoChatError(f"it holds {len(chats)} chats ({listing(names, 8)}): give one of them, or all to --input")
    return chats[0]


def _is_chat(one: Mapping[str, Any]) -> bool:
    lists = (one.get(key) for key in ("messages", "conversations", "chat_messages"))
    return isinstance(one.get("mapping"), Mapping) or any(
        isinstance(messages, list) and looks_like_messages(messages) for messages in lists
    )


def _of_object(data: Mapping[str, Any], messages: list[Any]) -> Export | None:
    """The export that an object with `messages` is."""
    first = messages[0]
    if all(map(teams.is_teams, messages)):
        return Export("Teams export", by_time(messages))
    if isinstance(first, Mapping) and ("sender_name" in first or "senderName" in first):
        return Export("Messenger export", by_time(messages))
    if "guild" in data and "channel" in data:
        return Export("Discord export", by_time(messages))
    if {"id", "type", "messages"} <= set(data) or (isinstance(first, Mapping) and "date_unixtime" in first):
        return Export("Telegram export", messages)
    return None


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


def _is_no_message(message: Mapping[str, Any], form: str) -> bool:
    """Whether nobody wrote the message: it is a notice, a call, a deleted message, or what a model asked of a tool."""
    if is_notice(message) or message.get("is_unsent") or message.get("isUnsent") or "call_duration" in message:
        return True
    if form == "Discord export":
        return not discord.is_written(message)
    if form == "Teams export":
        return not teams.is_written(message)
    if form == "Messenger export":
        return is_about_the_chat(message)
    return form == "ChatGPT export" and (message.get("recipient", "all") != "all" or _role(message) == "tool")


def _role(message: Mapping[str, Any]) -> Any:
    author = message.get("author")
    return author.get("role") if isinstance(author, Mapping) else None
