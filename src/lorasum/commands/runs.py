"""runs: every run of this machine, with what it takes of the disk, when it was last changed, its cost and its score."""

from datetime import UTC, datetime

from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Resource
from lorasum.lifecycle.costs import cost, total
from lorasum.lifecycle.teardowns import MARK
from lorasum.results.overview import RunsResult, RunSummary
from lorasum.scoring.evaluation_files import newest_rouge_l
from lorasum.system import paths
from lorasum.system.files import disk_usage


def runs(ledger: Ledger) -> RunsResult:
    """The runs on record and those with files here, the last changed first. No backend is asked.

    Raises:
        LorasumError: the ledger cannot be read.
    """
    by_run: dict[str, list[Resource]] = {name: [] for name in paths.runs()}
    for row in ledger.resources():
        by_run.setdefault(row.run, []).append(row)
    now = ledger.now()
    shown = {name: rows for name, rows in by_run.items() if any(map(_matters, rows)) or _has_files(name)}
    summaries = [_summary(name, rows, now) for name, rows in shown.items()]
    return RunsResult(tuple(sorted(summaries, key=lambda one: one.changed_at, reverse=True)))


def _matters(row: Resource) -> bool:
    """Whether it is there, or has cost something. What `clean` has deleted of this machine did not."""
    return row.state != "gone" or row.usd_per_hour != 0


def _has_files(name: str) -> bool:
    """Whether a run has more than its locks, which a verb leaves that was refused before it made anything, and MARK."""
    files = (path for path in paths.run_dir(name).rglob("*") if path.is_file())
    return any(path.name != MARK and not path.name.endswith("lock") for path in files)


def _summary(name: str, rows: list[Resource], now: datetime) -> RunSummary:
    size, newest = disk_usage(paths.run_dir(name), MARK)
    score, dialogues = newest_rouge_l(name)
    recorded = max((row.updated_at for row in rows), default="")
    return RunSummary(
        run=name,
        bytes=size,
        changed_at=recorded or datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds"),
        may_run=any(row.is_open for row in rows),
        usd=total(cost(row, now) for row in rows),
        rougeL=score,
        dialogues=dialogues,
    )
