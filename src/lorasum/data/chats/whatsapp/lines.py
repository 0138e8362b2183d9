"""Recognises the beginning of a message in a WhatsApp export: date, time and name, in the forms of many languages.

    14/3/2024, 9:02 a. m. - Ana: hi          [14.03.24, 09:02:11] Ana: hi          2024年3月14日 下午9:02 - Ana: hi

The order of day, month and year does not matter here: dates are dropped.
"""

import re
from functools import cache
from typing import NamedTuple

from lorasum.data.chats.whatsapp import day_parts, notices
from lorasum.data.chats.whatsapp.text import APP_MARKS, MARKS, bare_text, composed, has_any, unmarked

_WORD = r"[^\W\d_][^\s\d,:;\[\]()/-]{1,13}"  # a month, or a day of the week
_ERA = r"(?:BE|AD|AH|AP|R|พ\.ศ\.|هـ|ه\u200d?\.ش\.|г\.?|р\.?|ж\.?|թ\.?)(?![^\W\d_])"  # 18/3/2565 BE, 13.06.18 г.
_NUMBERS = (
    r"(?:[A-Z]|民[國国]|令和|平成)?\d{1,4}(?:\. ?\d{1,4}\. ?|/\d{1,4}/|-\d{1,4}-| \d{1,2} )"  # 14/3/24, 2024. 3. 14.
    rf"[A-Z]?\d{{1,4}}\.?(?: ?{_ERA})?",
    r"\d{2,4}[年년] ?\d{1,2}[月월] ?\d{1,2}[日일]",  # 2024年3月14日, 2024년 3월 14일
)
_MONTHS = (
    rf"(?:{_WORD}\.?,? )?\d{{1,2}}\.?[ -](?:de |of )?{_WORD}\.?,?"  # 14. Mar 2024, Fri, 14 de março de 2024
    r"(?:[ -]?(?:de )?\d{4}\.?)?(?: ?[гр]\.)?",
    rf"\d{{4}}[.,]? {_WORD}\.? \d{{1,2}}\.?",  # 2024. márc. 14.
    rf"(?:{_WORD}\.?,? )?{_WORD}\.? \d{{1,2}}(?:,? \d{{4}})?",  # Mar 14, 2024
    r"\d{1,2} (?:thg|tháng) \d{1,2},? \d{4}",  # 14 thg 3, 2024
)
_AT = r"(?:um|at|à|às|a las|alle|alle ore|kl\.?|klo|ob|o|u|la|в|о|στις|om|saat|pukul|lúc)"
_JOINED = rf"(?:[,،、] ?| |(?<=[日일]))(?:{_AT} )?"
_BESIDE = r"([^\s\d:,،()\[\]–—-][^\d:\[\]]{0,24}?)"
"""What stands beside a time: only a part of the day may."""
_LOOSE = re.compile(r"[^\W\d_][^\s\d:\[\]]{0,13}(?: [^\W\d_][^\s\d:\[\]]{0,9})?")
"""What may be a.m. or p.m. in a language that is not in the table: one or two words."""


class Form(NamedTuple):
    """The form in which all messages of one file begin.

    Attributes:
        bracket: date and time are in brackets, as an iPhone writes them.
        months: dates have names of months, as only old exports do.
        loose: any one or two words beside the time count as a.m. or p.m., and not only those of the table.
        halves: times go to twelve: a part of the day stands beside each, as beside that of the first message.
    """

    bracket: bool
    months: bool = False
    loose: bool = False
    halves: bool = True


_STRICT = tuple(Form(bracket, months) for months in (False, True) for bracket in (True, False))
_FORMS = (_STRICT, tuple(form._replace(loose=True) for form in _STRICT[:2]))


