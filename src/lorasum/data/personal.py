"""Personal data in dialogues: counted always, as a hint; taken out where asked. Patterns propose, rules decide."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from lorasum.errors import DataError

_EMAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
_DIGITS = r"\+?\(?\d(?:[ ().-]{0,2}\d){8,18}"
_EITHER = re.compile(f"{_EMAIL}|{_DIGITS}")
_CANDIDATE = r"@[A-Za-z0-9-]+\.|\d[ ().-]{0,2}\d[ ().-]{0,2}\d[ ().-]{0,2}\d[ ().-]{0,2}\d[ ().-]{0,2}\d[ ().-]{0,2}\d"
"""What all of them have in them: few texts do, and RE2 finds those fast."""
_CARD_DIGITS = (13, 19)


def count_personal(texts: Sequence[str], found: Counter[str]) -> None:
    """Add to `found` how many email addresses, phone numbers and card numbers there seem to be in `texts`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    candidates = pc.indices_nonzero(pc.match_substring_regex(pa.array(texts, pa.large_string()), _CANDIDATE))
    for index in candidates.to_pylist():
        for match in _EITHER.finditer(texts[index]):
            found[_kind(match[0])] += 1


def redact(text: str, region: str) -> str:
    """`text` with <EMAIL>, <PHONE> and <CARD> in the place of what they name.

    Args:
        region: country of phone numbers that name none, as `US`.

    Raises:
        DataError: the library that knows phone numbers is not installed.
    """
    text = re.sub(_EMAIL, "<EMAIL>", text)
    text = re.sub(_DIGITS, lambda match: "<CARD>" if _kind(match[0]) == "card number" else match[0], text)
    if not re.search(_CANDIDATE, text):
        return text
    phones = _phonenumbers()
    found = list(phones.PhoneNumberMatcher(text, region, leniency=phones.Leniency.POSSIBLE))
    for match in reversed(found):
        text = f"{text[: match.start]}<PHONE>{text[match.end :]}"
    return text


def _kind(candidate: str) -> str:
    if "@" in candidate:
        return "email address"
    digits = [int(character) for character in candidate if character.isdigit()]
    is_card = _CARD_DIGITS[0] <= len(digits) <= _CARD_DIGITS[1] and _luhn(digits)
    return "card number" if is_card else "phone number"


def _luhn(digits: Sequence[int]) -> bool:
    """The check digit of card numbers, ISO/IEC 7812-1."""
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


@cache
def _phonenumbers() -> Any:
    try:
        import phonenumbers
    except ImportError as error:
        raise DataError("data.redact needs phonenumbers", "pip install 'lorasum[redact]'") from error
    return phonenumbers
