"""The lowest values that `evaluate --fail-under` allows."""

import math
from collections.abc import Mapping, Sequence
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


def missed(scores: Scores, at_least: Mapping[str, float]) -> tuple[str, ...]:
    """The figures that are below their threshold, one line each."""
    means = {name: getattr(scores, name).mean for name in at_least}
    return tuple(
        f"{name} is {means[name]:.4g}, and at least {least:g} is asked for"
        for name, least in at_least.items()
        if not means[name] >= least  # nor is it enough where it could not be measured: NaN
    )
