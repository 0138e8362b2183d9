"""What things cost, and what is said of it before the money is spent."""

from datetime import UTC, datetime, timedelta

import pytest

from lorasum.lifecycle.costs import job_note, total, until_note

BEGAN = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("usd_per_hour", "seconds", "said"),
    [
        (0.0, None, ""),
        (1.52, None, ", $1.52 an hour"),
        (2.0, 5400, ", $2.00 an hour, stopped after 1.5 h, $3.00 at most"),
        (0.0, 5400, ", stopped after 1.5 h"),
        (None, None, ", at a price that could not be found out"),
        (None, 5400, ", at a price that could not be found out, stopped after 1.5 h"),
    ],
)
def test_a_job_says_its_price_and_what_it_costs_at_most(
    usd_per_hour: float | None, seconds: int | None, said: str
) -> None:
    most = usd_per_hour * seconds / 3600 if usd_per_hour and seconds else None
    assert job_note(usd_per_hour, seconds, most) == said


@pytest.mark.parametrize(
    ("usd_per_hour", "instances", "most"), [(2.0, 1, ", at most $3.00"), (2.0, 3, ", at most $9.00"), (None, 3, "")]
)
def test_an_endpoint_says_what_all_its_instances_cost_at_most(
    usd_per_hour: float | None, instances: int, most: str
) -> None:
    said = until_note(BEGAN + timedelta(hours=1.5), BEGAN, usd_per_hour, instances)
    assert said.startswith("until ")
    assert said.partition(",")[1:] == most.partition(",")[1:]
    assert until_note(None, BEGAN, usd_per_hour, instances) == ""


def test_a_sum_with_an_unknown_cost_is_unknown() -> None:
    assert total([1.5, 0.25]) == 1.75
    assert total([1.5, None]) is None
    assert total([]) == 0
