"""Finds email addresses, phone, card and bank account numbers in chats, counts them, and replaces them on request.

The search runs on the text's shadow: a copy of the same length in which digits of all scripts, no-break spaces and all
dashes are plain ASCII. So a match in the shadow at 10 to 25 is in the text at 10 to 25.

Dates, times, prices and order numbers are blanked out in the shadow first. So they are not taken for phone numbers, nor
joined to a number beside them. docs/redaction.md says how well this works.
"""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache, partial
from itertools import accumulate
from typing import NamedTuple

from lorasum.data.personal import patterns
from lorasum.data.personal.phones import Window, check_can_redact, is_series, known_phones, own_codes, valid_part

RULES = 7
"""Version of what is taken out. It is in the fingerprint of redacted datasets, so that a new version prepares again."""

MASKS = {"email address": "<EMAIL>", "phone number": "<PHONE>", "card number": "<CARD>", "IBAN": "<IBAN>"}
"""What is looked for, and what is put in its place."""

_BLANK = "\x00"


class PersonalSpan(NamedTuple):
    """Personal data at text[start:end]; `kind` is a key of MASKS."""

    start: int
    end: int
    kind: str


def count_personal(texts: Sequence[str], counts: Counter[str], region: str = "US") -> None:
    """Count the personal data in `texts`, and add the number of each kind to `counts`.

    Args:
        region: country of phone numbers that name none, as `US`.
    """
    for index in candidates(texts):
        counts.update(one.kind for one in find_personal(texts[index], region))


