"""Numbers, times and dates in a text, by value: "7.50", "half past five", "the 12th", "on Wednesday".

Digits are read in any language. Words for numbers, times and days are read in English only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import regex

Kind = Literal["number", "time", "date"]

_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TO_NINETY = "twenty thirty forty fifty sixty seventy eighty ninety"
_TO_DECEMBER = "january february march april may june july august september october november december"

_UNITS = {word: value for value, word in enumerate(_TO_NINETEEN.split())}
_TENS = {word: 20 + 10 * place for place, word in enumerate(_TO_NINETY.split())}
_SCALES = {"hundred": 100, "thousand": 1000, "dozen": 12}
_NUMBER_WORDS = {**_UNITS, **_TENS, **_SCALES}
_DAYS = {
    **dict.fromkeys(("monday", "mondays", "mon"), "monday"),
    **dict.fromkeys(("tuesday", "tuesdays", "tue", "tues"), "tuesday"),
    **dict.fromkeys(("wednesday", "wednesdays", "wed", "weds"), "wednesday"),
    **dict.fromkeys(("thursday", "thursdays", "thu", "thur", "thurs"), "thursday"),
    **dict.fromkeys(("friday", "fridays", "fri"), "friday"),
    **dict.fromkeys(("saturday", "saturdays", "sat"), "saturday"),
    **dict.fromkeys(("sunday", "sundays", "sun"), "sunday"),
    **dict.fromkeys(("tomorrow", "tomorow", "tommorow", "tmrw", "tmr", "2moro"), "tomorrow"),
    **dict.fromkeys(("yesterday", "ystd"), "yesterday"),
}
_MONTHS = _TO_DECEMBER.split()
_ALSO_WORDS = ("sat", "sun", "may", "march", "mon", "wed")  # "we sat in the sun"

_HOUR = r"(?P<hour>[01]?\d|2[0-3]|" + "|".join(list(_UNITS)[1:13]) + ")"
_HALF = r"(?P<hour>1[0-2]|[1-9]|" + "|".join(list(_UNITS)[1:13]) + ")"
_TIMES = [
    (regex.compile(rf"(?i)\bhalf(?: past)? {_HALF}\b"), 30),
    (regex.compile(rf"(?i)\bquarter past {_HALF}\b"), 15),
    (regex.compile(rf"(?i)\bquarter to {_HALF}\b"), -15),
    (regex.compile(r"(?i)(?<![\d:.,])(?P<hour>[01]?\d|2[0-3])[:h](?P<minute>[0-5]\d)(?![\d:])"), 0),
    (regex.compile(r"(?i)(?<![\d:.,])(?P<hour>[01]?\d)\.(?P<minute>[0-5]\d)(?=\s*(?:[ap]\.?m\b|uhr\b|o'clock))"), 0),
    (regex.compile(rf"(?i)(?<![\d:.,-]){_HOUR}(?=\s*(?:[ap]\.?m\b|o'clock|uhr\b))"), 0),
    (regex.compile(r"(?i)\b(?P<word>noon|midday|midnight)\b"), 0),
    # "at 7", "until ten": a bare number after such a word, with no unit behind it.
    (
        regex.compile(
            rf"(?i)\b(?:at|by|until|till|before|around|from) (?:about |around )?{_HOUR}"
            r"(?![\d:.,h]*\d)(?=\s*(?:[,.;!?)]|$|and\b|in\b|on\b|so\b|to\b|till\b|until\b|except\b|tomorrow|tonight|today|"
            r"sharp|for\b|because|with\b|\())"
        ),
        0,
    ),
]
_DIGITS = regex.compile(r"(?<![\p{L}\d])\d+(?:[.,'\u00a0\u202f]\d{3})*(?:[.,]\d+)?|(?<=\p{L})\d+")
_WORDS = regex.compile(
    r"(?i)\b(?:" + "|".join(_NUMBER_WORDS) + r")(?:[ -](?:and )?(?:" + "|".join(_NUMBER_WORDS) + r"))*\b"
)
_LETTERS = regex.compile(r"\p{L}+|2moro")
_GROUPED = regex.compile(r"\d{1,3}([.,'\u00a0\u202f])\d{3}(?:\1\d{3})*")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number, time or date of a text.

    Attributes:
        text: as it is written.
        value: a number as it is; a time in minutes after noon or midnight, 0 to 719, since people leave out am and pm.
        day: of a date: the name of the day or month.
        start: where it begins in the text, in characters.
    """

    kind: Kind
    text: str
    value: float
    day: str = ""
    start: int = 0


def quantities(text: str, small_days: bool = True) -> list[Quantity]:
    """All numbers, times and dates of `text`, in order; what is read as a time is not read as a number again.

    Args:
        small_days: read "sat" and "may" as a day and a month. With False they need a capital: they are words, too.
    """
    quantities: list[Quantity] = []
    free = text
    for pattern, shift in _TIMES:
        for match in pattern.finditer(free):
            start, end = match.start("hour") if "hour" in pattern.groupindex else match.start(), match.end()
            start = min(start, match.start()) if shift else start
            quantities.append(
                Quantity("time", text[start:end].strip(), _minutes(match.groupdict(), shift), start=start)
            )
            free = free[:start] + " " * (end - start) + free[end:]
    quantities += [
        Quantity("number", match.group(), _number(match.group()), start=match.start())
        for match in _DIGITS.finditer(free)
    ]
    quantities += [
        Quantity("number", match.group(), _spelt(match.group()), start=match.start()) for match in _WORDS.finditer(free)
    ]
    quantities += _dates(free, small_days)
    return sorted(quantities, key=lambda quantity: quantity.start)


def _dates(text: str, small_days: bool) -> Iterator[Quantity]:
    for match in _LETTERS.finditer(text):
        word = match.group()
        small = word.lower()
        day = _DAYS.get(small) or (small if small in _MONTHS else "")
        if day and (small_days or small not in _ALSO_WORDS or word[0].isupper()):
            yield Quantity("date", word, 0.0, day, match.start())


def _minutes(groups: dict[str, str | None], shift: int) -> float:
    if groups.get("word"):
        return 0.0
    hour = (groups["hour"] or "").lower()
    hours = _UNITS[hour] if hour in _UNITS else int(hour)
    return float((hours * 60 + int(groups.get("minute") or 0) + shift) % 720)


def _number(text: str) -> float:
    """The value of digits; a point or comma before exactly three of them groups thousands, else it is decimal."""
    if _GROUPED.fullmatch(text):
        return float(regex.sub(r"\D", "", text))
    *whole, last = regex.split(r"[.,'\u00a0\u202f]", text)
    return float(f"{''.join(whole)}.{last}") if whole else float(last)


def _spelt(text: str) -> float:
    """The value of English words: "two hundred and fifty" is 250, "a dozen" 12."""
    total = current = 0
    for word in regex.split(r"[ -]", text.lower()):
        if word in _SCALES:
            current = max(current, 1) * _SCALES[word]
            if word == "thousand":
                total, current = total + current, 0
        elif word in _NUMBER_WORDS:
            current += _NUMBER_WORDS[word]
    return float(total + current)
