"""Finds what people saw of one of Slack's messages: its text or its blocks, its boxes, and messages passed on. Pure.

https://api.slack.com/reference/block-kit/blocks lists the blocks,
https://api.slack.com/reference/messaging/attachments the keys of boxes (attachments).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lorasum.data.chats.quoting import quoted, sense_of, words_in
from lorasum.data.chats.written import objects

_Object = Mapping[str, Any]

_MARK = re.compile(r"<([@#!]?)([^|<>]*)(?:\|([^<>]*))?>")
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
_UPLOADED = re.compile(r"<@[^<>]+> uploaded a file: <[^<>]+>(?: and commented: )?", re.IGNORECASE)
"""What old exports write in front of a comment on a file."""
_NO_WORDS = re.compile(r"\[no preview available\]|This content can't be displayed\.")
"""What Slack itself writes where an app gives it blocks and no text."""
_FALLBACK_HEAD = re.compile(r"\A\[[^\]\n]{1,60}\d:\d\d[^\]\n]{0,20}\] [^:\n]{1,80}: ")
"""What stands before the text of a message that is passed on: `[June 3rd, 2024 10:00 AM] ben: `."""
_NAMED = {
    "channel": ("#", "channel_id"),
    "usergroup": ("@", "usergroup_id"),
    "user": ("@", "user_id"),
    "broadcast": ("@", "range"),
    "date": ("", "fallback"),
}
"""Parts of a block that name something: the sign before it, and the key that has it."""


def said(message: _Object, names: Mapping[str, str]) -> str:
    """The words of a message: what its author says, and the messages that it passes on."""
    by_app = bool(message.get("bot_id")) or message.get("subtype") == "bot_message"
    own = _shown(_UPLOADED.sub("", _stripped(message.get("text"))), message.get("blocks"), names, by_app)
    pieces, known = [own], {sense_of(own)}
    for box in objects(message.get("attachments")):
        if not _is_share(box) and (not own or (by_app and not box.get("from_url"))):
            pieces += _of_box(box, names, known)
    shared = (_passed_on(box, names) for box in objects(message.get("attachments")) if _is_share(box))
    shares = [*dict.fromkeys(shared)]  # a message that was passed on with its link has two boxes
    if not any(pieces) and not any(shares):
        files = objects(message.get("files"))
        pieces = [_plain(_stripped((file.get("initial_comment") or {}).get("comment")), names) for file in files]
    return "\n".join(part for part in (" ".join(filter(None, pieces)), *shares) if part).strip()


def labels_in(text: str) -> Iterator[tuple[str, str]]:
    """The names of channels, groups and people that their marks in a text tell, after their ids: `<#C01|ops>`."""
    for kind, what, label in (mark.groups() for mark in _MARK.finditer(text)):
        if label and (kind in ("@", "#") or (kind == "!" and what.startswith("subteam^"))):
            yield what.removeprefix("subteam^"), label.removeprefix("@")


def _stripped(text: Any) -> str:
    return text.strip() if isinstance(text, str) else ""


def _shown(text: str, blocks: Any, names: Mapping[str, str], by_app: bool) -> str:
    """What the app shows: a text, or blocks. Beside the blocks of an app, the text is for notifications alone.

    What people write has the same words in both. So has much of what apps write, and a text keeps its line breaks.
    """
    built = {str(block.get("type")) for block in objects(blocks)} - {"rich_text"}
    plain = "" if (by_app or built) and _NO_WORDS.fullmatch(text) else _plain(text, names)
    if plain and not by_app and built <= {"image"}:
        return plain
    of_blocks = _plain(_of_blocks(blocks, names), names)
    return plain if plain and {*words_in(of_blocks)} <= {*words_in(plain)} else of_blocks or plain


def _is_share(box: _Object) -> bool:
    return bool(box.get("is_share") or box.get("is_msg_unfurl"))


def _passed_on(box: _Object, names: Mapping[str, str]) -> str:
    """A message that somebody passes on or links to, quoted with who wrote it: `> Ben: I am late`."""
    held = [one["message"] for one in objects(box.get("message_blocks")) if isinstance(one.get("message"), Mapping)]
    blocks = [block for message in held for block in objects(message.get("blocks"))]
    text = _shown(_stripped(box.get("text")), blocks, names, by_app=False)
    own = _plain(_of_blocks([one for one in objects(box.get("blocks")) if one not in blocks], names), names)
    own = "" if {*words_in(own)} <= {*words_in(text)} else own
    parts = _parts(box, ("pretext", "title"), text, own, names)
    text = " ".join(_new(parts, set())) or _FALLBACK_HEAD.sub("", _plain(_fallback(box), names))
    author = names.get(str(box.get("author_id"))) or box.get("author_name") or box.get("author_subname")
    return quoted(str(author), text) if text and author else text


def _of_box(box: _Object, names: Mapping[str, str], known: set[tuple[str, ...]]) -> Iterator[str]:
    """The words in a box of an app, but none that stand before it already: many have the same words in both."""
    text, blocks = _plain(_stripped(box.get("text")), names), _plain(_of_blocks(box.get("blocks"), names), names)
    parts = _parts(box, ("pretext", "author_name", "title"), text, blocks, names) or [_plain(_fallback(box), names)]
    if sense_of(" ".join(parts)) not in known:
        yield from _new(parts, known)


def _parts(box: _Object, keys: tuple[str, ...], text: str, blocks: str, names: Mapping[str, str]) -> list[str]:
    """The parts of a box in the order in which they are shown."""
    fields = (f"{one.get('title') or ''}: {one.get('value') or ''}".strip(": ") for one in objects(box.get("fields")))
    above = (_plain(_stripped(box.get(key)), names) for key in keys)
    return [part for part in (*above, text, *(_plain(field, names) for field in fields), blocks) if part]


def _new(parts: list[str], known: set[tuple[str, ...]]) -> Iterator[str]:
    """The parts whose words are not known, which then are."""
    for part in parts:
        if part and (sense := sense_of(part)) not in known:
            known.add(sense)
            yield part


def _fallback(box: _Object) -> str:
    return _NO_WORDS.sub("", _stripped(box.get("fallback"))).strip()


def _of_blocks(blocks: Any, names: Mapping[str, str]) -> str:
    """The words in Block Kit's blocks, which may be nested."""
    parts = []
    for block in objects(blocks):
        kind, text = str(block.get("type")), block.get("text")
        if kind == "link":
            parts.append(str(text or block.get("url") or ""))
        elif kind == "emoji":
            parts.append(f":{block.get('name')}:")
        elif kind in _NAMED:
            sign, key = _NAMED[kind]
            name = str(block.get(key) or "")
            parts.append(sign + names.get(name, name))
        elif isinstance(text, str):
            parts.append(text)
        elif isinstance(text, Mapping):
            parts.append(str(text.get("text") or ""))
        rows = block.get("rows")
        about = [one for one in (block.get("title"), block.get("description")) if isinstance(one, Mapping)]
        inner = (block.get("elements"), block.get("fields"), *(rows if isinstance(rows, list) else ()))
        parts += [_of_blocks(part, names) for part in (about, *(() if kind in ("actions", "image") else inner))]
    runs = any(block.get("type") in ("text", "link", "emoji", *_NAMED) for block in objects(blocks))
    return ("" if runs else " ").join(part for part in parts if part)


def _plain(text: str, names: Mapping[str, str]) -> str:
    """`text` with mentions, channels and links as people see them."""

    def shown(match: re.Match[str]) -> str:
        kind, what, label = match.groups()
        if kind == "@":
            return "@" + names.get(what, label or what)
        if kind == "#":
            return "#" + (label or names.get(what, what))
        if kind == "!":
            what = what.split("^")[-1 if what.startswith("subteam") else 0]
            return label or "@" + names.get(what, what)
        return label or what.removeprefix("mailto:")

    text = _MARK.sub(shown, text)
    for escaped, plain in _ENTITIES:
        text = text.replace(escaped, plain)
    return text
