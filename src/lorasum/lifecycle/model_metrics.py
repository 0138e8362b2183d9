"""Figures of summaries that a model gives, where the config names one: an NLI model on this machine, or a judge."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasum.config.schema import EvaluateConfig
from lorasum.errors import LorasumError
from lorasum.reporting import Reporter
from lorasum.results.serving import JudgeFigures
from lorasum.scoring.evaluation import ScoredSummary
from lorasum.system.paths import doc

if TYPE_CHECKING:
    from lorasum.scoring.judge import Judge, Preference, Verdict

_GIVE_UP = 3  # answers in a row that are not a verdict


def load_consistency(
    config: EvaluateConfig, report: Reporter, at_least: Mapping[str, float]
) -> Callable[[str, str], float] | None:
    """The NLI model's score of (dialogue, summary), 0 to 1; None if the config names no model.

    Call it before anything is asked that costs time or money: the model may not be usable.

    Raises:
        LorasumError: it is not usable, or `at_least` has a limit for it and there is none.
    """
    if config.consistency_model is None:
        if "consistency" in at_least:
            raise LorasumError(
                "--fail-under consistency: no model measures it",
                f"name one in evaluate.consistency_model; {doc('evaluation')} shows how",
            )
        return None
    from lorasum.scoring.consistency import Consistency

    report.step(f"loading {config.consistency_model.id} to see whether the dialogues entail their summaries")
    return Consistency(config.consistency_model).score


def judged(
    config: EvaluateConfig,
    report: Reporter,
    folder: Path,
    tuned: Sequence[ScoredSummary],
    base: Sequence[ScoredSummary] | None,
) -> JudgeFigures | None:
    """The marks of the config's judge; None if it names none. A warning tells how many it has not judged, and why.

    Args:
        folder: where its answers are kept.
        base: the base model's summaries of the same dialogues, to compare with.
    """
    if config.judge is None:
        return None
    from lorasum.scoring.judge import Judge

    judge = Judge(config.judge, folder / "judge.jsonl")
    report.step(f"asking the judge at {judge.config.url}: the dialogues are sent to it")
    verdicts, preferences = _ask(judge, report, tuned, base)
    return JudgeFigures(
        model=judge.config.model,
        judged=len(verdicts),
        faithfulness=_mean([verdict.faithfulness for verdict in verdicts]),
        coverage=_mean([verdict.coverage for verdict in verdicts]),
        conciseness=_mean([verdict.conciseness for verdict in verdicts]),
        better_than_base=preferences.count("first"),
        worse_than_base=preferences.count("second"),
        as_good_as_base=preferences.count("tie"),
        usd=judge.usd,
    )


def _ask(
    judge: "Judge", report: Reporter, tuned: Sequence[ScoredSummary], base: Sequence[ScoredSummary] | None
) -> "tuple[list[Verdict], list[Preference]]":
    """The judge's verdicts on the tuned model's summaries, and its preferences between them and the base model's."""
    from lorasum.scoring.judge import NoVerdictError

    verdicts: list[Verdict] = []
    preferences: list[Preference] = []
    problem, done, in_a_row = None, 0, 0
    for place, one in enumerate(tuned):
        try:
            verdicts.append(judge.mark(one.dialogue, one.summary))
            if base is not None:
                preferences.append(judge.prefer(one.dialogue, one.summary, base[place].summary))
            done, in_a_row = done + 1, 0
        except LorasumError as error:
            problem, in_a_row = error, in_a_row + 1
            if not isinstance(error, NoVerdictError) or in_a_row == _GIVE_UP:
                break
        report.progress("judging", place + 1, len(tuned), f"${judge.usd:.2f}" if judge.usd else "")
    if problem:
        report.warn(f"{len(tuned) - done} of {len(tuned)} summaries are not judged: {problem.message} ({problem.hint})")
    return verdicts, preferences


def _mean(marks: Sequence[int]) -> float:
    return sum(marks) / len(marks) if marks else math.nan
