"""Evaluations on disk: `scored-<key>.jsonl` has every summary with its scores, `evaluated-<key>.json` the result."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from pydantic import TypeAdapter

from lorasum.results.serving import EvaluateResult
from lorasum.scoring.evaluation import ScoredSummary
from lorasum.system import paths
from lorasum.system.files import read_rows, write_file


def folder_of(run: str) -> Path:
    """The folder of a run's evaluations."""
    return paths.run_dir(run) / "evaluations"


def scored_file(run: str, key: str) -> Path:
    """The file of all summaries of an evaluation, one JSON object a line."""
    return folder_of(run) / f"scored-{key}.jsonl"


def write_scored(file: Path, scored: Sequence[ScoredSummary]) -> None:
    """Write the summaries of an evaluation.

    Raises:
        OSError: they cannot be written.
    """
    write_file(file, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in scored))


def write_result(result: EvaluateResult) -> None:
    """Write the result beside its summaries.

    Raises:
        OSError: it cannot be written.
    """
    file = Path(result.summaries)
    file = file.with_name(file.name.replace("scored-", "evaluated-", 1)).with_suffix(".json")
    write_file(file, json.dumps(asdict(result), ensure_ascii=False))


def newest(run: str, artifact: str) -> tuple[EvaluateResult, tuple[ScoredSummary, ...]] | None:
    """The newest evaluation of an artifact with its summaries; None if there is none of this version."""
    for file in _newest_first(run, "evaluated-*.json"):
        with suppress(OSError, ValueError):  # of another version, or half deleted: an earlier one may be whole
            result = TypeAdapter(EvaluateResult).validate_json(file.read_bytes())
            if artifact and result.artifact.startswith(artifact.rstrip("/")):
                return result, _scored(Path(result.summaries))
    return None


def newest_summaries(run: str, dialogues: Sequence[str]) -> list[str] | None:
    """The summaries of the newest evaluation of exactly these dialogues, or of more that begin with them."""
    for rows in _all_scored(run):
        if [row.dialogue for row in rows[: len(dialogues)]] == list(dialogues):
            return [row.summary for row in rows[: len(dialogues)]]
    return None


def newest_rouge_l(run: str) -> tuple[float | None, int]:
    """The mean ROUGE-L of the newest evaluation, 0 to 100, and of how many dialogues; None of 0 where there is none."""
    rows = next(_all_scored(run), ())
    return (fmean(row.scores.rougeL for row in rows) if rows else None), len(rows)


def _all_scored(run: str) -> Iterator[tuple[ScoredSummary, ...]]:
    """The summaries of each evaluation of this version, the newest first."""
    for file in _newest_first(run, "scored-*.jsonl"):
        with suppress(ValueError):
            yield _scored(file)


def _scored(file: Path) -> tuple[ScoredSummary, ...]:
    return TypeAdapter(tuple[ScoredSummary, ...]).validate_python(tuple(read_rows(file.read_bytes())))


def _newest_first(run: str, pattern: str) -> list[Path]:
    return sorted(folder_of(run).glob(pattern), key=lambda file: file.stat().st_mtime, reverse=True)
