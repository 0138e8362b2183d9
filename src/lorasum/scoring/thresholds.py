"""The lowest values that `evaluate --fail-under` allows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from lorasum.errors import LorasumError
from lorasum.scoring.evaluation import FIGURES, Scores


def thresholds(texts: Sequence[str]) -> dict[str, float]:
    """The thresholds of `--fail-under`, such as `rouge1=40`, by figure: the highest where one has several.

    Raises:
        LorasumError: a figure is not known, or its threshold is not a number. Nothing is lower than `nan`, so that
            would let every model pass.
    """
    least: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in FIGURES:
            nearest = get_close_matches(name, FIGURES, 1, 0.4)
            raise LorasumError(
                f"--fail-under {text}: unknown figure {name!r}" + (f"; did you mean {nearest[0]}?" if nearest else ""),
                f"the figures are {', '.join(FIGURES)}",
            )
        number = _number(value)
        if not math.isfinite(number):
            raise LorasumError(f"--fail-under {text}: {value!r} is not a number", f"write --fail-under {name}=40")
        least[name] = max(number, least.get(name, number))
    return least


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True)
class MissedFigure:
    """A figure that is below what `--fail-under` asks for.

    Attributes:
        mean: NaN if it could not be measured.
        least: what is asked for.
    """

    figure: str
    mean: float
    least: float

    def __str__(self) -> str:
        """`rouge1 is 75, and at least 80 is asked for`."""
        return f"{self.figure} is {self.mean:.4g}, and at least {self.least:g} is asked for"


def missed(scores: Scores, at_least: Mapping[str, float]) -> tuple[MissedFigure, ...]:
    """The figures that are below their threshold."""
    found = (MissedFigure(name, getattr(scores, name).mean, least) for name, least in at_least.items())
    return tuple(one for one in found if not one.mean >= one.least)  # nor is it enough where it is NaN
