"""Turns a WhatsApp export into a dialogue: one line a message, without dates, notices and pictures. Pure functions.

WhatsApp writes one message as `DATE, TIME - NAME: TEXT` (Android) or `[DATE, TIME] NAME: TEXT` (iPhone), with dates and
times in the form of the phone's language. A line without such a beginning continues the message above. An iPhone puts
notices under a name too, and marks them with U+200E (U+200F in right-to-left languages) in front of the text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lorasum.data.chats.chat import Chat
from lorasum.data.chats.whatsapp import notices
from lorasum.data.chats.whatsapp.lines import Form, first_message, read_head
from lorasum.data.chats.whatsapp.text import (
    POLL,
    bare_text,
    has_any,
    is_file_name,
    is_in_place,
    without_edited,
    without_forwarded,
    without_media,
    without_tag,
)


class _Message(NamedTuple):
    """A line with a date, and the lines that continue it. `mark` is the app's mark in front of the line."""

    name: str | None
    lines: list[str]
    mark: str


def read_whatsapp(text: str, sure: bool = False) -> Chat | None:
    """The chat in an export, or None if `text` is none: other text with dates stays as it is.

    Args:
        sure: it is known to be an export, as in a .zip that WhatsApp made.
    """
    text = text.strip().replace("\r\n", "\n").replace("\r", "\n")
    start = first_message(text)
    if start is None:
        return None
    above, form = start
    lines = text.split("\n")
    title = [bare_text(line) for line in lines[:above] if bare_text(line)]
    messages = _with_names(list(_messages(lines[above:], form)))
    signs = _signs(messages, form)
    if any(has_any(notices.ENCRYPTED, line) for line in title):
        sure, title = True, []  # WhatsApp's web page writes its notices above the messages, without a date
    sure = sure or _has_trace_of_the_app(messages, signs)
    if not sure and (title or form.loose or not _could_be_chat(messages)):
        return None
    messages = _without_names_of_notices(messages)
    said, left_out = title, Counter[str]()
    speakers = {message.name for message in messages if message.name}
    for message in messages:
        if message.name is None and not sure and not _is_notice(message, speakers):
            said.append(" ".join(bare_text(line) for line in message.lines if bare_text(line)))
            continue
        spoken, dropped = _spoken(message, signs)
        left_out.update(dropped)
        if spoken:
            said.append(f"{message.name}: {spoken}" if message.name else spoken)
    return Chat("\n".join(said), "WhatsApp export", dict(left_out))


def _without_names_of_notices(messages: list[_Message]) -> list[_Message]:
    """The messages, without a name where an iPhone's notices were copied without their marks.

    The first notice stands under the name of the contact or of the group; a group writes nothing but notices.
    """
    first = messages[0]
    if not has_any(notices.ENCRYPTED, first.lines[0]) or len(first.lines[0]) <= _SHORTEST_SENTENCE:
        return messages
    members = {message.name for message in messages if message.name} - {first.name}
    by_first = [message for message in messages[1:] if message.name == first.name]
    is_group = len(members) > 1 and all(_is_notice(message, set()) for message in by_first)
    return [
        message._replace(name=None) if message is first or (is_group and message.name == first.name) else message
        for message in messages
    ]


_SHORTEST_SENTENCE = 40  # characters: shorter talk of encryption is a person's


def _messages(lines: Iterable[str], form: Form) -> Iterator[_Message]:
    current: _Message | None = None
    for line in lines:
        if head := read_head(line, form):
            if current:
                yield current
            current = _Message(head.name, [head.text], head.mark)
        elif current:
            current.lines.append(line)
    if current:
        yield current


def _with_names(messages: list[_Message]) -> list[_Message]:
    """The messages, also with the name of somebody who speaks elsewhere where no blank follows it: `Ana:hi`."""
    speakers = {message.name for message in messages if message.name}
    named: list[_Message] = []
    for message in messages:
        name, colon, text = message.lines[0].partition(":") if message.name is None else ("", "", "")
        known = colon and bare_text(name) in speakers
        named.append(_Message(bare_text(name), [text, *message.lines[1:]], message.mark) if known else message)
    return named


