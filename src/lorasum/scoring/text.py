"""How much of the references a summary has, in any language: ROUGE and chrF, 0 to 100."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorasum.shared.rouge import best_rouge
from lorasum.shared.words import Words


@dataclass(frozen=True, slots=True)
class TextScores:
    """Scores of one summary; 0 to 100."""

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815  the metric's own name
    rougeLsum: float  # noqa: N815
    chrf: float


def text_scores(references: Sequence[Sequence[str]], summaries: Sequence[str], language: str) -> list[TextScores]:
    """Score each summary against its references, of which the best one counts, for each score by itself.

    chrF is sacrebleu's, with character 6-grams (Popović, "chrF", 2015).

    Args:
        references: for each summary, one reference or several.
        language: ISO 639-1 code of the language that they are written in.
    """
    from sacrebleu.metrics.chrf import CHRF

    words, chrf = Words(language), CHRF()
    return [
        TextScores(
            *best_rouge([words.by_sentence(target) for target in targets], words.by_sentence(summary)),
            chrf=float(chrf.sentence_score(summary, list(targets)).score),
        )
        for targets, summary in zip(references, summaries, strict=True)
    ]


def language_of(texts: list[str]) -> str:
    """The ISO 639-1 code of the language that most of `texts` is written in, such as `de`.

    Source: py3langid, a naive Bayes classifier over byte n-grams (Lui and Baldwin, "langid.py", 2012).
    """
    import py3langid

    return str(py3langid.classify("\n".join(texts))[0])
