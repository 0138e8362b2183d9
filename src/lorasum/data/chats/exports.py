"""Recognises the form of a chat and reads it: plain text, JSON, a transcript, or an export of a chat app."""

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorasum.config.data import Messages
from lorasum.data.chats.app_json import NoChatError, export_in, read_export, read_json
from lorasum.data.chats.chat import Chat
from lorasum.data.chats.discord_text import messages_in_rows, read_discord_text
from lorasum.data.chats.messages import are_broken, dialogue_of
from lorasum.data.chats.slack_days import is_day, read_days, read_json_file, slack_in
from lorasum.data.chats.transcripts import read_transcript
from lorasum.data.chats.whatsapp.export import read_whatsapp
from lorasum.data.chats.written import HEAD, decoded, with_plain_breaks, written
from lorasum.data.files.opening import other_than_text
from lorasum.formatting import listing

_LARGEST = 200_000_000  # bytes of a chat in a .zip: anything larger is not a chat, and may be a zip bomb


def read_chat(text: str, how: Messages | None = None) -> Chat:
    """The dialogue in a text. A text of no known form is taken as it is.

    Args:
        how: how messages become lines.

    Raises:
        NoChatError: it is JSON without a chat, or JSON that is cut off.
    """
    text = text.removeprefix("\ufeff")
    data = written(text)
    if data is not None:
        return read_json(data, how)
    if are_broken(text):
        raise NoChatError("it looks like messages in JSON, and cannot be parsed: it may be cut off")
    return _export_in(text) or Chat(text)


def dialogue_in(value: Any, how: Messages) -> str | None:
    """The dialogue in a cell of a dataset: messages, or a text, which may be an export or a transcript.

    None if it is neither.

    Raises:
        MessageError: it is a list of messages with something wrong in it.
    """
    if export := export_in(written(value) if isinstance(value, str) else value):
        return read_export(export, how).dialogue
    dialogue = dialogue_of(value, how)
    if dialogue is None or not isinstance(value, str) or not _EXPORT.match(dialogue):
        return dialogue
    chat = _export_in(dialogue)
    return chat.dialogue if chat else dialogue


def _export_in(text: str) -> Chat | None:
    return read_transcript(text) or read_discord_text(with_plain_breaks(text)) or read_whatsapp(text)


_EXPORT = re.compile(
    "[\u200e\u200f\u202a-\u202e\ufeff\\s]*"
    r"(?:[\[\d]|民[國国]|={20}|WEBVTT|WhatsApp|Messages and calls are|[^\W\d_]{2,12}\.?,? \d{1,2}\b)"  # Mar 14, 2024
)
"""Beginnings of the exports that may be in a cell. Other cells are not examined, because there are many."""


def read_bytes(content: bytes, how: Messages | None = None) -> Chat:
    """Like `read_chat`, for a file's content: UTF-8, UTF-16, or the .zip that WhatsApp makes.

    Raises:
        UnicodeDecodeError: it is text in another encoding.
        NoChatError: it is JSON, or a .zip, without a chat in it, or of another type, such as a web page.
    """
    if content.startswith(b"PK\x03\x04"):
        text = decoded(_chat_in_zip(content))
        return read_whatsapp(text, sure=True) or read_chat(text, how)
    if other := other_than_text(content[:HEAD]):
        raise NoChatError(f"it is {other[0]}, and no chat")
    return read_chat(decoded(content), how)


def read_path(path: Path, how: Messages | None = None) -> Chat:
    """The dialogue in a file, or in a channel's folder of a Slack export.

    Raises:
        OSError: it cannot be read.
        ValueError: there is no chat in it, or it is not in UTF-8; the message says what is wrong.
    """
    if path.is_dir():
        return read_folder(path, how)
    content = path.read_bytes()
    if is_day(path) and slack_in(written(decoded(content))):
        return read_days([path])
    if path.suffix.lower() in (".csv", ".tsv"):
        return _read_table(decoded(content), how)
    return read_bytes(content, how)


def _read_table(text: str, how: Messages | None) -> Chat:
    """The chat in a table with a message in each row, as DiscordChatExporter and KakaoTalk write it."""
    text = re.sub(r'\A"?sep=."?\s*', "", text.lstrip("\ufeff\r\n"))  # Excel's own first line
    delimiter = max(",;\t|", key=text.partition("\n")[0].count)
    csv.field_size_limit(_LARGEST)
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    rows = [{key: value for key, value in row.items() if isinstance(key, str)} for row in rows]
    return read_json(messages_in_rows(rows) or rows, how)


def read_folder(folder: Path, how: Messages | None = None) -> Chat:
    """The dialogue in a folder that an app exported: Slack's of one channel, WhatsApp's, Telegram's, Messenger's.

    A channel's folder has one JSON file a day. Other files there are ignored.

    Raises:
        ValueError: there is no chat in it, or several; the message says what is wrong.
        OSError: it cannot be read.
    """
    if (folder / "result.json").is_file():
        return read_path(folder / "result.json", how)
    texts = _whatsapp_texts([file.name for file in folder.glob("*.txt")])
    if len(texts) == 1:
        return read_path(folder / texts[0], how)
    parts = [read_json_file(part) for part in folder.glob("message_*.json")]
    if parts and all(isinstance(part, dict) and isinstance(part.get("messages"), list) for part in parts):
        return read_json({**parts[0], "messages": [one for part in parts for one in part["messages"]]}, how)
    days = sorted(day for day in folder.glob("*.json") if is_day(day))
    if not days:
        channels = sorted({day.parent for day in folder.glob("*/*.json") if is_day(day)})
        if len(channels) == 1:
            return read_folder(channels[0], how)
        if channels:
            names = listing([channel.name for channel in channels], 8)
            raise ValueError(f"it holds {len(channels)} channels: give the folder of one ({names})")
        raise ValueError(
            "it holds no 2024-06-03.json of Slack, result.json of Telegram, message_1.json of Messenger, "
            "or .txt file of WhatsApp"
        )
    return read_days(days)


def _whatsapp_texts(names: Sequence[str]) -> list[str]:
    """Which of the texts of an export is the chat: _chat.txt, or the one that is named after WhatsApp."""
    shown = [name for name in names if not Path(name).name.startswith("._") and not name.startswith("__MACOSX/")]
    return [name for name in shown if Path(name).name in ("_chat.txt", "_chat")] or [
        name for name in shown if "whatsapp" in name.lower()
    ]


def _chat_in_zip(content: bytes) -> bytes:
    """The text of a WhatsApp .zip: _chat.txt, or the only .txt."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as error:
        raise NoChatError("this .zip is damaged") from error
    with archive:
        names = archive.namelist()
        texts = [name for name in names if name.endswith(".txt") and not name.startswith("__MACOSX/")]
        bare = [name for name in names if not re.search(r"\.\w{1,5}$|/$", name)]  # some phones leave out .txt
        chats = _whatsapp_texts(texts) or texts or _whatsapp_texts(bare)
        if "[Content_Types].xml" in names:
            raise NoChatError("it is a document of Word or Excel: save it as text")
        if not chats and any(name.endswith(".json") for name in names):
            raise NoChatError("this .zip holds JSON: unpack it, and give the file or folder of one chat")
        if len(chats) != 1 or archive.getinfo(chats[0]).file_size > _LARGEST:
            size = archive.getinfo(chats[0]).file_size if chats else 0
            holds = f"{len(chats)} texts" if len(chats) != 1 else f"a text of {size:,} bytes"
            raise NoChatError(f"this .zip holds {holds}, not the one chat of a WhatsApp export")
        return archive.read(chats[0])
