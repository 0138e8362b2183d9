"""Chats as people export them, to dialogues: WhatsApp's text file and Slack's JSON. Pure, but for reading a folder."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# [31.12.23, 18:05:09] Ana: hi      12/31/23, 6:05 PM - Ana: hi
_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? +\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[\s\u202f]?[AaPp]\.?[Mm]\.?)?"
_WHATSAPP = re.compile(rf"^[\u200e\u200f]?(?:\[{_DATE}\] |{_DATE} - )(?:([^:\n]{{1,60}}): )?(.*)$")
_MEDIA = re.compile(r"^[\u200e\u200f]*<?(?:Media omitted|\w+ omitted|attached: [^>]*)>?$", re.IGNORECASE)
_LEAST_SHARE = 0.5  # of a chat's lines that must begin a message: the others go on with one
_MENTION = re.compile(r"<@([UW][A-Z0-9]+)(?:\|([^>]*))?>")
_LINK = re.compile(r"<(?:mailto:)?([^|>]+)(?:\|([^>]*))?>")


def read_chat(text: str) -> tuple[str, str]:
    """The dialogue in a text, and what it was: `WhatsApp export`, `Slack export`, or empty for text as it is."""
    if text.lstrip("\ufeff \n").startswith("[{") or text.lstrip("\ufeff \n").startswith("[\n"):
        try:
            messages = json.loads(text.removeprefix("\ufeff"))
        except ValueError:
            messages = None
        if is_slack(messages):
            return slack(messages), "Slack export"
    lines = [line for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    begun = sum(1 for line in lines if _WHATSAPP.match(line))
    if lines and _WHATSAPP.match(lines[0]) and begun >= _LEAST_SHARE * len(lines):
        return whatsapp(lines), "WhatsApp export"
    return text, ""


def read_folder(folder: Path) -> str:
    """The dialogue in a channel's folder of a Slack export: one JSON file a day.

    Raises:
        ValueError: there are no such files in it; the message says what is wrong.
        OSError: it cannot be read.
    """
    days = sorted(folder.glob("*.json"))
    if not days:
        raise ValueError("it holds no .json files, as a channel's folder of a Slack export does")
    messages: list[Any] = []
    for day in days:
        try:
            read = json.loads(day.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{day.name} is not JSON in UTF-8 ({error})") from error
        if not is_slack(read):
            raise ValueError(f"{day.name} holds no Slack messages")
        messages += read
    users = folder.parent / "users.json"
    known = json.loads(users.read_text(encoding="utf-8")) if users.is_file() else []
    return slack(messages, {str(user.get("id")): _name(user) for user in known if isinstance(user, dict)})


def is_slack(messages: Any) -> bool:
    """Whether decoded JSON is a list of Slack's messages, which all have a time stamp `ts`."""
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(message, Mapping) and "ts" in message for message in messages)
    )


def slack(messages: list[Mapping[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """One line a message, in the order of their time stamps; who joined or left is no message.

    Args:
        names: user id → name, for authors whose messages carry no profile.
    """
    known = dict(names or {})
    for message in messages:
        if message.get("user") and isinstance(message.get("user_profile"), Mapping):
            known.setdefault(str(message["user"]), _name(message["user_profile"]))
    lines = []
    for message in sorted(messages, key=lambda message: float(message["ts"])):
        text = str(message.get("text") or "").strip()
        if not text or message.get("subtype") not in (None, "thread_broadcast", "bot_message", "me_message"):
            continue
        user = str(message.get("user") or message.get("username") or message.get("bot_id") or "somebody")
        text = _MENTION.sub(lambda found: "@" + known.get(found[1], found[2] or found[1]), text)
        text = _LINK.sub(lambda found: found[2] or found[1], text)
        for escaped, plain in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            text = text.replace(escaped, plain)
        lines.append(f"{known.get(user, user)}: {text}")
    return "\n".join(lines)


def whatsapp(lines: list[str]) -> str:
    """One line a message, without date; notices of the app and pictures left out are no messages."""
    said: list[str] = []
    skipping = False
    for line in lines:
        begun = _WHATSAPP.match(line)
        if not begun:
            if said and not skipping:
                said[-1] += f" {line.strip()}"
            continue
        speaker, text = begun[1], begun[2].strip("\u200e\u200f ")
        skipping = speaker is None or not text or bool(_MEDIA.match(text))
        if not skipping:
            said.append(f"{speaker}: {text}")
    return "\n".join(said)


def _name(profile: Mapping[str, Any]) -> str:
    inner = profile.get("profile")
    found = [profile, inner] if isinstance(inner, Mapping) else [profile]
    names = ("display_name", "real_name", "name")
    return next(
        (str(one[name]) for name in names for one in found if one.get(name)), str(profile.get("id", "somebody"))
    )
