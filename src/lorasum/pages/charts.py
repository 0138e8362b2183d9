"""Charts as inline SVG, drawn from numbers by pure functions. Colours come from the page's style sheet.

Each is 400 units wide, which a phone shows at about its own size. What a chart shows is also said in its label, for
those who cannot see it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup

_WIDTH: Final = 400
_HEIGHT: Final = 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 38  # around the drawing, for labels
_MOST_POINTS = 300  # of a line; more are averaged
_BAR = 26  # height of a row of bars

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        colour: the number of the run on the page, from 0; the style sheet has a colour and a dash for each.
        kind: a `line`, `faint` for what a line smooths, or `dots` joined by a line.
    """

    name: str
    points: Sequence[Point]
    colour: int = 0
    kind: Literal["line", "faint", "dots"] = "line"


@dataclass(frozen=True, slots=True)
class _Axis:
    """Maps values from `low` to `high` to units from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(label: str, x_label: str, series: Sequence[Series], from_zero: bool = False) -> Markup:
    """Lines over a common x axis; empty if there is no point.

    Args:
        label: says in words what there is to see.
        from_zero: whether the y axis begins at 0. For a quantity, it should; for a loss, it need not.
    """
    drawn = [Series(one.name, averaged(one.points), one.colour, one.kind) for one in series if one.points]
    points = [point for one in drawn for point in one.points]
    if not points:
        return Markup()
    x = _axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    y_values = [y for _, y in points] + ([0.0] if from_zero else [])
    y_ticks = ticks(min(y_values), max(y_values))
    y = _axis([*y_ticks, *y_values], _HEIGHT - _BOTTOM, _TOP)
    body = Markup().join(
        [_frame(x, y, ticks(x.low, x.high, 5), y_ticks, x_label), *(_line(one, x, y) for one in drawn)]
    )
    return _svg(label, body, _HEIGHT)


def histogram(label: str, x_label: str, counts: Sequence[int], end: float, most_x: float, limit: float) -> Markup:
    """Bars of equal steps from 0 to `end`, on an x axis that ends at `most_x`.

    Args:
        limit: marked by a line, where it is on the axis.
    """
    x = _Axis(0, most_x, _LEFT, _WIDTH - _RIGHT)
    y_ticks = [tick for tick in ticks(0, max(counts)) if tick == int(tick)]
    y = _axis([*y_ticks, *counts], _HEIGHT - _BOTTOM, _TOP)
    bars = []
    for place, count in enumerate(counts):
        left, right = x.at(end * place / len(counts)), x.at(end * (place + 1) / len(counts))
        bars.append(_rect(left, y.at(count), max(right - left - 0.8, 0.4), y.at(0) - y.at(count), "run-0"))
    mark = Markup()
    if limit <= most_x:
        mark = _upright("limit", x.at(limit), _HEIGHT - _BOTTOM)
        mark += _text(x.at(limit) - 4, _TOP + 10, "max_length", "end")
    body = Markup().join([_frame(x, y, ticks(0, most_x, 5), y_ticks, x_label), *bars, mark])
    return _svg(label, body, _HEIGHT)


def intervals(label: str, rows: Sequence[tuple[str, float, float, float, int]]) -> Markup:
    """A dot with its interval for each row, on a common axis.

    Args:
        rows: name, low, mean, high, and the number of the run; means and bounds in one unit.
    """
    height = _TOP + 2 * _BAR * len(rows) + 24
    tick_values = ticks(min(row[1] for row in rows), max(row[3] for row in rows), 5)
    x = _axis([*tick_values, *(row[1] for row in rows), *(row[3] for row in rows)], 12, _WIDTH - 12)
    parts = [_upright("grid", x.at(tick), height - 20) for tick in tick_values]
    parts += [_text(x.at(tick), height - 6, number(tick), "middle") for tick in tick_values]
    for place, (name, low, mean, high, run) in enumerate(rows):
        middle = _TOP + 2 * _BAR * place + 34
        parts.append(_text(12, middle - 16, f"{name}: {mean:.1f} ({low:.1f} to {high:.1f})", "start", "name"))
        parts.append(
            Markup(
                '<line class="interval run-{4}" x1="{0:.1f}" x2="{1:.1f}" y1="{2}" y2="{2}"/>'
                '<circle class="dot run-{4}" cx="{3:.1f}" cy="{2}" r="4.5"/>'
            ).format(x.at(low), x.at(high), middle, x.at(mean), run)
        )
    return _svg(label, Markup().join(parts), height)


def parts_of(label: str, rows: Sequence[tuple[str, Mapping[str, float]]], unit: Callable[[float], str]) -> Markup:
    """A bar for each row, as long as the sum of its parts, which are told apart by shade and named in a table.

    Args:
        unit: writes an amount, such as `1.32 GiB`.
    """
    most = max((sum(parts.values()) for _, parts in rows), default=0.0)
    if not most:
        return Markup()
    x = _Axis(0, most, 12, _WIDTH - 12)
    drawn = []
    for place, (name, parts) in enumerate(rows):
        top, at = _TOP + 2 * _BAR * place + 16, 0.0
        drawn.append(_text(12, top - 4, f"{name}: {unit(sum(parts.values()))}", "start", "name"))
        for shade, size in enumerate(parts.values()):
            width = x.at(at + size) - x.at(at)
            drawn.append(_rect(x.at(at), top + 2, width, _BAR - 6, f"part-{shade % 6}"))
            at += size
    return _svg(label, Markup().join(drawn), _TOP + 2 * _BAR * len(rows) + 4)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most about `most` round numbers from `low` to `high`, at steps of 1, 2 or 5 times a power of ten."""
    size = max(abs(low), abs(high))
    if high - low <= max(size * 1e-9, 1e-100):  # one value: the axis is made around it
        low, high = (low - size / 2, low + size / 2) if size > 1e-100 else (0.0, 1.0)
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + place) * step, 12) for place in range(count)]


