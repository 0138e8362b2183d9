"""Recognises what WhatsApp itself writes in a message: placeholders, attachments, tags, and the marks around them."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from lorasum.data.chats.whatsapp import notices, words

MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
"""Characters that have no shape: directions of writing, and the mark at the beginning of a file."""
_NO_MARKS = str.maketrans(dict.fromkeys(MARKS) | dict.fromkeys("\u00a0\u202f\u2009\u2007", " "))
APP_MARKS = "\u200e\u200f"
"""The marks in front of what the app writes."""

POLL = re.compile(r"\S{2,20} ?[:：]")
"""The first line of a poll, `POLL:`; the question and the options stand below it."""
_FILE_NAME = re.compile(
    r"\S.{0,150}\.(?:jpe?g|png|gif|webp|heic|bmp|tiff?|svg|mp4|mov|3gp|avi|mkv|webm|opus|ogg|m4a|mp3|aac|amr|wav|pdf|docx?"
    r"|xlsx?|pptx?|odt|ods|odp|rtf|txt|csv|json|xml|html?|zip|rar|7z|apk|vcf|ics|epub|pages|numbers|key|dwg|psd|ai)",
    re.IGNORECASE,
)


def without_media(line: str, marked: bool = False) -> str | None:
    """The caption of an attachment, which may be empty, or None for a line that is not an attachment.

    Args:
        marked: the message began with a mark: then what follows the last mark is the app's, in any language.
    """
    bare = composed(bare_text(line))
    if (">" in bare or ")" in bare) and (match := _attached().fullmatch(bare)):
        written = match["caption"] or match["below"] or ""
        return _caption(written, beside=bare.replace(written, "", 1))
    body, mark, tail = _parted(line)
    if mark and (_omitted().fullmatch(tail) or (marked and not POLL.fullmatch(tail) and (body or _omits_media(tail)))):
        return _caption(body.removesuffix("<"), beside=tail)
    if _omits_media(bare) or _omitted().fullmatch(bare) or ("://" in bare and _place().fullmatch(bare)):
        return ""
    return None


def _omits_media(bare: str) -> bool:
    """Whether a line is `<Media omitted>`, in any language."""
    return bare[:1] == "<" and bare[-1:] == ">" and len(bare) < 70 and has_any(words.MEDIA, bare)


def _parted(line: str) -> tuple[str, str, str]:
    """A line before its last mark of the app, the mark, and what follows."""
    at = max(map(line.rfind, APP_MARKS))
    return (bare_text(line[:at]), line[at], bare_text(line[at + 1 :])) if at >= 0 else (line, "", "")


def _caption(text: str, beside: str) -> str:
    """`text`, or an empty text if it is the name of a file, perhaps with its length: `offer.pdf • 3 pages`.

    Args:
        beside: what the app writes. A name of no known kind is one only beside itself, or where a document is meant.
    """
    text = text.strip()
    if is_file_name(text) or _WITH_LENGTH.fullmatch(text):
        return ""
    named = _MAY_BE_A_NAME.fullmatch(text) and ((text and text in beside) or has_any(words.DOCUMENTS, beside))
    return "" if named and not _ADDRESS.search(text) else text


def is_file_name(text: str) -> bool:
    """Whether a text is the name of a file of a known kind, and no web address that ends like one."""
    return bool(_FILE_NAME.fullmatch(text)) and not _ADDRESS.search(text)


_ADDRESS = re.compile(r"://|^www\.", re.IGNORECASE)
_WITH_LENGTH = re.compile(r".{1,150} •(?: ?\d+ \S+| .{1,20}\d)?|.{1,150}\.\w{2,5} •.*")
_MAY_BE_A_NAME = re.compile(r"\S{1,150}\.\w{2,6}")


_TAG = re.compile(r"\s*<([^<>]{3,90})>$")


def without_edited(line: str) -> str:
    """`line` without the tag at its end that says it was edited: `<This message was edited>`."""
    tag = _TAG.search(line) if line.endswith(">") else None
    if tag and has_any(words.EDITED, tag[1]) and not tag[1].startswith(("http", "/")):
        return line[: tag.start()]
    return line


def without_tag(line: str) -> str:
    """`line`, bare, without a tag in any language that an iPhone marks, as it marks the one of edited messages."""
    body, mark, tail = _parted(line)
    return body if mark and body and _TAG.fullmatch(tail) else bare_text(line)


def is_in_place(line: str, on_iphone: bool = True) -> bool:
    """Whether a line is what the app writes instead of a message: deleted, a missed call, or a view-once photo.

    Args:
        on_iphone: elsewhere `Video call, 10 min` may be a person's plan.
    """
    bare = composed(bare_text(line))
    if bare.lstrip("<")[:4].casefold() not in _begun_by_the_app():
        return False
    match = _in_place().fullmatch(bare)
    return bool(match and (on_iphone or not match["length"]))


_FIXED = (*notices.DELETED, *notices.CALLS, *notices.UNSEEN, *notices.ANSWERED)


@cache
def _begun_by_the_app() -> frozenset[str]:
    """First letters of all that `is_in_place` knows. They rule out nearly every line, a hundred times as fast."""
    return frozenset(phrase[:4] for phrase in (*_FIXED, "deleted by"))


@cache
def _in_place() -> re.Pattern[str]:
    admin = r"(?:\S+ ){0,2}\S*(?:admin|amminist|beheerder)[^\s,?!]*(?: [^,?!]{1,40})?"
    phone = r"\+?\d(?: ?[\d()-]+)+"
    name = r"(?-i:[~+\d]|[^\W_a-z])[^\s,?!]*(?: [^\s,?!]+){0,2}"  # Eve, and not `mistake, here it is again`
    by_whom = rf" (?:(?:by|von|por|par|da|door) (?:{admin}|{phone}|{name})|(?:as|als|como|en tant|come) {admin})"
    deleted = rf"{_any(notices.DELETED)}(?:{by_whom})?"
    unseen = _any(notices.UNSEEN) + r"(?:\. [^.?!]+(?:[.,] ?[^.?!]+)?)?"
    tap = r"(?:tap|click|toca|toque|tippe|tocca|appuyez|tik) [^.?!]{3,40}"
    time = r"\d{1,2} ?[:.h٫] ?\d\d(?:[:.]\d\d)?(?: ?(?:[ap]\.? ?m\.?|uhr|h))?"
    at = r"(?:at|um|a las|à|alle|às|om|в|о|o|la|u|kl\.?|klo|pukul|pada|lúc|στις)"
    missed = _any(notices.CALLS) + rf"(?: {at} {time}|[.,:•]? *(?:{tap}|\d{{1,3}} ?\w{{1,8}}))?"
    length = r"\d{1,3} ?[^\W\d]{1,10}\.?(?: \d{1,2} ?[^\W\d]{1,10}\.?)?"
    answered = rf"{_any(notices.ANSWERED)}, (?:(?P<length>{length})|{_any(notices.ENDED)})"
    by_admin = r"deleted by (?:the )?(?:group )?admin(?: [^,?!]{1,40})?"
    return re.compile(rf"<?(?:{deleted}|{by_admin}|{unseen}|{missed}|{answered})[.。।۔]?>?", re.IGNORECASE)


@cache
def _attached() -> re.Pattern[str]:
    own = r"(?:IMG|VID|AUD|PTT|STK|DOC)-\d{8}-WA\d+\.\w+ \([^()]*\)"  # a name that only WhatsApp gives
    old = r"\S*(?:PHOTO|VIDEO|AUDIO|GIF|STICKER)\S*\.\w+ <[^<>]+>"
    tag = r"(?P<caption>.*?)\s*<\s?(?!(?:https?|mailto|tel):)[^<>:：]{1,30}\s?[:：]\s?[^<>]*\.\w{1,5}\s?>"
    named = rf"(?:.{{0,150}}\.\w{{0,8}}|[^\W\d_]+(?: [^\W\d_]+)?) [(<]{_any(words.ATTACHED)}[)>]"
    left_out = rf"<(?:{_names_of_omitted()})>"  # WhatsApp's web page writes a caption behind both
    return re.compile(rf"{own}|{old}|{tag}|(?:{named}|{left_out})(?: (?P<below>.*))?", re.IGNORECASE)


@cache
def _omitted() -> re.Pattern[str]:
    """What an iPhone writes for something left out, behind the name and length of a document if it is one."""
    return re.compile(
        rf"(?:.{{1,150}}\.\w{{1,5}} )?(?:• ?)?(?:\d+ [^\W\d]+ )?<?(?:{_names_of_omitted()})[.。]?>?", re.IGNORECASE
    )


def _names_of_omitted() -> str:
    return composed("|".join(words.OMITTED))


@cache
def _place() -> re.Pattern[str]:
    there = r"(?:-?[\d.]+, -?[\d.]+ - )?"
    venue = r".{1,150}: https://foursquare\.com/v/\S+"
    return re.compile(rf"(?:live )?{_any(words.LOCATIONS)} ?[:：] ?{there}https?://\S+|{venue}", re.IGNORECASE)


def without_forwarded(line: str) -> str:
    """`line` without the tag at its beginning that says it was passed on: `[Forwarded] hi`."""
    return _forwarded().sub("", line, count=1) if line.startswith("[") else line


@cache
def _forwarded() -> re.Pattern[str]:
    return re.compile(rf"\[{_any(words.FORWARDED)}\] ", re.IGNORECASE)


def _any(phrases: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(phrases, key=len, reverse=True))) + ")"


def has_any(stems: Iterable[str], text: str) -> bool:
    """Whether one of `stems` is somewhere in `text`."""
    folded = composed(text).casefold()
    return any(stem in folded for stem in stems)


def composed(text: str) -> str:
    """`text` in Unicode's form C. Phones write some letters of Bengali and Hindi in two ways."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def bare_text(text: str) -> str:
    """`text` without marks, with plain blanks only, and stripped."""
    return unmarked(text).strip()


def unmarked(text: str) -> str:
    """`text` without marks, with plain blanks only."""
    return text if text.isascii() else text.translate(_NO_MARKS)
