"""Lengths of time: read once, in the config, and written as they were read."""

from datetime import timedelta
from pathlib import Path

import pytest

from lorasum.config.duration import duration_text, parse_duration
from lorasum.config.loader import load_config
from lorasum.errors import ConfigError

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


@pytest.mark.parametrize(
    ("text", "minutes", "written"),
    [("90m", 90, "90m"), ("4h", 240, "4h"), ("1.5h", 90, "90m"), ("2d", 2880, "2d"), ("1d12h", 2160, "36h")],
)
def test_a_length_of_time_has_a_number_and_a_unit(text: str, minutes: int, written: str) -> None:
    assert parse_duration(text) == timedelta(minutes=minutes)
    assert duration_text(timedelta(minutes=minutes)) == written
    assert parse_duration(written) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["4", "4 hours", "h", "-4h", "0h", "400d", "4h ", "1e9h", "4H", "", "9" * 400 + "d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a unit: m, h or d|365 days at most"):
        parse_duration(text)


def test_an_endpoints_time_is_read_with_the_config() -> None:
    config = load_config(QUICKSTART, ["deploy.expires_after=4h"])
    assert config.deploy.expires_after == timedelta(hours=4)
    assert config.model_dump(mode="json")["deploy"]["expires_after"] == "4h"
    assert load_config(QUICKSTART, ["deploy.expires_after=never"]).deploy.expires_after == "never"
    for wrong in ("4", "soon"):
        with pytest.raises(ConfigError, match=r"deploy.expires_after.*m, h or d") as caught:
            load_config(QUICKSTART, [f"deploy.expires_after={wrong}"])
        assert len(caught.value.problems) == 1
