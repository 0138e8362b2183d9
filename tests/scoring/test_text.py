"""Scores of words, in any language. The right values are worked out by hand in the comments."""

import json
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from lorasum.scoring.baselines import lead, longest_utterance
from lorasum.scoring.text import language_of, text_scores
from lorasum.shared.words import _SNOWBALL, Words, sentences

CHATS = Path(__file__).parents[2] / "examples" / "chats" / "train.jsonl"


def rouge1(reference: str, summary: str, language: str) -> float:
    [scores] = text_scores([[reference]], [summary], language)
    return scores.rouge1


def test_english_scores_are_those_of_rouge_score() -> None:
    rows = [json.loads(line) for line in CHATS.read_text(encoding="utf-8").splitlines()]
    pairs = [(row["summary"], other["summary"]) for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    pairs += [(row["summary"], row["dialogue"]) for row in rows]
    pairs = [(a, b) for a, b in pairs if a.isascii() and b.isascii()]
    assert len(pairs) > 100
    plain = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    ours = text_scores([[a] for a, _ in pairs], [b for _, b in pairs], "en")
    for (reference, summary), scores in zip(pairs, ours, strict=True):
        theirs = plain.score("\n".join(sentences(reference)), "\n".join(sentences(summary)))
        for kind, score in theirs.items():
            assert getattr(scores, kind) == pytest.approx(100 * score.fmeasure, abs=1e-9)


@pytest.mark.parametrize(
    ("language", "reference", "summary", "expected"),
    [
        # Thai: ไปตลาด has 6 characters, ไปบ้าน 5 (บ้ is one with its mark); ไ, ป and า are shared. 2·3 / (6 + 5).
        ("th", "ไปตลาด", "ไปตลาด", 100.0),
        ("th", "ไปตลาด", "ไปบ้าน", 100 * 6 / 11),
        # Chinese: 明天三点开会 (6) and 明天四点开会 (6) share five characters.
        ("zh", "明天三点开会", "明天四点开会", 100 * 10 / 12),
        # Arabic: vowel signs and the lengthening dash do not count. Digits are the same in any script. 2·2 / (3 + 2).
        ("ar", "اللقاء الساعة ٣", "اللِّقاء الســاعة", 100 * 4 / 5),
        # Hindi: a vowel sign belongs to its word: राम and रमा are two words. 2·2 / (3 + 3).
        ("hi", "राम कल आएगा", "रमा कल आएगा", 100 * 4 / 6),
        # German: Straße is Strasse, and Häuser and Haus have one stem. 2·3 / (3 + 3).
        ("de", "Zwei Häuser, Hauptstraße", "zwei Haus HAUPTSTRASSE", 100.0),
        # Turkish: I is the capital of ı, and İ of i. All three words are equal.
        ("tr", "IŞIL yarın İZMİR", "ışıl yarın izmir", 100.0),
        # English asked to read Turkish: İ is i there too. One of two words is equal: 2·1 / (2 + 2).
        ("en", "İzmir IRMAK", "izmir ırmak", 50.0),
        # Japanese: ー belongs to the character before it, so コーヒー has two. 2·2 / (2 + 3).
        ("ja", "コーヒー", "コーヒー屋", 100 * 4 / 5),
        # French: é is a letter, and "d'été" is two words. All four are equal.
        ("fr", "la fête d'été", "la FÊTE été d", 100.0),
    ],
)
def test_words_of_any_script_are_compared(language: str, reference: str, summary: str, expected: float) -> None:
    assert rouge1(reference, summary, language) == pytest.approx(expected, abs=1e-9)


def test_the_best_of_several_references_counts_for_each_score() -> None:
    [scores] = text_scores([["Ann buys bread", "Bob sells his bike"]], ["Bob sells his bike"], "en")
    assert scores.rouge1 == scores.rougeL == scores.chrf == 100.0


def test_an_empty_summary_scores_zero() -> None:
    [scores] = text_scores([["Ann buys bread"]], [""], "en")
    assert (scores.rouge1, scores.rougeLsum, scores.chrf) == (0.0, 0.0, 0.0)


def test_rouge_lsum_compares_sentence_by_sentence() -> None:
    # The sentences are swapped: 3 of 6 words are in order over the whole text, and all 6 sentence by sentence.
    [scores] = text_scores([["Ann buys bread. Bob sells milk."]], ["Bob sells milk. Ann buys bread."], "en")
    assert scores.rougeL == pytest.approx(50.0)
    assert scores.rougeLsum == pytest.approx(100.0)


def test_underscores_divide_words_as_in_rouge_score() -> None:
    assert Words("en").tokenize("snake_case __init__") == ["snake", "case", "init"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Ann kauft heute Abend das Sofa für 80 Euro.", "de"),
        ("Ayşe ve Işıl yarın İstanbul'da buluşacak.", "tr"),
        ("Ann and Bob will meet at the station at six.", "en"),
    ],
)
def test_the_language_of_texts_is_recognised(text: str, code: str) -> None:
    assert language_of([text, text]) == code


def test_sentences_end_at_the_full_stops_of_any_script() -> None:
    assert sentences("Ann came. 你好。再见！ Bob left\nकल मिलते हैं। ठीक") == [
        "Ann came.",
        "你好。",
        "再见！",
        "Bob left",
        "कल मिलते हैं।",
        "ठीक",
    ]


def test_the_lead_is_the_first_three_sentences() -> None:
    assert lead("Ann: Hi. Are you in?\nBob: Yes!\nAnn: Good.") == "Ann: Hi. Are you in? Bob: Yes!"


def test_the_longest_utterance_is_the_first_of_equals() -> None:
    assert longest_utterance("Ann: one two\nBob: two one\nAnn: no") == "Ann: one two"
    assert longest_utterance("") == ""


@pytest.mark.parametrize("language", sorted(_SNOWBALL))
def test_every_named_stemmer_exists(language: str) -> None:
    assert Words(language).tokenize("1234 abcd")
