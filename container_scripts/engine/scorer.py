"""Scores a model while it is trained, by the summaries that it writes: ROUGE on some dialogues of the test split.

The test loss says how likely the people's own words are to the model, and it often rises again while the summaries
still become better. So a training can choose its weights by what they are wanted for. The prompts are those that the
endpoint will get, decoding is greedy and draws no random numbers, and words are compared as in `lorasum evaluate`, only
without stems (the stemmers are not in the container), so figures are a little lower here than there.

Cost of an evaluation: the prompts once through the model, then one pass for each new token of a batch. Each pass
dequantizes the base model once, as in training. docs/evaluation.md has a measured example.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from engine.arguments import Arguments
from engine.distributed import ALONE, Group
from engine.failure import TrainingError
from engine.routes import RoutedLoss
from generation.generator import Generator, decode, encode
from generation.rows import AbandonedError, BrokenModelError, TooLargeError
from generation.scheduling import complete
from shared.names import TEST_FILE
from shared.records import DatasetFacts, HeldOutExample, from_json
from shared.requests import fill_template
from shared.rouge import best_rouge
from shared.words import Words

_log = logging.getLogger(__name__)
_WORDS = Words("")


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores one model again and again on the same dialogues.

    Attributes:
        metric: a field of rouge.Rouge.
        prompts: token ids of each dialogue's prompt; None if the model's context is too short for it and a summary.
        references: for each dialogue its references, as sentences of words.
        new_tokens: longest summary, in tokens.
        group: the processes that share the prompts. All of them get the score.
    """

    metric: str
    loss: RoutedLoss
    generator: Generator
    tokenizer: Any
    prompts: Sequence[list[int] | None]
    references: Sequence[Sequence[Sequence[Sequence[str]]]]
    new_tokens: int
    group: Group = ALONE

    def score(self, is_stopped: Callable[[], bool]) -> float | None:
        """The mean over the dialogues, 0 to 100; None if `is_stopped` says so, in any process, before the end.

        Raises:
            TrainingError: a prompt does not fit in memory, or the model's logits are not finite.
        """
        summaries = self.summaries(is_stopped)
        if summaries is None:
            return None
        scores = [
            getattr(best_rouge(references, _WORDS.by_sentence(summary)), self.metric)
            for references, summary in zip(self.references, summaries, strict=True)
        ]
        return float(sum(scores) / len(scores))

    def summaries(self, is_stopped: Callable[[], bool]) -> list[str] | None:
        """The model's summary of each dialogue, empty where the prompt is too long; None if it is stopped.

        Raises:
            TrainingError: as `score`.
        """
        texts: dict[int, str] = {}
        for part in self.group.from_all(self._own_summaries(is_stopped)):
            if part is None:
                return None
            texts |= part
        return [texts.get(place, "") for place in range(len(self.prompts))]

    def _own_summaries(self, is_stopped: Callable[[], bool]) -> dict[int, str] | None:
        """This process's share of the summaries, by the dialogue's place; None if it is stopped."""
        fitting = [(place, prompt) for place, prompt in enumerate(self.prompts) if prompt is not None]
        asked = dict(fitting[self.group.rank :: self.group.size])
        if not asked:
            return {}
        try:
            with self.loss.generating():
                found = complete(self.generator, list(asked.values()), self.new_tokens, is_stopped, do_sample=False)
        except AbandonedError:
            return None
        except BrokenModelError as error:
            raise TrainingError(
                str(error), "lower training.learning_rate, or set training.compute_dtype: float32"
            ) from error
        except TooLargeError as error:
            raise TrainingError(
                f"generating a summary of test dialogue {list(asked)[error.place] + 1} does not fit in memory",
                "lower data.max_length, or set training.evaluate: loss",
            ) from error
        return dict(zip(asked, decode(self.tokenizer, found), strict=True))


def make_scorer(
    arguments: Arguments, loss: RoutedLoss, base: Path, folder: Path, dataset: DatasetFacts, group: Group = ALONE
) -> Scorer:
    """The scorer of a job that is evaluated by ROUGE.

    Args:
        base: folder of the base model, with its tokenizer.
        folder: of the prepared dataset.
        group: the processes that share the work.

    Raises:
        TrainingError: the dataset has no test examples as text.
    """
    from transformers import AutoTokenizer

    examples = _read_examples(folder / TEST_FILE, arguments.evaluate_dialogues)
    tokenizer = AutoTokenizer.from_pretrained(base)
    generator = Generator.of(loss.causal, tokenizer, dataset.eos_token_id)
    texts = [fill_template(dataset.template, example.dialogue, dataset.control_tokens) for example in examples]
    encoded = [encode(tokenizer, text, generator.eos_token_ids) for text in texts]
    most = generator.context
    prompts = [None if most and len(ids) + arguments.max_new_tokens > most else ids for ids in encoded]
    if too_long := prompts.count(None):
        _log.warning("%d test dialogues are too long for the model and count as empty summaries", too_long)
    return Scorer(
        metric=arguments.evaluate,
        loss=loss,
        generator=generator,
        tokenizer=tokenizer,
        prompts=prompts,
        references=[[_WORDS.by_sentence(text) for text in _references(example)] for example in examples],
        new_tokens=arguments.max_new_tokens,
        group=group,
    )


def _read_examples(file: Path, count: int) -> list[HeldOutExample]:
    """The first `count` test examples."""
    try:
        with file.open("rb") as lines:
            return [from_json(HeldOutExample, line) for line in islice(lines, count)]
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"the test examples {file} cannot be read: {error}", "run `lorasum prepare` again, then train"
        ) from error


def _references(example: HeldOutExample) -> tuple[str, ...]:
    return (example.summary, *example.other_references)
