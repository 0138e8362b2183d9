"""Recognises the form of a chat and reads it: plain text, JSON, a transcript, or an export of a chat app."""

import codecs
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from lorasum.config.data import Messages
from lorasum.data.chats.app_json import NoChatError, read_json
from lorasum.data.chats.chat import Chat
from lorasum.data.chats.messages import dialogue_of
from lorasum.data.chats.slack import is_slack, read_slack
from lorasum.data.chats.transcripts import read_transcript
from lorasum.data.chats.whatsapp.export import read_whatsapp

_LARGEST = 200_000_000  # bytes of a chat in a .zip: anything larger is no chat, and may be a zip bomb
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def read_chat(text: str, how: Messages | None = None) -> Chat:
    """The dialogue in a text. A text of no known form is taken as it is.

    Args:
        how: how messages become lines.

    Raises:
        NoChatError: it is JSON without a chat.
    """
    text = text.removeprefix("\ufeff")
    data = _json(text)
    if data is not None:
        return read_json(data, how)
    return read_transcript(text) or read_whatsapp(text) or Chat(text)


def dialogue_in(value: Any, how: Messages) -> str | None:
    """The dialogue in a cell of a dataset: messages, or a text, which may be an export or a transcript.

    None if it is neither.

    Raises:
        MessageError: it is a list of messages with something wrong in it.
    """
    dialogue = dialogue_of(value, how)
    if dialogue is None or not isinstance(value, str) or not _EXPORT.match(dialogue):
        return dialogue
    chat = read_transcript(dialogue) or read_whatsapp(dialogue)
    return chat.dialogue if chat else dialogue


_EXPORT = re.compile("[\u200e\u200f\u202a-\u202e\ufeff\\s]*(?:[\\[\\d]|WEBVTT)")
"""Beginnings of the exports that may be in a cell. Other cells are not examined, because there are many."""


def read_bytes(content: bytes, how: Messages | None = None) -> Chat:
    """Like `read_chat`, for a file's content: UTF-8, UTF-16 with a byte order mark, or the .zip that WhatsApp makes.

    Raises:
        UnicodeDecodeError: it is text in another encoding.
        NoChatError: it is JSON, or a .zip, without a chat in it.
    """
    if content.startswith(b"PK\x03\x04"):
        text = _decoded(_chat_in_zip(content))
        return read_whatsapp(text, sure=True) or read_chat(text, how)
    return read_chat(_decoded(content), how)


def read_path(path: Path, how: Messages | None = None) -> Chat:
    """The dialogue in a file, or in a channel's folder of a Slack export.

    Raises:
        OSError: it cannot be read.
        ValueError: there is no chat in it, or it is not in UTF-8; the message says what is wrong.
    """
    if path.is_dir():
        return read_folder(path, how)
    content = path.read_bytes()
    if path.suffix == ".json" and _DAY.fullmatch(path.stem) and is_slack(day := _json(_decoded(content))):
        return read_slack(day, _users(path.parent))
    return read_bytes(content, how)


def read_folder(folder: Path, how: Messages | None = None) -> Chat:
    """The dialogue in a folder that an app exported: Slack's of one channel, WhatsApp's, Telegram's, Messenger's.

    A channel's folder has one JSON file a day. Other files there are passed over.

    Raises:
        ValueError: there is no chat in it, or several; the message says what is wrong.
        OSError: it cannot be read.
    """
    for name in ("_chat.txt", "result.json"):
        if (folder / name).is_file():
            return read_path(folder / name, how)
    parts = [_read_json(part) for part in folder.glob("message_*.json")]
    if parts and all(isinstance(part, dict) and isinstance(part.get("messages"), list) for part in parts):
        return read_json({**parts[0], "messages": [one for part in parts for one in part["messages"]]}, how)
    days = sorted(day for day in folder.glob("*.json") if _DAY.fullmatch(day.stem))
    if not days:
        channels = sorted({day.parent for day in folder.glob("*/*.json") if _DAY.fullmatch(day.stem)})
        if len(channels) == 1:
            return read_folder(channels[0], how)
        if channels:
            names = ", ".join(channel.name for channel in channels[:8])
            raise ValueError(f"it holds {len(channels)} channels: give the folder of one ({names})")
        raise ValueError("it holds no 2024-06-03.json or the like, as a channel's folder of a Slack export does")
    messages: list[Any] = []
    for day in days:
        read = _read_json(day)
        if read and not is_slack(read):
            raise ValueError(f"{day.name} holds no Slack messages")
        messages += read
    return read_slack(messages, _users(folder))


def _users(channel: Path) -> list[Any]:
    """The users of a Slack export, from users.json beside the channel's folder."""
    files = (channel.parent / "users.json", channel.parent / "org_users.json")
    known = [_read_json(file) for file in files if file.is_file()]
    return [user for users in known if isinstance(users, list) for user in users]


def _decoded(content: bytes) -> str:
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON in UTF-8 ({error})") from error


def _json(text: str) -> Any:
    """The object or list in a JSON text. Objects on a line each become a list. None if the text is no JSON."""
    bare = text.strip()
    if not bare.startswith(("{", "[")) or not bare.endswith(("}", "]")):
        return None
    try:
        return json.loads(bare)
    except (ValueError, RecursionError):
        pass
    try:
        rows = [json.loads(line) for line in bare.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None


def _chat_in_zip(content: bytes) -> bytes:
    """The text of a WhatsApp .zip: _chat.txt, or the only .txt."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as error:
        raise NoChatError("this .zip is damaged") from error
    with archive:
        texts = [
            entry
            for entry in archive.infolist()
            if entry.filename.endswith(".txt") and not entry.filename.startswith("__MACOSX/")
        ]
        chats = [entry for entry in texts if Path(entry.filename).name == "_chat.txt"] or [
            entry for entry in texts if "whatsapp" in entry.filename.lower()
        ]
        chats = chats or texts
        if len(chats) != 1 or chats[0].file_size > _LARGEST:
            holds = f"{len(chats)} texts" if len(chats) != 1 else f"a text of {chats[0].file_size:,} bytes"
            raise NoChatError(f"this .zip holds {holds}, not the one chat of a WhatsApp export")
        return archive.read(chats[0])