def candidates(texts: Sequence[str]) -> list[int]:
    """Indexes of the few texts that may hold personal data or unexplained numbers. The others hold none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = [text.encode() for text in texts]
    ends = array("q", accumulate(map(len, encoded), initial=0))
    buffers = (pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))  # pa.array would import pandas
    matches = pc.match_substring_regex(pa.LargeStringArray.from_buffers(len(texts), *buffers), patterns.CANDIDATE)
    return list(pc.indices_nonzero(matches).to_pylist())


def redact(text: str, region: str, taken: Counter[str] | None = None) -> str:
    """`text` with the masks of MASKS in place of personal data.

    Args:
        region: country of phone numbers that name none, as `US`.
        taken: the number of replacements of each kind is added to it.

    Raises:
        DataError: the library that knows phone numbers is not installed, or knows none of the region.
    """
    check_can_redact(region)
    pieces, end = [], 0
    spans = find_personal(text, region)
    if taken is not None:
        taken.update(one.kind for one in spans)
    for one in spans:
        pieces += [text[end : one.start], MASKS[one.kind]]
        end = one.end
    return "".join([*pieces, text[end:]])


def find_personal(text: str, region: str) -> list[PersonalSpan]:
    """Personal data in `text`, in order, without overlap. Without the phonenumbers library some numbers are missed."""
    return sorted(_search(text, region)[0])


def unexplained_numbers(text: str, region: str) -> list[str]:
    """Numbers of nine digits or more in `text` that are neither personal data nor a date, price or the like."""
    shadow = _search(text, region)[1]
    return [text[slice(*match.span())] for match in patterns.LONG_NUMBER.finditer(shadow)]


@lru_cache(maxsize=1)  # what redact leaves as it is, unexplained_numbers searches next
def _search(text: str, region: str) -> tuple[list[PersonalSpan], str]:
    """What is found, in any order, and the shadow without it and without what is known to be something else."""
    shadow = _shadow(text)
    if not patterns.MAYBE.search(shadow):
        return [], shadow
    emails = _emails(_shadow(text, gaps=False))
    spans = [PersonalSpan(start, end, "email address") for start, end in emails]
    shadow = _without(shadow, emails)
    near = [(max(start - 1, 0), min(end + 5, len(shadow))) for start, end in _long_numbers(shadow)]
    plain = patterns.PLAINLY_NOT_PHONES
    shadow = _without(shadow, [match.span() for window in near for match in plain.finditer(shadow, *window)])
    windows = _windows(shadow)
    for kind, spans_in in _finders(region) if windows else ():
        matched = [span for window in windows for span in spans_in(shadow, window)]
        if kind:
            spans += [PersonalSpan(*_trimmed(shadow, *span), kind) for span in matched]
        shadow = _without(shadow, matched)
    return spans, shadow


def _long_numbers(shadow: str) -> list[Window]:
    return [match.span() for match in patterns.NUMBERS.finditer(shadow)]


def _windows(shadow: str) -> list[Window]:
    """The stretches around long numbers. Personal data is found only there, and so are the words that say what it
    is."""
    windows: list[Window] = []
    for first, last in _long_numbers(shadow):
        start = max(first - patterns.BEFORE, 0)
        behind = windows[-1][1] if windows else 0
        start = (
            max(shadow.rfind(" ", behind, start), shadow.rfind("\n", behind, start)) + 1
        )  # a web address begins there
        end = min(last + patterns.AFTER, len(shadow))
        if windows and start <= behind:
            start = windows.pop()[0]
        windows.append((start, end))
    return windows


def _finders(region: str) -> Iterator[tuple[str, Callable[[str, Window], list[Window]]]]:
    """(kind, spans of it in a window) in the order of certainty; without a kind: what is certainly not personal."""

    def valid_or_whole(found: str) -> str:
        return valid_part(region, found) or found

    def signed(found: str) -> str:
        return "" if is_series(found) else valid_or_whole(found)

    def valid(found: str) -> str:
        return valid_part(region, found)

    def shorter_valid(found: str) -> str:
        part = valid_part(region, found)
        other = patterns.PRICES_OR_COUNTS.match(found) and not found.startswith(own_codes(region))
        return part if part != found and not other else ""

    yield "phone number", partial(_all, patterns.PHONE_LINKS)
    yield "IBAN", _ibans
    yield "card number", partial(_all, patterns.CARDS, part=_card_in)
    yield "", partial(_all, patterns.NOT_PHONES)
    yield "phone number", partial(_all, patterns.PHONE_SIGNS, part=signed)
    yield "phone number", partial(_all, [patterns.CALL_SIGN], part=valid)
    yield "", partial(_all, [patterns.SIGNED_NUMBER])
    yield "phone number", partial(_all, [patterns.CALLED_PHONE], part=valid_or_whole)
    yield "", partial(_all, patterns.RATHER_NOT_PHONES)
    yield "phone number", partial(known_phones, region)
    yield "phone number", partial(_all, [patterns.NUMBER_AND_MORE], part=shorter_valid)
    yield "phone number", partial(_all, patterns.PHONE_FORMS, part=valid_or_whole)


def _all(
    expressions: Iterable[re.Pattern[str]], shadow: str, window: Window, part: Callable[[str], str] = str
) -> list[Window]:
    """Spans of all matches that do not overlap; of two that do, the one of the earlier expression. A group `found`
    is the span where there is one.

    Args:
        part: the beginning of a text that matches which is what is looked for; by default all of it.
    """
    spans: list[Window] = []
    for expression in expressions:
        group: str | int = "found" if "found" in expression.groupindex else 0
        found = ((match.start(group), part(match[group])) for match in expression.finditer(shadow, *window))
        new = [(start, start + len(text)) for start, text in found if text]
        shadow = _without(shadow, new)
        spans += new
    return spans


def _trimmed(shadow: str, start: int, end: int) -> tuple[int, int]:
    """The span without a bracket that is closed outside of it."""
    found = shadow[start:end]
    return (start + 1 if found.startswith("(") and found.count("(") > found.count(")") else start), end


def _without(shadow: str, spans: Iterable[Window]) -> str:
    """The shadow with blanks in the place of `spans`."""
    pieces, end = [], 0
    for start, stop in sorted(spans):
        pieces += [shadow[end:start], _BLANK * (stop - max(start, end))]
        end = max(stop, end)
    return "".join([*pieces, shadow[end:]]) if pieces else shadow


def _emails(shadow: str) -> list[Window]:
    spans = []
    for signs, domain, locals_ in patterns.EMAILS:
        if not any(sign in shadow for sign in signs):
            continue
        for match in domain.finditer(shadow):
            start = max(match.start() - patterns.LONGEST_LOCAL, 0)
            before = shadow[start : match.start()]
            if local := next((found for one in locals_ if (found := one.search(before))), None):
                spans.append((start + local.start(), match.end()))
        shadow = _without(shadow, spans)
    return spans


def _card_in(found: str) -> str:
    """A card number, or the beginning up to a gap that is one: a date or a check code may follow it."""
    ends = [len(found), *(at for at in range(len(found) - 1, 12, -1) if not found[at].isdigit())]
    return next((found[:end] for end in ends if found[end - 1].isdigit() and _is_card(found[:end])), "")


def _is_card(number: str) -> bool:
    """Whether a card scheme has numbers that begin like this and have this length, and the check digit is right."""
    digits = "".join(filter(str.isdigit, number))
    return bool(patterns.CARD_SCHEMES.fullmatch(digits)) and _luhn([int(digit) for digit in digits])


def _luhn(digits: Sequence[int]) -> bool:
    """The check digit of card numbers, ISO/IEC 7812-1."""
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _ibans(shadow: str, window: Window) -> list[Window]:
    """International bank account numbers, ISO 13616: a country's own length, and a remainder of 1."""
    spans = []
    for match in patterns.IBAN.finditer(shadow, *window):
        length = patterns.IBAN_LENGTHS.get(match[1].upper(), 0)
        if not length:
            continue
        places = [at for at in range(*match.span()) if shadow[at].isalnum()][:length]
        code = "".join(shadow[at] for at in places).upper()
        end = places[-1] + 1
        whole = len(code) == length and not shadow[end : end + 1].isalnum()
        if whole and int("".join(str(int(sign, 36)) for sign in code[4:] + code[:4])) % 97 == 1:
            spans.append((match.start(), end))
    return spans


def _shadow(text: str, gaps: bool = True) -> str:
    """`text` with ASCII digits, spaces, dashes and signs, at the same length.

    Args:
        gaps: signs of no width are spaces, as between the digits of a phone number. In an email address they are none.
    """
    return text if text.isascii() else text.translate(_ascii_forms(gaps))


@cache
def _ascii_forms(gaps: bool) -> dict[int, str]:
    """Code point → ASCII character, for every digit, space, dash and invisible sign, and full-width signs."""
    forms = {}
    plain = {"Zs": " ", "Pd": "-"} | ({"Cf": " "} if gaps else {})  # Cf: zero-width spaces, direction marks
    for point in range(128, 0x20000):
        category = unicodedata.category(chr(point))
        if category == "Nd":
            forms[point] = str(unicodedata.decimal(chr(point)))
        elif category in plain:
            forms[point] = plain[category]
    full_width = {point: chr(point - 0xFEE0) for point in range(0xFF01, 0xFF5F)}
    signs = {"−": "-", "⁄": "/", "∕": "/", "﹫": "@"}
    return forms | full_width | {ord(sign): form for sign, form in signs.items()} | {0x00AD: "-"}