def _signs(messages: list[_Message], form: Form) -> tuple[str, ...]:
    """The marks that make a text a notice in this file: an iPhone's, and the one of its direction of writing.

    On other phones they stand before people's words too: keyboards for Arabic and Urdu write them.
    """
    if not form.bracket:
        return ()
    first = messages[0].lines[0]
    rightwards = any(message.mark == "\u200f" for message in messages) or (
        first.startswith("\u200f") and has_any(notices.ENCRYPTED, first)
    )
    return ("\u200e", "\u200f") if rightwards else ("\u200e",)


def _has_trace_of_the_app(messages: list[_Message], signs: tuple[str, ...]) -> bool:
    """Whether the text holds something that only WhatsApp writes: a mark, a placeholder or the notice of encryption."""
    return any(message.name is not None for message in messages) and any(
        message.mark
        or message.lines[0].startswith(signs)
        or (message.name is None and has_any(notices.ENCRYPTED, message.lines[0]))
        or (
            message.name is not None
            and (is_in_place(message.lines[0], bool(signs)) or without_media(message.lines[0]) is not None)
        )
        or without_edited(message.lines[-1]) != message.lines[-1]
        for message in messages
    )


_NO_NAMES = re.compile(
    r"(?:info|warn|warning|error|debug|trace|fatal|critical|notice|severe|verbose)\b.*|.*\[\d+\]|\[.*|\S+[./\\]\S+|<.*>"
    r"|.*\w{5,}[.!?] \S.*",  # a sentence, not `Dr. Meier`
    re.IGNORECASE,
)


_SPEAKS = re.compile(r"\w[^:]{0,30}: ")


def _could_be_chat(messages: list[_Message]) -> bool:
    """Whether lines with dates look like people who talk, rather than a log, a diary or the notes of a meeting.

    Most lines have a name, and none is that of a program. Some name comes again, or no line below a date begins
    with a name, as the lines of a protocol do.
    """
    names = [message.name for message in messages if message.name is not None]
    distinct = set(names)
    notices = sum(1 for message in messages if message.name is None and _is_notice(message, distinct))
    unclear = len(messages) - len(names) - notices
    if not names or unclear * 3 > len(messages) or any(_NO_NAMES.fullmatch(name) for name in distinct):
        return False
    more = (bare_text(line) for message in messages for line in message.lines[1:])
    return len(distinct) < len(names) or not any(_SPEAKS.match(line) for line in more)


_LEFT = re.compile(
    r"\+?\d[\d ()-]{6,}|you (?:were|are|added|left|created|changed|removed|joined)\b|.{1,40} left$", re.I
)


def _is_notice(message: _Message, speakers: set[str]) -> bool:
    """Whether a line without a name is about the group or one of its members, such as `Ana left`."""
    text = bare_text(message.lines[0])
    if _LEFT.match(text) or has_any((*notices.ENCRYPTED, *notices.GROUP), text):
        return True
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in speakers)


def _is_form(first: str, more: list[str], signs: tuple[str, ...]) -> bool:
    """Whether somebody filled in a poll or an event: the app marks the names of its fields, such as `DATE:`."""
    return bool(POLL.fullmatch(bare_text(first))) or any(line.startswith(signs) for line in more)


def _spoken(message: _Message, signs: tuple[str, ...]) -> tuple[str, list[str]]:
    """The text that a person wrote in a message, and the kinds of what was left out: `notices`, `media`."""
    if message.name is None or message.lines[0] == "null":  # what Android writes for a view-once photo
        more = [bare_text(line) for line in message.lines[1:]]
        return " ".join(line for line in more if line), ["notices"]
    first, *more = message.lines
    dropped: list[str] = []
    spoken: list[str] = []
    for number, line in enumerate((without_forwarded(first), *more)):
        is_first = number == 0
        caption = without_media(line, marked=is_first and message.mark in signs)
        if caption is not None:
            dropped.append("media")
            spoken.append(caption)
        elif is_first and (
            is_in_place(line, on_iphone=bool(signs)) or (line.startswith(signs) and not _is_form(line, more, signs))
        ):
            dropped.append("notices")
        elif not (dropped == ["media"] and not any(spoken) and is_file_name(bare_text(line))):
            spoken.append(without_tag(line))
    return without_edited(" ".join(line for line in spoken if line)), dropped
