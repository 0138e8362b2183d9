"""Does the dialogue entail the summary? Asked of tiny classifiers that a test makes, with weights that it knows."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lorasum.config.schema import ConsistencyConfig
from lorasum.errors import LorasumError, ModelError
from lorasum.scoring.consistency import Consistency
from lorasum.scoring.evaluation import mean_scores, score_summaries

NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def make(tiny_tokenizer_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """A random RoBERTa that classifies pairs; its classifier is wide, so that pairs differ in their probabilities."""

    def made(labels: dict[int, str] = NLI, positions: int = 66) -> Path:
        from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

        config = RobertaConfig(
            vocab_size=512, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=positions, type_vocab_size=1, pad_token_id=1, initializer_range=1.0,
            num_labels=len(labels), id2label=labels, label2id={name: number for number, name in labels.items()},
        )  # fmt: skip
        folder = tmp_path / "nli"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            RobertaForSequenceClassification(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_tokenizer_dir).save_pretrained(folder)
        return folder

    return made


def load(folder: Path, label: str | None = None) -> Consistency:
    return Consistency(ConsistencyConfig(id=str(folder), label=label))


def by_hand(folder: Path, dialogue: str, claim: str) -> list[float]:
    """The probabilities of all labels for one pair, by transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**tokenizer(dialogue, claim, return_tensors="pt")).logits[0]
    found: list[float] = (logits.softmax(0) if len(logits) > 1 else logits.sigmoid()).tolist()
    return found


@pytest.mark.parametrize(
    ("labels", "asked", "number"),
    [
        (NLI, None, 1),
        ({0: "ENTAILMENT", 1: "NEUTRAL", 2: "CONTRADICTION"}, None, 0),
        ({0: "not_entailment", 1: "entailment"}, None, 1),
        ({0: "inconsistent", 1: "consistent"}, None, 1),
        ({0: "LABEL_0", 1: "LABEL_1"}, "LABEL_1", 1),
        ({0: "hallucination-free"}, None, 0),
    ],
)
def test_the_label_that_means_yes_is_found(
    make: Callable[..., Path], labels: dict[int, str], asked: str | None, number: int
) -> None:
    folder = make(labels)
    score = load(folder, asked).score("Ann: see you at 7", "Ann comes at 7.")
    assert score == pytest.approx(by_hand(folder, "Ann: see you at 7", "Ann comes at 7.")[number], abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "asked", "words"),
    [
        ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, None, "LABEL_0, LABEL_1, LABEL_2: none of them says"),
        ({0: "not_entailment", 1: "contradiction"}, None, "none of them says"),
        (NLI, "yes", "none is 'yes'"),
    ],
)
def test_labels_that_do_not_say_yes_are_listed(
    make: Callable[..., Path], labels: dict[int, str], asked: str | None, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load(make(labels), asked)
    assert "evaluate.consistency_model.label" in caught.value.hint


def test_a_summary_is_scored_sentence_by_sentence(make: Callable[..., Path]) -> None:
    folder, dialogue = make(), "Ann: see you at 7"
    one, other = (by_hand(folder, dialogue, claim)[1] for claim in ("Ann comes.", "Ben stays."))
    assert abs(one - other) > 0.01
    assert load(folder).score(dialogue, "Ann comes. Ben stays.") == pytest.approx((one + other) / 2, abs=1e-5)


def test_a_long_dialogue_is_read_in_windows_of_whole_lines(make: Callable[..., Path]) -> None:
    """Lines of 12 tokens, a claim of 10, and 64 positions: four lines a window, the last of which begins the next."""
    folder = make()
    lines = [f"Ann: {letter * 6}" for letter in "abcdefgh"]
    windows = ["\n".join(lines[start:end]) for start, end in ((0, 4), (3, 7), (6, 8))]
    scorer = load(folder)
    assert scorer._windows("\n".join(lines), scorer._length(windows[0])) == windows
    claim = "Ann says a"
    assert len(scorer._windows("\n".join(lines), scorer._room - scorer._length(claim))) > 1
    expected = max(
        by_hand(folder, window, claim)[1]
        for window in scorer._windows("\n".join(lines), scorer._room - scorer._length(claim))
    )
    assert scorer.score("\n".join(lines), claim) == pytest.approx(expected, abs=1e-5)


def test_no_token_of_a_long_line_or_sentence_is_left_out(make: Callable[..., Path]) -> None:
    scorer = load(make())
    line = " ".join(f"word{number}" for number in range(60)) + "x" * 90
    parts = scorer._parts(line, 20)
    assert "".join(parts).replace(" ", "") == line.replace(" ", "")
    assert all(scorer._length(part) <= 20 for part in parts)
    assert 0 <= scorer.score(line, line) <= 1


def test_an_empty_summary_claims_nothing(make: Callable[..., Path]) -> None:
    scorer = load(make())
    assert scorer.score("Ann: hi", " ") == 1.0
    assert 0 <= scorer.score("", "Ann comes.") <= 1


def test_its_figure_has_an_interval(make: Callable[..., Path]) -> None:
    scorer = load(make())
    dialogues, summaries = ["Ann: at 7", "Ben: no"], ["Ann comes.", "Ben stays."]
    scored = score_summaries(dialogues, [["x"], ["y"]], summaries, "en", scorer.score)
    values = [scorer.score(*pair) for pair in zip(dialogues, summaries, strict=True)]
    assert [one.consistency for one in scored] == values
    found = mean_scores(scored).consistency
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((sum(values) / 2, min(values), max(values)))
    assert mean_scores(score_summaries(dialogues, [["x"], ["y"]], summaries, "en")).consistency is None


def test_a_model_that_is_no_classifier_is_refused(tiny_model_dir: Path) -> None:
    """transformers would give it a random classifier, and a warning."""
    with pytest.raises(ModelError, match=r"is not a classifier: its files have no score\.weight"):
        load(tiny_model_dir)


def test_code_that_comes_with_a_model_is_not_run(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make()
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own"}
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="brings code of its own, which is not run"):
        load(folder)
    assert not ran.exists()


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="there is no folder") as caught:
        load(tmp_path / "nothing")
    assert caught.value.hint
    with pytest.raises(ModelError, match="hub model 'org/nli'") as caught:
        Consistency(ConsistencyConfig(id="org/nli", revision=COMMIT))
    assert "\n" not in caught.value.message
    assert "evaluate.consistency_model" in caught.value.hint


def test_without_torch_the_way_to_get_it_is_said(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(LorasumError, match="torch is not installed") as caught:
        load(folder)
    assert "lorasum[local]" in caught.value.hint


@pytest.mark.parametrize(
    "given",
    [{"id": "org/nli"}, {"id": "org/nli", "revision": "main"}, {"id": "./nli", "revision": COMMIT}],
)
def test_a_hub_model_is_pinned_to_a_commit(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="revision"):
        ConsistencyConfig.model_validate(given)
