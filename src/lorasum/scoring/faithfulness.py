"""Does a summary say what the dialogue does not? Found offline, by rules: names, numbers, times and dates.

The rules look for what can be told for certain: a value or a name that the dialogue does not have, and a deed that one
speaker says of themselves and the summary gives to another (speakers.py). They do not understand language: they miss a
"not", and most people who change places. docs/evaluation.md has the measured precision and recall of each kind.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex

from lorasum.scoring.quantities import Quantity, quantities
from lorasum.scoring.speakers import misattributed, speakers_of
from lorasum.shared.words import sentences

FindingKind = Literal["name", "number", "time", "date", "speaker"]

_WORD = regex.compile(r"[\p{L}\p{M}][\p{L}\p{M}\p{N}'’.-]*")
_POSSESSIVE = regex.compile(r"['’]s?$|(?<=s)['’]$")
_CAPITAL_NOUNS = ("de", "lb")  # languages whose nouns all have a capital, which says nothing about a name there
_CAPITALISED = (
    "i i'm i'll i'd i've ok am pm mr mrs ms dr it it's he he's she she's they they're that that's there there's here "
    "here's what what's who who's let let's mum mum's dad dad's"
)
_NO_NAMES = frozenset(_CAPITALISED.split())
_DURATIONS = {"hour": 60, "hours": 60, "h": 60, "minute": 1, "minutes": 1, "min": 1, "mins": 1}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a summary says and the dialogue does not.

    Attributes:
        text: the words of the summary.
        reason: one sentence for a person.
    """

    kind: FindingKind
    text: str
    reason: str


def findings(dialogue: str, summary: str, language: str = "en") -> list[Finding]:
    """What `summary` says without support in `dialogue`, in the order in which it says it.

    Args:
        dialogue: one message a line, with or without `Speaker: ` in front.
        language: ISO 639-1 code. Names are told by their capital letters, so they are not looked for in German.
    """
    said = quantities(dialogue)
    speakers = speakers_of(dialogue)
    findings = [
        Finding(quantity.kind, quantity.text, f"the dialogue has no {quantity.kind} {quantity.text!r}")
        for quantity in quantities(summary, small_days=False)
        if not _is_said(quantity, said, dialogue, len(speakers))
    ]
    if language not in _CAPITAL_NOUNS:
        known = {_plain(part) for word in _WORD.findall(dialogue) for part in [word, *regex.split(r"[-.'’]", word)]}
        findings += [
            Finding("name", name, f"the dialogue has no {name!r}")
            for name in _names(summary)
            if not _is_known(name, known)
        ]
    if language == "en":
        findings += [
            Finding(
                "speaker",
                f"{told.subject} {told.deed}",
                f"{' and '.join(told.speakers)}, not {told.subject}, says so of themselves",
            )
            for told in misattributed(dialogue, summary)
        ]
    return sorted(findings, key=lambda finding: summary.find(finding.text))


def _is_said(quantity: Quantity, said: Sequence[Quantity], dialogue: str, speakers: int) -> bool:
    """Whether a number, time or date of the summary stands in the dialogue, perhaps written otherwise."""
    numbers = {other.value for other in said if other.kind == "number"}
    times = {other.value for other in said if other.kind == "time"}
    if quantity.kind == "date":
        return any(other.day == quantity.day for other in said)
    if quantity.kind == "time":
        # "7" for 7 o'clock: people write it bare. "7 30" and "730" are times as well.
        hours, minutes = divmod(quantity.value, 60)
        bare = (
            {hours, hours + 12, hours or 12} if minutes == 0 else {hours * 100 + minutes, (hours + 12) * 100 + minutes}
        )
        return quantity.value in times or bool(bare & numbers)
    if quantity.value in numbers or quantity.value == 1 or any(quantity.text == other.text for other in said):
        return True
    spelt = not quantity.text[0].isdigit()
    if spelt and quantity.value == speakers:  # "the two of them", "the four friends": counted, not said
        return True
    if spelt and any(quantity.value == time / 60 for time in times):  # "from four to seven", where "4 to 7" is said
        return True
    return _is_duration(quantity, numbers, dialogue)


def _is_duration(quantity: Quantity, numbers: set[float], dialogue: str) -> bool:
    """60 minutes are an hour: one supports the other, if the dialogue mentions hours or minutes."""
    units = {_DURATIONS[word] for word in regex.findall(r"[a-z]+", dialogue.lower()) if word in _DURATIONS}
    return bool(units) and (quantity.value * 60 in numbers or quantity.value / 60 in numbers | {1.0, 0.5})


def _names(summary: str) -> list[str]:
    """Words with a capital that cannot come from the start of a sentence, each once."""
    names: dict[str, None] = {}
    for sentence in sentences(summary):
        words = _WORD.findall(sentence)
        for position, word in enumerate(words):
            name = _POSSESSIVE.sub("", word.rstrip("."))
            if not name[:1].isupper() or name.lower() in _NO_NAMES or word.lower() in _NO_NAMES:
                continue
            if position == 0 and not _begins_with_a_name(words):
                continue
            if not any(quantity.kind == "date" for quantity in quantities(name)) and len(name) > 1:
                names[name] = None
    return list(names)


def _begins_with_a_name(words: Sequence[str]) -> bool:
    """Whether the first word of a sentence is a name: "Ann's", or "Ann and Bob"."""
    after = words[1:3]
    return words[0].endswith(("'s", "’s")) or (len(after) == 2 and after[0] == "and" and after[1][:1].isupper())


def _is_known(name: str, known: set[str]) -> bool:
    plain = _plain(name)
    parts = [_plain(part) for part in regex.split(r"[-.'’]", name) if part]
    forms = {plain, plain.removesuffix("s"), plain + "s"}
    return bool(forms & known) or (len(parts) > 1 and all(part in known for part in parts))


def _plain(word: str) -> str:
    """`word` in lower case, without accents or a possessive ending: Zoë's is zoe."""
    bare = _POSSESSIVE.sub("", word.rstrip("."))
    return "".join(c for c in unicodedata.normalize("NFD", bare.casefold()) if not unicodedata.combining(c))
