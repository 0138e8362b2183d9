"""A chat as WhatsApp exports it, to a dialogue: one line a message, without dates, notices and pictures. Pure.

WhatsApp writes one message as `DATE, TIME - NAME: TEXT` (Android) or `[DATE, TIME] NAME: TEXT` (iPhone), with dates and
times in the form of the phone's language. Lines without such a beginning go on with the message above. An iPhone puts
notices under a name too, and marks them with U+200E (U+200F in right-to-left languages) in front of the text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from lorasum.data import whatsapp_words as words
from lorasum.data.chat import Chat

_MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
"""Characters that have no shape: directions of writing, and the mark at the beginning of a file."""
_NO_MARKS = str.maketrans(dict.fromkeys(_MARKS) | dict.fromkeys("\u00a0\u202f\u2009\u2007", " "))
_APP = "\u200e\u200f"
"""The marks in front of what the app writes."""

_WORD = r"[^\W\d_]{3,12}"
_DATES = (
    r"[A-Z]?\d{1,4}(?:\. ?\d{1,4}\. ?|/\d{1,4}/|-\d{1,4}-| \d{1,2} )[A-Z]?\d{1,4}\.?"  # 14/3/24, 2024. 3. 14., 3/18/R4
    r"(?: ?(?:BE|AD|พ\.ศ\.|г\.?|р\.?|ж\.?|թ\.?))?",  # 18/3/2565 BE, 13.06.18 г.
    r"\d{2,4}[年년] ?\d{1,2}[月월] ?\d{1,2}[日일]",  # 2024年3月14日, 2024년 3월 14일
    rf"(?:{_WORD}\.?,? )?\d{{1,2}}\.? (?:de |of )?{_WORD}\.?,?(?: (?:de )?\d{{4}})?",  # 14. Mar 2024, 14 de maio
    rf"(?:{_WORD}\.?,? )?{_WORD}\.? \d{{1,2}}(?:,? \d{{4}})?",  # Mar 14, 2024
)
_JOINED = (
    r"(?:[,،、] ?| |(?<=[日일]))(?:(?:um|at|à|às|a las|alle|alle ore|kl\.?|klo|ob|o|u|la|в|о|στις|om|saat|pukul|lúc) )?"
)


def read_whatsapp(text: str, sure: bool = False) -> Chat | None:
    """The chat in an export, or None where `text` is none: other text with dates stays as it is.

    Args:
        sure: it is known to be an export, as in a .zip that WhatsApp made.
    """
    if not _head(text.lstrip(f"{_MARKS} \r\n").split("\n", 1)[0]):
        return None
    messages = list(_messages(line.rstrip("\r") for line in text.split("\n")))
    sure = sure or _has_trace_of_the_app(messages)
    if not sure and not _could_be_chat(messages):
        return None
    said, left_out = [], Counter[str]()
    speakers = {message.name for message in messages if message.name}
    for message in messages:
        if message.name is None and not sure and not _is_notice(message, speakers):
            said.append(" ".join(_bare(line) for line in message.lines if _bare(line)))
            continue
        spoken, dropped = _spoken(message)
        left_out.update(dropped)
        if spoken:
            said.append(f"{message.name}: {spoken}" if message.name else spoken)
    return Chat("\n".join(said), "WhatsApp export", dict(left_out))


class _Message(NamedTuple):
    """A line with a date and those that follow it; `marked`: the line began with a mark, as attachments do."""

    name: str | None
    lines: list[str]
    marked: bool


class _Head(NamedTuple):
    name: str | None
    text: str
    marked: bool


@cache
def _header() -> re.Pattern[str]:
    """The beginning of a message, up to the name."""
    forms = (re.escape(form).replace(r"\.", r"\.? ?") for form in words.AM_PM)
    half = "(?:" + "|".join(sorted(forms, key=len, reverse=True)) + r")(?![^\W\d_])"
    minutes = rf"(?:{half} ?)?\d{{1,2}}(?:[:.٫]| ?h ?)\d{{2}}"
    time = rf"{minutes}(?:[:.٫]\d{{2}})?(?: ?(?:ч\.?|h|Uhr))?(?: ?{half})?"
    date = "(?:" + "|".join(_DATES) + ")"
    both = rf"(?:{date}{_JOINED}{time}|{time}(?:, ?| ){date})"
    with_seconds = rf"{date}{_JOINED}{minutes}[:.]\d{{2}}(?: ?{half})?"
    return re.compile(rf"(?:\[{both}\] ?(?:- )?|{both} ?[-–—] |{with_seconds}: )", re.IGNORECASE)


_NAME = re.compile(rf"[{_MARKS}]*(.{{1,100}}?):(?: |$)(.*)", re.DOTALL)
_OPEN_QUOTE = re.compile(r"\"[^\"]*$|“[^”]*$|„[^“”]*$|«[^»]*$")


def _head(line: str) -> _Head | None:
    """The name and text of a line that begins a message."""
    bare = line.translate(_NO_MARKS)
    begun = _header().match(bare) if bare[:1] == "[" or any(char.isdigit() for char in bare[:24]) else None
    if not begun:
        return None
    rest = _after(line, begun.end())
    marked = line[:1] in tuple(_APP)
    named = _NAME.match(rest)
    name = _bare(named[1]) if named else ""
    name = name.removeprefix("~").strip() or name  # `~ Ana` is somebody who is not among the contacts
    if not named or not name or _OPEN_QUOTE.search(name) or (len(name) > 25 and _has(words.ENCRYPTED, name)):
        return _Head(None, rest, marked)
    return _Head(name, named[2], marked)


def _after(line: str, count: int) -> str:
    """`line` behind its first `count` characters that are no marks; a mark that follows them stays."""
    for index, char in enumerate(line):
        if count == 0:
            return line[index:]
        count -= char not in _MARKS
    return ""


def _messages(lines: Iterable[str]) -> Iterator[_Message]:
    current: _Message | None = None
    for line in lines:
        if head := _head(line):
            if current:
                yield current
            current = _Message(head.name, [head.text], head.marked)
        elif current:
            current.lines.append(line)
    if current:
        yield current


def _has_trace_of_the_app(messages: list[_Message]) -> bool:
    """Whether something is there that only WhatsApp writes: a mark, a placeholder, the notice of encryption."""
    return any(message.name for message in messages) and any(
        message.marked
        or message.lines[0][:1] in tuple(_APP)
        or (message.name is None and _has(words.ENCRYPTED, message.lines[0]))
        or (message.name and (_is_app_text(message.lines[0]) or _without_media(message.lines[0]) is not None))
        or _without_edited(message.lines[-1]) is not None
        for message in messages
    )


_LOGS = re.compile(
    r"(?:info|warn|warning|error|debug|trace|fatal|critical|notice|severe|verbose)\b.*|.*\[\d+\]|\[.*|\S+[./\\]\S+|<.*>",
    re.IGNORECASE,
)


_SPEAKS = re.compile(r"\w[^:]{0,30}: ")


def _could_be_chat(messages: list[_Message]) -> bool:
    """Whether lines with dates look like people who talk, rather than a log, a diary or the notes of a meeting.

    Most have a name, and none is that of a program. Names come again; where none does, no names stand below dates.
    """
    names = [message.name for message in messages if message.name]
    distinct = set(names)
    notices = sum(1 for message in messages if not message.name and _is_notice(message, distinct))
    unclear = len(messages) - len(names) - notices
    if not names or unclear * 3 > len(messages) or any(_LOGS.fullmatch(name) for name in distinct):
        return False
    more = (_bare(line) for message in messages for line in message.lines[1:])
    return len(distinct) < len(names) or not any(_SPEAKS.match(line) for line in more)


def _is_notice(message: _Message, speakers: set[str]) -> bool:
    """Whether a line without a name tells about somebody who speaks, as `Ana left` does."""
    text = f" {_bare(message.lines[0])} "
    return _has(words.ENCRYPTED, text) or any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in speakers)


_POLL = re.compile(r"\S{2,20} ?[:：]")
_FILE_NAME = re.compile(
    r"\S.{0,150}\.(?:jpe?g|png|gif|webp|heic|bmp|tiff?|svg|mp4|mov|3gp|avi|mkv|webm|opus|ogg|m4a|mp3|aac|amr|wav|pdf|docx?"
    r"|xlsx?|pptx?|odt|ods|odp|rtf|txt|csv|json|xml|html?|zip|rar|7z|apk|vcf|ics|epub|pages|numbers|key|dwg|psd|ai)",
    re.IGNORECASE,
)


def _spoken(message: _Message) -> tuple[str, list[str]]:
    """What a person wrote in a message, and what was left out of it: `notices`, `media`."""
    if message.name is None:
        more = [_bare(line) for line in message.lines[1:]]
        return " ".join(line for line in more if line), ["notices"]
    first, *more = message.lines
    dropped: list[str] = []
    spoken: list[str] = []
    caption = _without_media(first, message.marked)
    if caption is not None:
        dropped.append("media")
        spoken.append(caption)
    elif _is_app_text(first) or (first[:1] in tuple(_APP) and not _POLL.fullmatch(_bare(first))):
        dropped.append("notices")
    else:
        spoken.append(_bare(first))
    for line in more:
        caption = _without_media(line)
        if caption is not None:
            dropped.append("media")
            spoken.append(caption)
        elif not (dropped == ["media"] and not any(spoken) and _FILE_NAME.fullmatch(_bare(line))):
            spoken.append(_bare(line))
    text = " ".join(line for line in spoken if line)
    tagged = _without_edited(text) if _without_edited(message.lines[-1]) is not None else None
    return (text if tagged is None else tagged), dropped


def _without_media(line: str, marked: bool = False) -> str | None:
    """The caption of an attachment, which may be empty, or None for a line that is no attachment.

    Args:
        marked: the message began with a mark: then what follows the last mark is the app's, in any language.
    """
    bare = _bare(line)
    if bare[-1:] in (">", ")") and (found := _attached().fullmatch(bare)):
        return _caption(found["caption"] or "")
    body, mark, tail = _parted(line)
    if mark and (_omitted().fullmatch(tail) or (marked and not _POLL.fullmatch(tail) and (body or _omits_media(tail)))):
        return _caption(body.removesuffix("<"))
    if _omits_media(bare) or _omitted().fullmatch(bare) or ("://" in bare and _place().fullmatch(bare)):
        return ""
    return None


def _omits_media(bare: str) -> bool:
    """Whether a line is `<Media omitted>`, in any language."""
    return bare[:1] == "<" and bare[-1:] == ">" and len(bare) < 70 and _has(words.MEDIA, bare)


def _parted(line: str) -> tuple[str, str, str]:
    """A line before its last mark of the app, the mark, and what follows."""
    at = max(line.rfind(mark) for mark in _APP)
    return (_bare(line[:at]), line[at], _bare(line[at + 1 :])) if at >= 0 else (line, "", "")


def _caption(text: str) -> str:
    """`text`, or nothing where it is the name of a file, or its name and length: `offer.pdf • 3 pages`."""
    text = text.strip()
    return "" if _FILE_NAME.fullmatch(text.split("•")[0].strip()) else text


_TAG = re.compile(r"\s*<([^<>]{3,90})>$")


def _without_edited(line: str) -> str | None:
    """`line` without the tag at its end that says it was edited; None without such a tag."""
    found = _TAG.search(_bare(line)) if ">" in line else None
    if found and _has(words.EDITED, found[1]) and not found[1].startswith(("http", "/")):
        return _bare(line)[: found.start()]
    return None


def _is_app_text(line: str) -> bool:
    """Whether a whole line is what the app writes in place of a message: deleted, a missed call, a view-once photo."""
    bare = _bare(line)
    return bare.lstrip("<")[:4].casefold() in _begun_by_the_app() and bool(_in_place().fullmatch(bare))


@cache
def _begun_by_the_app() -> frozenset[str]:
    """First letters of all that `_in_place` knows: nearly every line is told by them, a hundred times as fast."""
    return frozenset(phrase[:4] for phrase in (*words.DELETED, *words.CALLS, "deleted by"))


@cache
def _in_place() -> re.Pattern[str]:
    deleted = _any(words.DELETED) + r"(?: (?:by|von|por|par|da|door) .{1,40})?"
    call = _any(words.CALLS) + r"(?: (?:at|um|a las|à|alle|às) \d.*|[.,:•]? *(?:tap to call back|\d{1,3} ?\w{1,8}))?"
    return re.compile(rf"<?(?:{deleted}|deleted by (?:the )?(?:group )?admin.*|{call})[.。।]?>?", re.IGNORECASE)


@cache
def _attached() -> re.Pattern[str]:
    own = r"(?:IMG|VID|AUD|PTT|STK|DOC)-\d{8}-WA\d+\.\w+ \([^()]*\)"  # a name that only WhatsApp gives
    old = r"\S*(?:PHOTO|VIDEO|AUDIO|GIF|STICKER)\S*\.\w+ <[^<>]+>"
    tag = r"(?P<caption>.*?)\s*<\s?[^<>:：]{1,30}\s?[:：]\s?[^<>]*\.\w{1,5}\s?>"
    return re.compile(rf"{own}|{old}|{tag}|.{{1,150}}\.\w{{1,5}} [(<]{_any(words.ATTACHED)}[)>]", re.IGNORECASE)


@cache
def _omitted() -> re.Pattern[str]:
    """What an iPhone writes for something left out, behind the name and length of a document if it is one."""
    return re.compile(
        rf"(?:.{{1,150}}\.\w{{1,5}} )?(?:• ?)?(?:\d+ [^\W\d]+ )?<?(?:{'|'.join(words.OMITTED)})[.。]?>?", re.IGNORECASE
    )


@cache
def _place() -> re.Pattern[str]:
    return re.compile(rf"{_any(words.LOCATIONS)} ?[:：] ?https?://\S+", re.IGNORECASE)


def _any(phrases: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(phrases, key=len, reverse=True))) + ")"


def _has(stems: Iterable[str], text: str) -> bool:
    folded = text.casefold()
    return any(stem in folded for stem in stems)


def _bare(text: str) -> str:
    """`text` without marks, its kinds of blanks made plain ones, stripped."""
    return text.translate(_NO_MARKS).strip()
