"""What an evaluation is made of: every summary scored, the means of a system with their intervals, and comparisons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from lorasum.scoring.bootstrap import Difference, Interval, difference, interval
from lorasum.scoring.faithfulness import Finding, findings
from lorasum.scoring.style import Style, style
from lorasum.scoring.text import TextScores, text_scores

TUNED, BASE, LEAD, LONGEST = "fine-tuned", "base model", "first 3 sentences", "longest utterance"
"""Names of what is scored. Another run has its own name."""


@dataclass(frozen=True, slots=True)
class ScoredSummary:
    """One summary of one test dialogue.

    Attributes:
        id: place of the dialogue in the test split, from 1.
        references: the summaries that people wrote.
        findings: what the summary says and the dialogue does not.
        consistency: how probably the dialogue entails the summary, 0 to 1; None if no model was asked.
    """

    id: int
    dialogue: str
    references: tuple[str, ...]
    summary: str
    scores: TextScores
    findings: tuple[Finding, ...]
    style: Style
    consistency: float | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the test dialogues, each with its 95% interval.

    Attributes:
        rouge1, rouge2, rougeL, rougeLsum, chrf: 0 to 100.
        faithful: share of summaries without a finding, 0 to 1.
        copied, novel_bigrams, length, speakers: as in `Style`.
        consistency: 0 to 1; None if no model was asked.
    """

    rouge1: Interval
    rouge2: Interval
    rougeL: Interval  # noqa: N815  the metric's own name
    rougeLsum: Interval  # noqa: N815
    chrf: Interval
    faithful: Interval
    copied: Interval
    novel_bigrams: Interval
    length: Interval
    speakers: Interval
    consistency: Interval | None = None


_FIGURES: Final[Mapping[str, Callable[[ScoredSummary], float]]] = {
    "rouge1": lambda scored: scored.scores.rouge1,
    "rouge2": lambda scored: scored.scores.rouge2,
    "rougeL": lambda scored: scored.scores.rougeL,
    "rougeLsum": lambda scored: scored.scores.rougeLsum,
    "chrf": lambda scored: scored.scores.chrf,
    "faithful": lambda scored: float(not scored.findings),
    "copied": lambda scored: scored.style.copied,
    "novel_bigrams": lambda scored: scored.style.novel_bigrams,
    "length": lambda scored: scored.style.length,
    "speakers": lambda scored: scored.style.speakers,
}
FIGURES: Final = tuple(field.name for field in fields(Scores))
"""Names of the figures, as `--fail-under` takes them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better one system is than another on the same dialogues, figure by figure.

    Attributes:
        other: what it is compared with, such as `base model`.
    """

    other: str
    rouge1: Difference
    rouge2: Difference
    rougeL: Difference  # noqa: N815
    rougeLsum: Difference  # noqa: N815
    chrf: Difference
    faithful: Difference


def score_summaries(
    dialogues: Sequence[str],
    references: Sequence[Sequence[str]],
    summaries: Sequence[str],
    language: str,
    consistency: Callable[[str, str], float] | None = None,
) -> list[ScoredSummary]:
    """Score each summary by its references and by its dialogue.

    Args:
        language: ISO 639-1 code of the summaries' language.
        consistency: how probably a dialogue, the first argument, entails a summary, the second; 0 to 1.
    """
    texts = text_scores(references, summaries, language)
    return [
        ScoredSummary(
            id=number,
            dialogue=dialogue,
            references=tuple(targets),
            summary=summary,
            scores=scores,
            findings=tuple(findings(dialogue, summary, language)),
            style=style(dialogue, summary, language),
            consistency=consistency(dialogue, summary) if consistency else None,
        )
        for number, (dialogue, targets, summary, scores) in enumerate(
            zip(dialogues, references, summaries, texts, strict=True), 1
        )
    ]


def mean_scores(scored: Sequence[ScoredSummary]) -> Scores:
    """The means of a system.

    Raises:
        ValueError: there is no summary.
    """
    means = {name: interval([figure(one) for one in scored]) for name, figure in _FIGURES.items()}
    entailed = [one.consistency for one in scored if one.consistency is not None]
    return Scores(**means, consistency=interval(entailed) if entailed else None)


def compare(other: str, ours: Sequence[ScoredSummary], theirs: Sequence[ScoredSummary]) -> Comparison:
    """Compare two systems dialogue by dialogue; both have the same ones in the same order."""

    def of(name: str) -> Difference:
        return difference([_FIGURES[name](one) for one in ours], [_FIGURES[name](one) for one in theirs])

    compared = [field.name for field in fields(Comparison) if field.name != "other"]
    return Comparison(other, **{name: of(name) for name in compared})


def worst(scored: Sequence[ScoredSummary], count: int) -> list[ScoredSummary]:
    """The summaries to look at first: those with the most findings, and of these the least like their reference."""
    return sorted(scored, key=lambda one: (-len(one.findings), one.scores.rougeL))[:count]
