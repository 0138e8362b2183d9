"""Reads the files of one channel of a Slack export: one JSON file a day, and users.json."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorasum.data.chats.chat import Chat
from lorasum.data.chats.message import has_text
from lorasum.data.chats.slack import is_slack, read_slack
from lorasum.data.chats.written import decoded, written

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def is_day(path: Path) -> bool:
    """Whether a file is named as a day of a channel: 2024-06-03.json."""
    return path.suffix == ".json" and bool(_DAY.fullmatch(path.stem))


def read_days(days: Sequence[Path]) -> Chat:
    """The dialogue in the days of one channel. Empty files are counted.

    Raises:
        ValueError: one of them holds something else, which would be lost; the message names it.
        OSError: one of them cannot be read.
    """
    messages: list[Any] = []
    empty = 0
    for day in days:
        read = slack_in(read_json_file(day))
        if read is None:
            raise ValueError(f"{day.name} holds no Slack messages, or other text beside them")
        messages += read
        empty += not read
    chat = read_slack(messages, _users(days[0].parent))
    return replace(chat, left_out={**chat.left_out, "empty files": empty}) if empty else chat


def slack_in(data: Any) -> list[Any] | None:
    """The messages in decoded JSON: a list, what the API answers, or one message; None if anything else would be lost.

    Entries without words, such as a canvas, are passed over.
    """
    if isinstance(data, dict):
        data = data.get("messages", [data] if data else [])
    if not data:
        return []
    if not isinstance(data, list):
        return None
    messages = [one for one in data if isinstance(one, dict) and "ts" in one]
    others = [one for one in data if one and not (isinstance(one, dict) and "ts" in one)]
    lost = any(not isinstance(one, dict) or has_text(one) or "blocks" in one for one in others)
    return messages if is_slack(messages) and not lost else None


def _users(channel: Path) -> list[Any]:
    """The users of a Slack export: users.json beside the channel's folder or in it, of an export or of the API."""
    files = (folder / name for folder in (channel, channel.parent) for name in ("users.json", "org_users.json"))
    known = [read_json_file(file) for file in files if file.is_file()]
    lists = (users.get("members") if isinstance(users, dict) else users for users in known)
    return [user for users in lists if isinstance(users, list) for user in users]


def read_json_file(path: Path) -> Any:
    """Decoded JSON, or the list of objects of JSON lines; None if the file is empty.

    Raises:
        ValueError: it is neither.
    """
    try:
        text = decoded(path.read_bytes()).removeprefix("\ufeff")
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:
        if not isinstance(error, UnicodeDecodeError) and (lines := written(text)) is not None:
            return lines
        raise ValueError(f"{path.name} is not JSON in UTF-8 ({error})") from error
