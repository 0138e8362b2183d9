"""Charts: what stands on their axes, and that what they are given is drawn."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasum.pages.charts import Series, averaged, histogram, intervals, line_chart, number, parts_of, smoothed, ticks

HOSTILE = '<script>alert("1")</script>&'
NUMBERS = st.floats(-1e12, 1e12, allow_nan=False)


@given(NUMBERS, NUMBERS)
def test_ticks_are_few_round_and_in_range(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = ticks(low, high)
    assert len(found) <= 7
    if high - low > 1e-9 * max(abs(low), abs(high), 1):
        assert len(found) >= 2
        slack = (high - low) * 1e-6
        assert all(low - slack <= tick <= high + slack for tick in found)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (1500, "1,500"),
        (20_000, "20k"),
        (3e6, "3M"),
        (2e9, "2G"),
        (1.5e-4, "1.5e-4"),
        (2e-5, "2e-5"),
        (-2, "-2"),
    ],
)
def test_numbers_on_an_axis_are_short(value: float, shown: str) -> None:
    assert number(value) == shown


def test_many_points_are_averaged_and_few_are_left() -> None:
    points = [(float(n), float(n % 2)) for n in range(10_000)]
    assert len(averaged(points, 100)) == 100
    assert all(y == pytest.approx(0.5) for _, y in averaged(points, 100))
    assert averaged(points[:5], 100) == points[:5]
    assert [y for _, y in smoothed([(1.0, 3.0), (2.0, 3.0)])] == pytest.approx([3.0, 3.0])


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30))
def test_a_line_stays_in_its_drawing_whatever_it_is(points: list[tuple[float, float]]) -> None:
    drawn = line_chart("label", "step", [Series("loss", points)])
    if not points:
        assert drawn == ""
        return
    ElementTree.fromstring(drawn)
    for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", re.findall(r'points="([^"]*)"', drawn)[0]):
        assert 0 <= float(x) <= 400
        assert 0 <= float(y) <= 200


def test_a_histogram_has_an_axis_of_counts_and_the_limit() -> None:
    drawn = histogram("lengths", "tokens", [1, 0, 20], 300, 500, 480)
    root = ElementTree.fromstring(drawn)
    texts = [node.text for node in root.iter("text")]
    assert {"0", "5", "10", "15", "20", "400", "tokens", "max_length"} <= set(texts)
    assert len(list(root.iter("rect"))) == 3
    assert "max_length" not in histogram("lengths", "tokens", [1], 300, 300, 480)
    [one, two] = (ElementTree.fromstring(histogram("", "", [1], 100, most, 999)) for most in (100, 200))
    widths = [float(next(root.iter("rect")).attrib["width"]) for root in (one, two)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01), "two splits of one scale can be compared"


def test_text_in_a_chart_is_text() -> None:
    charts = [
        line_chart(HOSTILE, HOSTILE, [Series(HOSTILE, [(1, 2)])]),
        histogram(HOSTILE, HOSTILE, [1], 1, 1, 1),
        intervals(HOSTILE, [(HOSTILE, 1, 2, 3, 0)]),
        parts_of(HOSTILE, [(HOSTILE, {HOSTILE: 1.0})], str),
    ]
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.attrib["aria-label"] == HOSTILE
        assert root.attrib["role"] == "img"
        assert list(root.iter("script")) == []