@cache
def _header(form: Form) -> re.Pattern[str]:
    """The beginning of a message, up to the name. Its groups are the hour, and what stands beside the time."""
    minutes = r"(\d{1,2})(?:(?:[:.٫]| ?h ?)\d{2}|시 ?\d{1,2}분)"
    seconds = r"(?:[:.٫]\d{2}| min \d{2} s| \d{1,2}초)"
    unit = r"(?: ?(?:ч\.?|h|Uhr|น\.)(?![^\W\d_]))"
    begins, behind = rf"\(?(?:{_BESIDE} ?)?{minutes}{seconds}?{unit}?", rf"(?: ?{_BESIDE})?"
    time, first = rf"{begins}{behind}\)?", rf"{begins}{behind}?\)?"  # behind a time that is first stands a weekday
    date = "(?:" + "|".join(_MONTHS if form.months else _NUMBERS) + ")"
    both = rf"(?:{date}{_JOINED}{time}|{first}(?:, ?| ){date})"
    whole = rf"\[{both}\]:? ?(?:- )?" if form.bracket else rf"{both} ?[-–—] |{date}{_JOINED}{time}: "
    return re.compile(rf"(?:{whole})", re.IGNORECASE)


def _begun(line: str, form: Form) -> tuple[int, bool] | None:
    """Where the beginning of a message ends in a line, and whether a part of the day stands beside its time."""
    if not line or not _may_begin(line.lstrip(MARKS), form) or not (begun := _header(form).match(unmarked(line))):
        return None
    found = [group for group in begun.groups() if group]
    hour = next(int(group) for group in found if group.isdecimal())
    beside = [group for group in found if not group.isdecimal()]
    return (begun.end(), bool(beside)) if all(_is_part_of_day(text, hour, form) for text in beside) else None


def _is_part_of_day(text: str, hour: int, form: Form) -> bool:
    key = _without_dots(text)
    known = key in _am_pm() or (form.halves and hour <= 12 and key in _others())
    return known or (form.loose and _LOOSE.fullmatch(text) is not None)


@cache
def _am_pm() -> frozenset[str]:
    return frozenset(map(_without_dots, day_parts.AM_PM))


@cache
def _others() -> frozenset[str]:
    return frozenset(map(_without_dots, day_parts.OTHERS))


def _without_dots(text: str) -> str:
    return re.sub("[. \\u200b]", "", composed(text).casefold())


class Head(NamedTuple):
    """The parts of a line that begins a message.

    Attributes:
        name: empty for a contact without a name; None for a notice.
        mark: of the app, in front of the line; attachments have one.
    """

    name: str | None
    text: str
    mark: str


_NAME = re.compile(rf"[{MARKS}]*(.{{0,100}}?):(?: |$|(?=\.))(.*)", re.DOTALL)


def read_head(line: str, form: Form) -> Head | None:
    """The name and text of a line that begins a message."""
    begun = _begun(line, form)
    if begun is None:
        return None
    rest = _after(line, begun[0])
    mark = line[:1] if line[:1] in tuple(APP_MARKS) else ""
    named = _NAME.match(rest)
    name = bare_text(named[1]) if named else ""
    name = name.removeprefix("~").strip() or name  # `~ Ana` is somebody who is not among the contacts
    if not named or _is_sentence(name):
        return Head(None, rest, mark)
    return Head(name, named[2], mark)


def _may_begin(bare: str, form: Form) -> bool:
    """A quick check of the first letters, which rejects most other lines. The full pattern takes 20 times as long."""
    if form.bracket:
        return bare[:1] == "["
    return any(map(str.isdigit, bare[: 24 if form.months else 3]))


def _is_sentence(name: str) -> bool:
    """Whether the text before a colon is a notice and no name, as in `Ana named the group "Trip: May"`."""
    within_quotes = len(_QUOTE.findall(name)) % 2 == 1
    return within_quotes or (len(name) > _LONGEST_NAME and has_any((*notices.ENCRYPTED, *notices.GROUP), name))


_QUOTE = re.compile('["„“”«»「」『』《》]')
_LONGEST_NAME = 15  # characters that are not looked into


def _after(line: str, count: int) -> str:
    """`line` without its first `count` characters, not counting marks. A mark that follows them stays."""
    for index, char in enumerate(line):
        if count == 0:
            return line[index:]
        count -= char not in MARKS
    return ""


def first_message(text: str) -> tuple[int, Form] | None:
    """The number of lines above the first message, and the form in which messages begin."""
    lines = text.split("\n", LINES_ABOVE + 1)[:LINES_ABOVE]
    for forms in _FORMS:
        for number, line in enumerate(lines):
            for form in forms:
                if begun := _begun(line, form):
                    return number, form._replace(halves=begun[1])
    return None


LINES_ABOVE = 5
"""Lines within which the first message must begin. A title, or the end of a message that was cut off, may come
first."""
