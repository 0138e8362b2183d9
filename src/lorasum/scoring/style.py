"""How a summary is written: how much it copies, how long it is, and whom it mentions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lorasum.scoring.speakers import speakers_of
from lorasum.shared.words import Words


@dataclass(frozen=True, slots=True)
class Style:
    """How one summary relates to its dialogue: shares from 0 to 1.

    Attributes:
        copied: share of the summary's words that the dialogue has.
        novel_bigrams: share of its pairs of neighbouring words that the dialogue does not have; abstractive summaries
            have many (See et al., 2017).
        length: the summary's number of words divided by the dialogue's.
        speakers: share of the dialogue's speakers that the summary names; 1 if the dialogue names none.
    """

    copied: float
    novel_bigrams: float
    length: float
    speakers: float


def style(dialogue: str, summary: str, language: str = "en") -> Style:
    """Describe one summary. An empty one copies nothing and mentions nobody."""
    tokenize = Words(language).tokenize
    source, words = tokenize(dialogue), tokenize(summary)
    known, pairs = set(source), set(_pairs(source))
    names = [set(tokenize(name)) for name in speakers_of(dialogue)]
    bigrams = _pairs(words)
    return Style(
        copied=_share([word in known for word in words]),
        novel_bigrams=_share([pair not in pairs for pair in bigrams]),
        length=len(words) / max(len(source), 1),
        speakers=_share([bool(name & set(words)) for name in names]) if names else 1.0,
    )


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(pairwise(words))


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
