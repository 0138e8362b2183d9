"""Reads what DiscordChatExporter writes as plain text and as CSV. Pure.

Its PlainTextMessageWriter.cs has the form, and PlainTextMessageExtensions.cs the sentences of notices.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lorasum.data.chats.chat import Chat

_ABOVE = re.compile(r"\s*={20,}\nGuild: .*\n(?:.*\n){1,6}?={20,}\n")
_END = re.compile(r"\n={20,}\nExported [\d.,\s]+ message\(s\)\n={20,}\s*\Z")
_HEAD = re.compile(r"(?:\A\n*|\n\n+)\[(?=[^\[\]\n]*\d[:.]\d\d)([^\[\]\n]{8,40})\] (\S[^\n]*?)(?: \(pinned\))?(?=\n)")
_EXTRAS = re.compile(r"^\{(Attachments|Embed|Stickers|Reactions|Forwarded Message)\}$", re.MULTILINE)
_SENT = re.compile(r"^Originally sent: .*\n*\Z", re.MULTILINE)
"""The last line of a message that is passed on."""
_NOTICE = re.compile(
    r"(?:Joined the server|Pinned a message|Left the group|Changed the channel (?:icon|name)|Started a thread"
    r"|(?:Added|Removed) a recipient|Started a call that lasted -?[\d,]+ minutes)\."
)
_IN_GROUPS = re.compile(r"Added .+ to the group\.|Removed .+ from the group\.|Changed the channel name: .+")
"""Notices of groups and threads. Elsewhere a person may have written them."""
_OF_GROUP = re.compile(r"Guild: Direct Messages\n|Channel: .+ / .+ / ")
_COLUMNS = {"AuthorID", "Author", "Date", "Content"}


def read_discord_text(text: str) -> Chat | None:
    """The chat in what DiscordChatExporter writes as plain text; None if `text` is none, or its dates have no time.

    [03/06/2024 18:01] wilma
    who tests?
    """
    if not (above := _ABOVE.match(text)):
        return None
    body = _END.sub("", text[above.end() :])
    heads = [*_HEAD.finditer(body)]
    heads = [head for head in heads if _form(head[1]) == _form(heads[0][1])]  # people paste lines of logs
    if not heads and body.strip():
        return None
    of_group = bool(_OF_GROUP.search(above[0]))
    lines, left_out = [], Counter[str]()
    for head, end in zip(heads, [*(head.start() for head in heads[1:]), len(body)], strict=False):
        said = _said(body[head.end() : end])
        notice = _NOTICE.fullmatch(said) or (of_group and _IN_GROUPS.fullmatch(said))
        if said and not notice:
            lines.append(f"{head[2]}: {said}")
        else:
            left_out["notices" if said else "media"] += 1
    return Chat("\n".join(lines), "Discord export", dict(left_out))


def _said(written: str) -> str:
    """What a message says: its text, what it passes on, and its boxes, unless they show the page behind a link."""
    text, *extras = _EXTRAS.split(written)
    parts = [*zip(extras[::2], extras[1::2], strict=True)]
    said = [text.strip(), *(_SENT.sub("", held).strip() for kind, held in parts if kind == "Forwarded Message")]
    said = [part for part in said if part]
    if not any("://" in part for part in said):
        said += [" ".join(held.split()) for kind, held in parts if kind == "Embed"]
    return " ".join(said)


def _form(time: str) -> str:
    """The signs between a time's words and numbers: `// :` of `6/3/2024 6:01`."""
    return re.sub(r"\w+", "", time)


def messages_in_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """The rows of a table as messages of Discord; None if DiscordChatExporter did not write it."""
    if not rows or not all(row.keys() >= _COLUMNS for row in rows):
        return None
    return [
        {
            "type": "Notice" if _NOTICE.fullmatch((row["Content"] or "").strip()) else "Default",
            "timestamp": row["Date"],
            "author": {"id": row["AuthorID"], "name": row["Author"]},
            "content": row["Content"] or "",
        }
        for row in rows
    ]
