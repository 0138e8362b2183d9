"""Phone numbers that exist, as the library phonenumbers knows them: of any country with a +, of one region without."""

import re
from functools import cache
from itertools import pairwise
from typing import Any

from lorasum.data.personal import patterns
from lorasum.errors import DataError

Window = tuple[int, int]
"""A stretch of a shadow, from its first character to behind its last one. A span is the same, of something found."""

_LEAST_OF_A_PART = 9  # digits of a number that is followed by another one
_MEANT = {"UK": "GB", "EN": "GB or US", "JA": "JP", "KO": "KR", "ZH": "CN", "DA": "DK", "SV": "SE", "CS": "CZ"}
"""Countries that people mean by what is none."""


def check_can_redact(region: str) -> None:
    """Check that the library that knows phone numbers is installed, and knows those of the region.

    Raises:
        DataError: it is not, or does not.
    """
    phones = _phonenumbers()
    if phones is None:
        raise DataError("data.redact needs phonenumbers", "pip install 'lorasum[redact]'")
    if region not in phones.SUPPORTED_REGIONS:
        meant = _MEANT.get(region, "the two letters of a country, such as DE")
        raise DataError(f"data.phone_region is {region}, which is no country of phone numbers", f"set it to {meant}")


def known_phones(region: str, shadow: str, window: Window) -> list[Window]:
    """Phone numbers that exist: of any country with a +, of `region` without."""
    phones = _phonenumbers()
    if phones is None or not patterns.SOME_NUMBER.search(shadow, *window):
        return []
    first = window[0]
    matches = phones.PhoneNumberMatcher(shadow[slice(*window)], region, leniency=phones.Leniency.VALID)
    return [
        (first + match.start, first + match.end)
        for match in matches
        if sum(map(str.isdigit, match.raw_string)) >= patterns.LEAST_PHONE_DIGITS
        and not _is_list(match.raw_string)
        and not patterns.GLUED.search(shadow[max(first + match.start - 5, 0) : first + match.start])
    ]


def _is_list(found: str) -> bool:
    """Whether a number has several single digits among longer groups, as lottery numbers have: `4 8 15 16 23 42`."""
    groups = re.findall(r"\d+", found)
    return not found.startswith("+") and 1 < sum(len(group) == 1 for group in groups) < len(groups)


def is_series(found: str) -> bool:
    """Whether a number is growing numbers, years or hundreds: `20 30 40 50 60`, `2024 2025`, `1500 2000 3000`."""
    groups = re.split("[ ,]+", found)
    if not all(re.fullmatch(r"[1-9]\d*", group) for group in groups):
        return False
    numbers = [int(group) for group in groups]
    grow = all(one < other for one, other in pairwise(numbers))
    years = len(groups) > 1 and all(1900 <= one < 2100 for one in numbers)
    return grow and (len(groups) > 4 or years or (len(groups) > 2 and not any(one % 100 for one in numbers)))


def valid_part(region: str, found: str) -> str:
    """A number, or its longest beginning up to a blank, that exists; empty if none does. A time may stand behind it."""
    ends = [len(found), *(match.start() for match in reversed(list(_GAPS.finditer(found))))]
    for part in (found[:end] for end in ends):
        if part != found and sum(map(str.isdigit, part)) < _LEAST_OF_A_PART:
            break
        whole = (0, len(part))
        if known_phones(region, part, whole) == [whole]:
            return part
    return ""


@cache
def own_codes(region: str) -> tuple[str, ...]:
    """How numbers of a region may begin: with its country's code, `44 `, or with the prefix of its own, `8 `."""
    phones = _phonenumbers()
    known = (phones.country_code_for_region(region), phones.ndd_prefix_for_region(region, True)) if phones else ()
    return tuple(f"{code} " for code in known if code)


_GAPS = re.compile(r"(?<=\d)[^\d ]* [^\d]*(?=\d)")


@cache
def _phonenumbers() -> Any:
    """The library that knows all countries' phone numbers; None if it is not installed."""
    try:
        import phonenumbers
    except ImportError:
        return None
    return phonenumbers
