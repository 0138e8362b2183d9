"""Evaluations on disk: `scored-<key>.jsonl` has every summary with its scores, `evaluated-<key>.json` the result."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import fmean

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
    write_file(_result_file(Path(result.summaries)), json.dumps(asdict(result), ensure_ascii=False))


def newest(run: str, artifact: str) -> tuple[EvaluateResult, tuple[ScoredSummary, ...]] | None:
    """The newest evaluation of an artifact with its summaries; None if there is none of this version."""
    from pydantic import TypeAdapter, ValidationError

    for file in _newest_first(run, "evaluated-*.json"):
        try:
            result = TypeAdapter(EvaluateResult).validate_json(file.read_bytes())
            if artifact and result.artifact.startswith(artifact.rstrip("/")):
                rows = read_rows(Path(result.summaries).read_bytes())
                return result, tuple(TypeAdapter(list[ScoredSummary]).validate_python(list(rows)))
        except (OSError, ValidationError):  # of another version, or half deleted: an earlier one may be whole
            continue
    return None


def newest_summaries(run: str, dialogues: Sequence[str]) -> list[str] | None:
    """The summaries of the newest evaluation of exactly these dialogues, or of more that begin with them."""
    for file in _newest_first(run, "scored-*.jsonl"):
        rows = list(islice(read_rows(file.read_bytes()), len(dialogues)))
        if [row.get("dialogue") for row in rows] == list(dialogues) and all("summary" in row for row in rows):
            return [str(row["summary"]) for row in rows]
    return None


def newest_rouge_l(run: str) -> float | None:
    """The mean ROUGE-L of the newest evaluation, 0 to 100; None where there is none."""
    for file in _newest_first(run, "scored-*.jsonl")[:1]:
        scores = [row.get("scores") for row in read_rows(file.read_bytes())]
        known = [score.get("rougeL") for score in scores if isinstance(score, dict)]
        numbers = [score for score in known if isinstance(score, int | float)]
        return fmean(numbers) if numbers else None
    return None


def _newest_first(run: str, pattern: str) -> list[Path]:
    return sorted(folder_of(run).glob(pattern), key=lambda file: file.stat().st_mtime, reverse=True)


def _result_file(summaries: Path) -> Path:
    return summaries.with_name(summaries.name.replace("scored-", "evaluated-", 1)).with_suffix(".json")
