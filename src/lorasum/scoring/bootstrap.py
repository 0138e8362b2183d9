"""How sure a mean over dialogues is, and whether one model is really better than another.

Intervals are by the bootstrap (Efron and Tibshirani, 1993): the dialogues are drawn again with replacement, many times,
and the spread of the means so drawn is the uncertainty of the mean. A paired comparison draws the same dialogues for
both models, so that what makes a dialogue hard counts for both.

p-values are by approximate randomization (Noreen, 1989; Riezler and Maxwell, "On some pitfalls in automatic evaluation
and significance testing for MT", 2005): if neither model were better, each dialogue's difference could as well have the
other sign. The bootstrap's own p-value is too small for few dialogues: for two differences of one sign, below 0.001.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_RESAMPLES = 10_000
_DRAWN_AT_ONCE = 1_000_000  # dialogues: 16 MB of numbers and scores
_SEED = 0
_ROUNDING = 1e-9  # of sums that are equal but for the order of their parts
_CONFIDENT = 0.05  # a difference counts as real below this p-value
_POWER = (1.959964 + 0.841621) ** 2  # normal quantiles of a two-sided 5% test that finds 80% of such differences
_FEWEST = 6  # dialogues that can show anything: of fewer, more than 5% of all signs are equal ones


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, with the 95% percentile interval around it."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """`12.1 (9.4 to 14.7)`."""
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better ours is than theirs, over the same dialogues.

    Attributes:
        p_value: how often a difference at least as large would come by chance, if no model were better; 0 to 1.
        dialogues_needed: how many dialogues would show a difference of this size; None if it is 0.
    """

    mean: float
    low: float
    high: float
    p_value: float
    dialogues_needed: int | None

    @property
    def is_real(self) -> bool:
        """Whether these dialogues show a difference."""
        return self.p_value < _CONFIDENT

    def __str__(self) -> str:
        """A difference that is real: `better by 21.0 (17.9 to 24.2), p < 0.001`."""
        low, high = sorted((abs(self.low), abs(self.high)))
        verdict = f"{'better' if self.mean > 0 else 'worse'} by {abs(self.mean):.1f} ({low:.1f} to {high:.1f})"
        return f"{verdict}, {f'p = {self.p_value:.3f}' if self.p_value >= 0.001 else 'p < 0.001'}"


def interval(values: Sequence[float]) -> Interval:
    """The mean of one score over dialogues and its 95% interval. One dialogue has no spread: its interval is empty.

    Raises:
        ValueError: there is no value.
    """
    low, high = _percentiles(_drawn_means(values))
    mean = sum(values) / len(values)
    return Interval(mean, min(low, mean), max(high, mean))  # equal values: rounding moves the drawn means a little


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Compare two models by their scores of the same dialogues, in the same order.

    Raises:
        ValueError: there is no value, or the two are not of one length.
    """
    import numpy as np

    paired = [a - b for a, b in zip(ours, theirs, strict=True)]
    low, high = _percentiles(_drawn_means(paired))
    mean = sum(paired) / len(paired)
    flipped = np.abs(_flipped_means(paired))
    as_large = int((flipped >= abs(mean) * (1 - _ROUNDING)).sum())
    p_value = (as_large + 1) / (len(flipped) + 1)  # never 0: so many draws cannot show that a thing is impossible
    spread = float(np.std(paired, ddof=1)) if len(paired) > 1 else 0.0
    needed = max(_FEWEST, int(np.ceil(_POWER * (spread / mean) ** 2))) if mean and spread else None
    return Difference(mean, low, high, p_value, needed)


def _flipped_means(differences: Sequence[float]) -> "np.ndarray[Any, Any]":
    """Means of `differences` with random signs; float64 `(resamples,)`."""
    import numpy as np

    generator = np.random.default_rng(_SEED)
    values = np.asarray(differences, dtype=np.float64)
    parts = [  # those that change their sign, (1000, dialogues) at a time
        generator.integers(2, size=(1000, len(values)), dtype=np.int8) @ values for _ in range(_RESAMPLES // 1000)
    ]
    means: np.ndarray[Any, Any] = (values.sum() - 2 * np.concatenate(parts)) / len(values)
    return means


def _drawn_means(values: Sequence[float]) -> "np.ndarray[Any, Any]":
    """Means of resamples of `values`; float64 `(resamples,)`."""
    import numpy as np

    if not values:
        raise ValueError("no score to take the mean of")
    generator = np.random.default_rng(_SEED)  # the same figures each time
    scores = np.asarray(values, dtype=np.float64)
    at_once = max(1, _DRAWN_AT_ONCE // len(scores))
    parts = [
        scores[generator.integers(len(scores), size=(min(at_once, _RESAMPLES - done), len(scores)))].mean(axis=1)
        for done in range(0, _RESAMPLES, at_once)
    ]
    return np.concatenate(parts)


def _percentiles(drawn: "np.ndarray[Any, Any]") -> tuple[float, float]:
    import numpy as np

    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
