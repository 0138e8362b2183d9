"""The page on a sweep: what each trial was tried with and came to, and how the result depends on each key."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from lorasum.formatting import dollars
from lorasum.pages.charts import Point, Series, line_chart
from lorasum.pages.rendering import TableRow, render
from lorasum.results.training import SweepResult, TrialResult


def sweep_page(result: SweepResult, curves: Mapping[str, Sequence[float]]) -> str:
    """The page as text.

    Args:
        curves: what the evaluations of each trial found, by its run.
    """
    keys = list(dict.fromkeys(key for one in result.trials for key in one.values))
    head = ("trial", *keys, result.metric, "state", "evaluations", "cost")
    return render(
        "sweep.html",
        f"{result.run}: sweep",
        result=result,
        head=head,
        rows=[_row(one, keys, one.run == result.best) for one in result.trials],
        charts=[(key, _of_key(key, result)) for key in keys],
        curves=_curves(result, curves),
    )


def _row(one: TrialResult, keys: Sequence[str], best: bool) -> TableRow:
    value = "–" if one.value is None else f"{one.value:.4g}"
    tried = (str(one.values.get(key, "")) for key in keys)
    cells = (one.run, *tried, value, one.state, str(one.evaluations), dollars(one.usd))
    return TableRow(cells, "chosen" if best else "")


def _of_key(key: str, result: SweepResult) -> Markup:
    """A dot for each trial: its value of a key, and its result. Empty where the values are not numbers."""
    points = [(one, _place(one.values[key])) for one in result.trials if one.value is not None and key in one.values]
    values = [at for _, at in points if at is not None]
    if len(set(values)) < 2 or len(values) < len(points):
        return Markup()
    log = min(values) > 0 and max(values) / min(values) > 20
    dots = [
        Series(one.run, [(math.log10(at) if log else at, one.value)], int(one.run == result.best), "dots")
        for one, at in points
        if at is not None and one.value is not None
    ]
    label = f"log10 of {key}" if log else key
    return line_chart(f"{result.metric} of each trial, by {key}", label, dots)


def _place(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _curves(result: SweepResult, curves: Mapping[str, Sequence[float]]) -> Markup:
    """A line for each trial: its evaluations while it trained."""
    lines = []
    for run, values in curves.items():
        points: list[Point] = [(number, one) for number, one in enumerate(values, 1) if math.isfinite(one)]
        lines.append(Series(run, points, int(run == result.best), "dots" if run == result.best else "faint"))
    return line_chart(f"{result.metric} of each trial's evaluations", "evaluation", lines)
