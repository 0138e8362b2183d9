"""How sure a mean is, and when a difference counts."""

import random

import numpy as np
import pytest

from lorasum.scoring.bootstrap import difference, interval


def test_an_interval_is_that_of_the_normal_law_on_many_values() -> None:
    values = list(np.random.default_rng(1).normal(40.0, 10.0, 400))
    found = interval(values)
    half = 1.96 * np.std(values, ddof=1) / 20
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(found.mean - half, abs=0.1)
    assert found.high == pytest.approx(found.mean + half, abs=0.1)


def test_the_same_scores_give_the_same_interval() -> None:
    assert interval([1.0, 5.0, 3.0]) == interval([1.0, 5.0, 3.0])


def test_one_dialogue_has_no_spread_and_shows_no_difference() -> None:
    assert interval([7.0]).low == interval([7.0]).high == 7.0
    assert not difference([9.0], [1.0]).is_real


def test_a_steady_gain_is_real_though_dialogues_differ_more() -> None:
    generator = random.Random(0)
    theirs = [generator.uniform(0, 100) for _ in range(40)]
    ours = [score + generator.uniform(1, 5) for score in theirs]
    found = difference(ours, theirs)
    assert found.is_real
    assert found.p_value < 0.001
    assert 2 < found.low < found.mean < found.high < 4


def test_noise_is_no_difference_in_nineteen_of_twenty_trials() -> None:
    generator = random.Random(0)
    trials = 100
    for dialogues in (3, 8, 44):
        false_alarms = 0
        for _ in range(trials):
            ours, theirs = ([generator.gauss(40, 10) for _ in range(dialogues)] for _ in range(2))
            false_alarms += difference(ours, theirs).is_real
        assert false_alarms / trials < 0.1, f"{dialogues} dialogues"  # 0.05 by design


def test_six_dialogues_are_the_fewest_that_show_a_difference() -> None:
    gains = [9.0, 11.0, 10.0, 12.0, 8.0, 10.0]
    assert difference(gains, [0.0] * 6).is_real
    five = difference(gains[:5], [0.0] * 5)
    assert (five.is_real, five.dialogues_needed) == (False, 6)


def test_the_number_of_dialogues_needed_shows_such_a_difference() -> None:
    generator = random.Random(3)
    paired = [generator.gauss(1, 10) for _ in range(60)]
    found = difference(paired, [0.0] * 60)
    assert found.dialogues_needed is not None
    spread, mean = np.std(paired, ddof=1), np.mean(paired)
    # n = (1.96 + 0.84)² σ² / δ²
    assert found.dialogues_needed == pytest.approx(7.849 * spread**2 / mean**2, rel=0.01)


def test_equal_scores_need_no_number() -> None:
    found = difference([3.0, 4.0], [3.0, 4.0])
    assert (found.mean, found.is_real, found.dialogues_needed) == (0.0, False, None)


def test_no_score_is_refused() -> None:
    with pytest.raises(ValueError, match="no score"):
        interval([])
