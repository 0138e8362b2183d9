"""Turns Slack's messages into a dialogue, with names, threads in order, and links as people see them. Pure functions.

https://api.slack.com/events/message lists the subtypes, https://api.slack.com/reference/surfaces/formatting the marks.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from lorasum.data.chats.chat import Chat
from lorasum.data.chats.unsaid import is_notice
from lorasum.data.chats.written import objects

_Message = Mapping[str, Any]

_MARK = re.compile(r"<([@#!]?)([^|<>]*)(?:\|([^<>]*))?>")
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


_UPLOADED = re.compile(r"<@[^<>]+> uploaded a file: <[^<>]+>(?: and commented: )?", re.IGNORECASE)
"""What old exports write in front of a comment on a file."""


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
    lines, left_out = [], Counter[str]()
    for message in _in_threads(messages):
        text = "" if is_notice(message) else _said(message, names)
        if text:
            lines.append(f"{_author(message, names)}: {text}")
        elif message.get("files") or message.get("upload"):
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


def _said(message: _Message, names: Mapping[str, str]) -> str:
    """The words of a message: its text, or those of its blocks and attachments. A bot's message has both."""
    parts = [_UPLOADED.sub("", str(message.get("text") or "").strip())]
    if not parts[0]:
        parts = [_of_blocks(message.get("blocks"), names)]
    if not parts[0] or message.get("bot_id") or message.get("subtype") == "bot_message":
        boxes = (box for box in objects(message.get("attachments")) if not (parts[0] and box.get("from_url")))
        parts += [_of_attachment(box, names) for box in boxes]
    if not any(parts):
        parts = [
            str((file.get("initial_comment") or {}).get("comment") or "") for file in objects(message.get("files"))
        ]
    return _plain(" ".join(part for part in parts if part), names).strip()


def _of_attachment(attachment: _Message, names: Mapping[str, str]) -> str:
    own = (attachment.get(key) for key in ("pretext", "title", "text"))
    parts = [part for part in own if isinstance(part, str) and part]
    fields = [f"{field.get('title', '')}: {field.get('value', '')}" for field in objects(attachment.get("fields"))]
    blocks = _of_blocks(attachment.get("blocks"), names)
    return " ".join([*parts, *fields, *([blocks] if blocks else [])]) or str(attachment.get("fallback") or "")


def _of_blocks(blocks: Any, names: Mapping[str, str]) -> str:
    """The words in Block Kit's blocks, which may be nested."""
    parts = []
    for block in objects(blocks):
        kind, text = block.get("type"), block.get("text")
        if kind == "user":
            parts.append("@" + names.get(str(block.get("user_id")), str(block.get("user_id"))))
        elif kind == "link":
            parts.append(str(text or block.get("url") or ""))
        elif kind == "emoji":
            parts.append(f":{block.get('name')}:")
        elif kind in _NAMED:
            sign, key = _NAMED[kind]
            parts.append(f"{sign}{block.get(key) or ''}")
        elif isinstance(text, str):
            parts.append(text)
        elif isinstance(text, Mapping):
            parts.append(str(text.get("text") or ""))
        rows = block.get("rows")
        inner = (block.get("elements"), block.get("fields"), *(rows if isinstance(rows, list) else ()))
        inner = inner if kind not in ("actions", "image") else ()
        parts += [_of_blocks(part, names) for part in inner]
    runs = any(block.get("type") in ("text", "user", "link", "emoji", *_NAMED) for block in objects(blocks))
    return ("" if runs else " ").join(part for part in parts if part)


_NAMED = {
    "channel": ("#", "channel_id"),
    "usergroup": ("@", "usergroup_id"),
    "broadcast": ("@", "range"),
    "date": ("", "fallback"),
}
"""Parts of a block that name something: the sign before it, and the key that has it."""


def _plain(text: str, names: Mapping[str, str]) -> str:
    """`text` with mentions, channels and links as people see them."""

    def shown(match: re.Match[str]) -> str:
        kind, what, label = match.groups()
        if kind == "@":
            return "@" + names.get(what, label or what)
        if kind == "#":
            return "#" + (label or what)
        if kind == "!":
            return label or "@" + what.split("^")[-1 if what.startswith("subteam") else 0]
        return label or what.removeprefix("mailto:")

    text = _MARK.sub(shown, text)
    for escaped, plain in _ENTITIES:
        text = text.replace(escaped, plain)
    return text


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
