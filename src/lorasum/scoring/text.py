"""How much of the references a summary has, in any language: ROUGE and chrF, 0 to 100."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorasum.scoring.words import Words, sentences

_ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass(frozen=True, slots=True)
class TextScores:
    """Scores of one summary, or their means over many; 0 to 100."""

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815  the metric's own name
    rougeLsum: float  # noqa: N815
    chrf: float


def text_scores(references: Sequence[Sequence[str]], summaries: Sequence[str], language: str) -> list[TextScores]:
    """Score each summary against its references, of which the best one counts, for each score by itself.

    On English text in ASCII the ROUGE figures are rouge-score's with stemming (Lin, "ROUGE", 2004). chrF is
    sacrebleu's, with character 6-grams (Popović, "chrF", 2015).

    Args:
        references: for each summary, one reference or several.
        language: ISO 639-1 code of the language that they are written in.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.chrf import CHRF

    rouge = RougeScorer(_ROUGE, tokenizer=Words(language))
    chrf = CHRF()
    scored = []
    for targets, summary in zip(references, summaries, strict=True):
        lines = ["\n".join(sentences(text)) for text in targets]  # ROUGE-Lsum takes a line for a sentence
        best = rouge.score_multi(lines, "\n".join(sentences(summary)))
        figures = {kind: 100 * float(best[kind].fmeasure) for kind in _ROUGE}
        scored.append(TextScores(**figures, chrf=float(chrf.sentence_score(summary, list(targets)).score)))
    return scored
