"""Turns Slack's messages into a dialogue, with names, threads in order, and links as people see them. Pure functions.

https://api.slack.com/events/message lists the subtypes, https://api.slack.com/reference/surfaces/formatting the marks.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from lorasum.data.chats.chat import Chat
from lorasum.data.chats.slack_words import labels_in, said
from lorasum.data.chats.unsaid import is_notice
from lorasum.data.chats.written import objects

_Message = Mapping[str, Any]


def is_slack(messages: Any) -> bool:
    """Whether decoded JSON is a list of Slack's messages.

    All have a time stamp `ts`; some have a type or an author, and some a text or what stands in its place.
    """
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(message, Mapping) and "ts" in message for message in messages)
        and any({"type", "user", "bot_id", "username"} & set(message) for message in messages)
        and any({"text", "blocks", "attachments", "files"} & set(message) for message in messages)
    )


def read_slack(messages: Sequence[_Message], users: Iterable[Any] = ()) -> Chat:
    """One line a message, in order of time, with each answer below the message that it answers.

    Notices, such as that somebody joined or renamed the channel, and files without words are left out.

    Args:
        users: what users.json of an export holds, for authors whose messages carry no profile.
    """
    given = [one for message in messages for one in (message, *objects(message.get("slackdump_thread_replies")))]
    messages = list(
        {_identity(message, number): message for number, message in enumerate(map(_unwrapped, given))}.values()
    )
    names = {"USLACKBOT": "Slackbot"} | {
        str(user.get("id")): _name(user) for user in users if isinstance(user, Mapping)
    }
    for message in messages:
        if message.get("user") and isinstance(message.get("user_profile"), Mapping):
            names.setdefault(str(message["user"]), _name(message["user_profile"]))
    for message in messages:
        for known, label in labels_in(str(message.get("text") or "")):
            names.setdefault(known, label)
    lines, left_out = [], Counter[str]()
    for message in _in_threads(messages):
        text = "" if is_notice(message) else said(message, names)
        if text:
            lines.append(f"{_author(message, names)}: {text}")
        elif any(message.get(key) for key in ("files", "upload", "attachments", "blocks")):
            left_out["media"] += 1
        else:
            left_out["notices"] += 1
    return Chat("\n".join(lines), "Slack export", dict(left_out))


def _unwrapped(message: _Message) -> _Message:
    """The message itself. Old exports keep a comment on a file inside of one that nobody wrote."""
    comment = message.get("comment")
    if message.get("subtype") != "file_comment" or not isinstance(comment, Mapping):
        return message
    return {**message, "user": comment.get("user"), "text": comment.get("comment")}


def _identity(message: _Message, number: int) -> Any:
    """What is the same of a message that the API answered twice: in the channel, and at the top of its thread."""
    own = _OWN_TS.fullmatch(str(message["ts"]))
    return tuple(str(message.get(key)) for key in ("ts", "user", "subtype", "text")) if own else number


_OWN_TS = re.compile(r"\d{10}\.\d{6}")
"""Slack's time stamps, which no two messages of a channel share. Those that other tools write may be coarser."""


def _in_threads(messages: Sequence[_Message]) -> list[_Message]:
    """Messages in order of time, each answer after the message that began its thread."""
    began = {str(message["ts"]) for message in messages}

    def place(message: _Message) -> tuple[float, float]:
        own, thread = str(message["ts"]), str(message.get("thread_ts") or "")
        # an answer that was also sent to the channel stays where the channel saw it
        under = thread if thread in began and message.get("subtype") != "thread_broadcast" else own
        return _seconds(under), _seconds(own)

    return sorted(messages, key=place)


def _seconds(ts: str) -> float:
    """A time stamp: seconds as text, or, from other tools, a date in ISO 8601."""
    try:
        return float(ts)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(ts).timestamp()
    except ValueError:
        return 0.0


def _author(message: _Message, names: Mapping[str, str]) -> str:
    user, bot = message.get("user"), message.get("bot_profile")
    if user and str(user) in names:
        return names[str(user)]
    if isinstance(user, Mapping):
        return _name(user)
    named = bot.get("name") if isinstance(bot, Mapping) else None
    return str(message.get("username") or named or user or message.get("bot_id") or "somebody")


def _name(profile: Mapping[str, Any]) -> str:
    inner = profile.get("profile")
    profiles = [profile, inner] if isinstance(inner, Mapping) else [profile]
    names = ("display_name", "real_name", "name")
    return next(
        (str(one[name]) for name in names for one in profiles if one.get(name)), str(profile.get("id", "somebody"))
    )
