"""ROUGE (Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004) of texts that are divided into words.

A training job scores with this file, and the client imports the same file as `lorasum.shared.rouge`. The figures are
those of Google's rouge-score, which a test compares to 1e-9. That library is not used, because a container would have
to build it from source, and because of its words (see words.py).
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

Words = Sequence[str]


class Rouge(NamedTuple):
    """F1 scores, 0 to 100.

    Attributes:
        rouge1, rouge2: shared words, and shared pairs of neighbouring words.
        rougeL: the longest common subsequence.
        rougeLsum: the same sentence by sentence, so that the order of sentences does not matter.
    """

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815  the metric's own name
    rougeLsum: float  # noqa: N815


def rouge(reference: Sequence[Words], summary: Sequence[Words]) -> Rouge:
    """Score a summary against one reference; both are sentences of words. A text without words scores 0."""
    target, words = ([word for sentence in text for word in sentence] for text in (reference, summary))
    sizes = len(target), len(words)
    return Rouge(
        rouge1=_shared(Counter(target), Counter(words)),
        rouge2=_shared(Counter(pairwise(target)), Counter(pairwise(words))),
        rougeL=_f1(len(_common(target, words)), *sizes),
        rougeLsum=_f1(_common_by_sentence(reference, summary), *sizes),
    )


def best_rouge(references: Sequence[Sequence[Words]], summary: Sequence[Words]) -> Rouge:
    """Score a summary against several references; for each score the best one counts, as the field does."""
    return Rouge(*map(max, zip(*(rouge(reference, summary) for reference in references), strict=True)))


def _shared(target: Counter[object], words: Counter[object]) -> float:
    return _f1((target & words).total(), target.total(), words.total())


def _f1(hits: int, in_target: int, in_summary: int) -> float:
    """100 · 2PR / (P + R), which is 200 · hits over both sizes."""
    return 200 * hits / (in_target + in_summary) if hits else 0.0


def _common(target: Words, words: Words) -> list[int]:
    """The places in `target` of a longest common subsequence; of several, the one that rouge-score takes."""
    table = [[0] * (len(words) + 1)]
    for one in target:
        above, row = table[-1], [0]
        for place, other in enumerate(words):
            row.append(above[place] + 1 if one == other else max(above[place + 1], row[place]))
        table.append(row)
    places, i, j = [], len(target), len(words)
    while i and j:
        if target[i - 1] == words[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places


def _common_by_sentence(reference: Sequence[Words], summary: Sequence[Words]) -> int:
    """Words of the reference's sentences that are in their common subsequences with any of the summary's sentences.

    No word counts more often than it stands in either text.
    """
    left = [Counter(word for sentence in text for word in sentence) for text in (reference, summary)]
    hits = 0
    for sentence in reference:
        for place in sorted({place for other in summary for place in _common(sentence, other)}):
            word = sentence[place]
            if all(counts[word] for counts in left):
                hits += 1
                for counts in left:
                    counts[word] -= 1
    return hits