def number(value: float) -> str:
    """A number on an axis: `0.02`, `1,500`, `20k`, `3M`, `1.5e-5`."""
    if value == 0:
        return "0"
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1000 if unit == 'k' else limit):g}{unit}"
    if size >= 0.01:
        return f"{value:,g}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def averaged(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """At most `most` points: more are averaged in groups of neighbours."""
    if len(points) <= most:
        return list(points)
    groups = [points[len(points) * n // most : len(points) * (n + 1) // most] for n in range(most)]
    return [(sum(x for x, _ in some) / len(some), sum(y for _, y in some) / len(some)) for some in groups]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """An exponential mean of the values, with a memory of a twentieth of them; unbiased at its beginning."""
    keep = 1 - 1 / max(len(points) / 20, 1)
    total = weight = 0.0
    found = []
    for x, y in points:
        total, weight = keep * total + (1 - keep) * y, keep * weight + (1 - keep)
        found.append((x, total / weight))
    return found


def _axis(values: Iterable[float], start: float, end: float) -> _Axis:
    found = list(values)
    low, high = min(found), max(found)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return _Axis(low, high, start, end)


def _frame(x: _Axis, y: _Axis, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str) -> Markup:
    """The grid, and the numbers of both axes."""
    bottom = _HEIGHT - _BOTTOM
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>').format(
            _LEFT, _WIDTH - _RIGHT, y.at(tick)
        )
        for tick in y_ticks
    ]
    parts += [_text(_LEFT - 6, y.at(tick) + 4, number(tick), "end") for tick in y_ticks]
    parts += [_text(x.at(tick), bottom + 16, number(tick), "middle") for tick in x_ticks]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 5, x_label, "middle"))
    return Markup().join(parts)


def _line(series: Series, x: _Axis, y: _Axis) -> Markup:
    places = [(x.at(one), y.at(two)) for one, two in series.points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    drawn = Markup('<polyline class="{} run-{}" points="{}"/>').format(series.kind, series.colour, path)
    if series.kind == "dots" or len(places) == 1:
        for left, top in places:
            drawn += Markup('<circle class="dot run-{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(
                series.colour, left, top
            )
    return drawn


def _upright(style: str, at: float, bottom: float) -> Markup:
    return Markup('<line class="{0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2}" y2="{3}"/>').format(style, at, _TOP, bottom)


def _rect(left: float, top: float, width: float, height: float, style: str) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        style, left, top, width, height
    )


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(
        x, y, anchor, Markup(' class="{}"').format(style) if style else "", text
    )


def _svg(label: str, body: Markup, height: float) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(_WIDTH, height, label, body)
