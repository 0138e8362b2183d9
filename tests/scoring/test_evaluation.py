"""A system's summaries scored together, and two systems side by side."""

import pytest

from lorasum.scoring.evaluation import FIGURES, compare, mean_scores, score_summaries, worst

DIALOGUES = [f"Ann: see you at {hour}\nBen: fine, at the gym" for hour in range(1, 9)]
REFERENCES = [[f"Ann and Ben meet at the gym at {hour}."] for hour in range(1, 9)]
RIGHT = [f"Ann meets Ben at the gym at {hour}." for hour in range(1, 9)]
WRONG = [f"Ann meets Oskar at the gym at {hour}." for hour in range(1, 9)]


def test_every_figure_is_a_mean_with_its_interval() -> None:
    scores = mean_scores(score_summaries(DIALOGUES, REFERENCES, RIGHT, "en", lambda _dialogue, _summary: 0.5))
    for name in FIGURES:
        figure = getattr(scores, name)
        assert figure.low <= figure.mean <= figure.high
    assert scores.faithful.mean == 1.0
    assert scores.speakers.mean == 1.0
    assert scores.consistency is not None
    assert scores.consistency.mean == 0.5
    # "ann meet ben at the gym at 1" has 8 words, all among the 9 of "ann and ben meet at the gym at 1": 2·8 / 17.
    assert scores.rouge1.mean == pytest.approx(100 * 16 / 17)


def test_a_wrong_name_in_each_summary_is_a_real_difference() -> None:
    ours = score_summaries(DIALOGUES, REFERENCES, RIGHT, "en")
    theirs = score_summaries(DIALOGUES, REFERENCES, WRONG, "en")
    comparison = compare("another run", ours, theirs)
    assert comparison.other == "another run"
    assert comparison.faithful.mean == 1.0
    assert comparison.faithful.is_real
    assert comparison.rouge1.is_real
    assert comparison.rougeL.mean == 0  # "ann meet at the gym" is as long a subsequence with Oskar in it


def test_equal_systems_show_no_difference() -> None:
    ours = score_summaries(DIALOGUES, REFERENCES, RIGHT, "en")
    assert not any(
        getattr(compare("itself", ours, ours), name).is_real for name in ("rouge1", "rougeL", "chrf", "faithful")
    )


def test_the_worst_are_those_with_findings_then_the_least_alike() -> None:
    summaries = [*RIGHT[:3], "Ben hums.", WRONG[4], *RIGHT[5:]]
    scored = score_summaries(DIALOGUES, REFERENCES, summaries, "en")
    assert [one.id for one in worst(scored, 2)] == [5, 4]
