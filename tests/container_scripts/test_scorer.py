"""Training by score: summaries are generated between two steps, decide what is kept, and change no training."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from conftest_engine import random_model, random_packs
from conftest_training import Events, Training, sigterm_as_before, small, stop_after
from engine.arguments import Arguments
from engine.batches import collate
from engine.checkpoint import step_of
from engine.failure import TrainingError
from engine.fake_pass import recompute_layers
from engine.model import add_adapter, load_base
from engine.packed_loss import PackedLoss
from engine.scorer import Scorer, make_scorer
from generation.generator import Generator
from generation.scheduling import complete
from shared.events import EvalEvent, StepEvent
from shared.lora_targets import resolve_targets
from shared.records import DatasetFacts

sigterm = pytest.fixture(autouse=True)(sigterm_as_before)

FACTS = DatasetFacts("dataset", "Sum up: {dialogue} =>", 2, ("</s>",), {})
DIALOGUES = [
    {"dialogue": "Ana: is the shop open?\nRaj: till six", "summary": "The shop is open till six."},
    {"dialogue": "Mia: yes! 7 at the gym", "summary": "Mia goes at 7.", "other_references": ["They meet at the gym."]},
    {"dialogue": "Leo: dinner? </s>", "summary": "Leo asks about dinner."},
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DIALOGUES))
    return folder


@pytest.fixture
def scored(dataset: Path, tiny_tokenizer_dir: Path) -> Callable[..., Training]:
    """Makes trainings that are evaluated by ROUGE-L."""

    def make(folder: Path, events: Events | None = None, **changes: Any) -> Training:
        return Training(
            small(folder, evaluate="rougeL", max_new_tokens=8, **changes),
            events=events or Events(),
            make_scorer=lambda arguments, loss: make_scorer(arguments, loss, tiny_tokenizer_dir, dataset, FACTS),
        )

    return make


def evaluations(training: Training) -> list[EvalEvent]:
    return [event for event in training.events.emitted if isinstance(event, EvalEvent)]


def test_training_is_the_same_whatever_it_is_evaluated_by(tmp_path: Path, scored: Callable[..., Training]) -> None:
    """Dropout would show one random number too many, and a layer left in another mode would show in the losses."""
    plain = Training(small(tmp_path / "plain", lora_dropout=0.3))
    other = scored(tmp_path / "scored", lora_dropout=0.3)
    outcomes = plain.run(), other.run()
    assert other.events.losses() == plain.events.losses()
    assert other.events.evaluations() == plain.events.evaluations()
    for name, expected in plain.adapter().items():
        assert torch.equal(other.adapter()[name], expected), name
    assert [outcome.score is None for outcome in outcomes] == [True, False]
    assert [event.scored_by for event in evaluations(other)] == ["rougeL", "rougeL"]
    assert outcomes[1].generation_seconds == pytest.approx(sum(e.generation_seconds for e in evaluations(other)), 0.1)
    assert outcomes[0].generation_seconds == 0


def test_the_weights_of_the_highest_score_are_kept(
    tmp_path: Path, scored: Callable[..., Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([20.0, 31.25, 31.25, 30.0])
    monkeypatch.setattr(Scorer, "score", lambda *_: next(scores))
    training = scored(tmp_path, keep="best", epochs=4.0)
    outcome = training.run()
    assert (outcome.kept_step, outcome.score) == (14, 31.25)
    assert outcome.eval_loss == training.events.evaluations()[14]
    assert outcome.kept_because == "highest rougeL of 4 evaluations"
    losses = training.events.evaluations()
    assert min(losses, key=lambda step: losses[step] or 0) != 14, "the loss would have chosen another step"


def test_patience_goes_by_the_score(
    tmp_path: Path, scored: Callable[..., Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([20.0, 30.0, 29.0, 30.0, 40.0])
    monkeypatch.setattr(Scorer, "score", lambda *_: next(scores))
    training = scored(tmp_path, early_stopping_patience=2, epochs=9.0)
    outcome = training.run()
    assert [event.step for event in evaluations(training)] == [7, 14, 21, 28]
    assert (outcome.kept_step, outcome.kept_because) == (28, "last step")


def test_evaluations_come_every_so_many_steps(tmp_path: Path) -> None:
    training = Training(small(tmp_path, evaluate_every=3))
    training.run()
    assert [event.step for event in evaluations(training)] == [3, 6, 9, 12, 14]


@pytest.mark.parametrize("step", [1, 7])
def test_a_resume_is_exact_where_summaries_are_generated(
    tmp_path: Path, scored: Callable[..., Training], step: int
) -> None:
    arguments = {"lora_dropout": 0.3, "keep": "best", "evaluate_every": 5}
    whole = scored(tmp_path / "whole", **arguments)
    expected = whole.run()
    stopped = scored(tmp_path / "stopped", Events(stop_after(StepEvent, step)), **arguments)
    with pytest.raises(SystemExit):
        stopped.run()
    resumed = scored(tmp_path / "stopped", **arguments)
    outcome = resumed.run()
    assert resumed.resumed_from is not None
    assert step_of(resumed.resumed_from) == step
    assert (outcome.score, outcome.kept_step, outcome.kept_because) == (
        expected.score,
        expected.kept_step,
        expected.kept_because,
    )
    for name, weights in whole.adapter().items():
        assert torch.equal(resumed.adapter()[name], weights), name


def test_sigterm_ends_generating_and_the_evaluation_is_repeated(
    tmp_path: Path, scored: Callable[..., Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = rows = 0

    def stopped_at_the_third_token(
        generator: Generator, prompts: Any, new_tokens: int, nobody_waits: Callable[[], bool], **sampling: Any
    ) -> Any:
        def asking() -> bool:
            nonlocal asked
            asked += 1
            if asked == 3:
                signal.raise_signal(signal.SIGTERM)
            return nobody_waits()

        nonlocal rows
        rows = len(prompts)
        return complete(generator, prompts, new_tokens, asking, **sampling)

    stopped = scored(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("engine.scorer.complete", stopped_at_the_third_token)
        with pytest.raises(SystemExit):
            stopped.run()
    assert asked <= 3 + rows, "each row is asked once more, and no further token is generated"
    assert evaluations(stopped) == []
    resumed = scored(tmp_path)
    resumed.run()
    assert [event.step for event in evaluations(resumed)] == [7, 14]


@pytest.mark.parametrize("architecture", ["bloom", "llama", "gemma2"])
@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_summaries_are_those_of_transformers_and_peft(
    architecture: str, quantization: str, tmp_path: Path, dataset: Path, tiny_tokenizer_dir: Path
) -> None:
    """Generating and the engine (its attention, fused layers, recomputed activations) do not disturb each other."""
    from peft import PeftModel

    base, tokenizer = tmp_path / "base", AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    random_model(architecture).save_pretrained(base)
    arguments = Arguments(quantization=quantization, lora_r=2, lora_dropout=0.0, evaluate="rougeL", max_new_tokens=12)
    engine = load_base(base, arguments, torch.float32, torch.device("cpu"))
    recompute_layers(engine, 2)
    model = add_adapter(engine, arguments, resolve_targets(engine, ("auto",)))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    loss = PackedLoss(model, 40, arguments)
    batch = collate(random_packs(1, [[9, 7]]))
    model.train()
    before = loss(batch)[0]
    scorer = make_scorer(arguments, loss, tiny_tokenizer_dir, dataset, FACTS)
    summaries = scorer.summaries(lambda: False)
    assert torch.equal(loss(batch)[0], before), "training goes on as it was"
    loss(batch)[0].backward()

    model.save_pretrained(tmp_path / "adapter")
    plain = load_base(base, arguments, torch.float32, torch.device("cpu"))
    if quantization == "none":
        plain = PeftModel.from_pretrained(plain, tmp_path / "adapter").merge_and_unload()
        expected = []
        for prompt in scorer.prompts:
            row = plain.eval().generate(
                torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=3
            )[0]
            text = tokenizer.decode(row[len(prompt or []) :], skip_special_tokens=True)
            expected.append(text.strip())
        assert summaries == expected
    assert summaries is not None
    assert len(set(summaries)) == 3


def test_a_prompt_that_the_model_cannot_take_counts_as_empty(
    dataset: Path, tiny_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model("llama")
    model.config.max_position_embeddings = 44
    arguments = Arguments(evaluate="rouge1", evaluate_dialogues=2, max_new_tokens=16)
    scorer = make_scorer(arguments, PackedLoss(model, 40), tiny_tokenizer_dir, dataset, FACTS)
    lengths = [prompt and len(prompt) for prompt in scorer.prompts]
    assert lengths[0] is None
    assert lengths[1] is not None
    summaries = scorer.summaries(lambda: False)
    assert summaries is not None
    assert summaries[0] == ""
    assert "1 test dialogues are too long" in caplog.text


def test_a_dataset_without_its_test_examples_is_refused(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        make_scorer(
            Arguments(evaluate="rougeL"), PackedLoss(random_model("llama"), 9), tiny_tokenizer_dir, tmp_path, FACTS
        )
    assert "lorasum prepare" in caught.value.hint
