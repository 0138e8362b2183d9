"""How a summary is written: how much it copies, how long it is, and whom it mentions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lorasum.scoring.speakers import speakers_of
from lorasum.shared.words import Words


@dataclass(frozen=True, slots=True)
class Style:
    """Shares from 0 to 1, of one summary.

    Attributes:
        copied: words of the summary that stand in the dialogue.
        novel_bigrams: pairs of neighbouring words that do not; abstractive summaries have many (See et al., 2017).
        length: words of the summary by words of the dialogue.
        speakers: the dialogue's speakers that the summary names; 1 where the dialogue names none.
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
