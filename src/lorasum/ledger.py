"""The ledger: what each run created and what still runs, in one SQLite file.

Intent is written before the call that creates something, so that whatever happens in between, nothing that runs or
costs money is unknown. Rows are never deleted: a resource that is gone says so.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lorasum import paths
from lorasum.errors import LorasumError
from lorasum.models import Resource, ResourceState

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    run TEXT NOT NULL,
    kind TEXT NOT NULL,          -- dataset | training_job | endpoint
    name TEXT NOT NULL,
    backend TEXT NOT NULL,
    state TEXT NOT NULL,         -- intended | live | done | failed | gone
    detail TEXT NOT NULL,        -- JSON
    created_at TEXT NOT NULL,    -- UTC, ISO 8601
    updated_at TEXT NOT NULL,
    usd_per_hour REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (run, kind, name)
);
"""


class Ledger:
    """SQLite file of resources; every method is one transaction, durable when it returns.

    Raises:
        LorasumError: from any method, when the file cannot be opened or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.home() / "ledger.sqlite"

    def intend(
        self, run: str, kind: str, name: str, backend: str, detail: Mapping[str, Any], usd_per_hour: float = 0.0
    ) -> None:
        """Record that `name` is about to be created. Must return before the call that creates it is made."""
        now = _now()
        with self._connect() as db:
            db.execute(
                "INSERT INTO resources VALUES (?,?,?,?,'intended',?,?,?,?) ON CONFLICT (run, kind, name) DO UPDATE SET "
                "backend=excluded.backend, state='intended', detail=excluded.detail, updated_at=excluded.updated_at, "
                "usd_per_hour=excluded.usd_per_hour",
                (run, kind, name, backend, json.dumps(dict(detail)), now, now, usd_per_hour),
            )

    def mark(self, run: str, kind: str, name: str, state: ResourceState, **detail: Any) -> None:
        """Set the state of a recorded resource and merge `detail` into what is known of it.

        Raises:
            LorasumError: `name` was never recorded.
        """
        with self._connect() as db:
            row = db.execute(
                "SELECT detail FROM resources WHERE run=? AND kind=? AND name=?", (run, kind, name)
            ).fetchone()
            if row is None:
                raise LorasumError(f"the ledger knows no {kind} {name!r} of run {run!r}", "run `lorasum status`")
            merged = json.dumps(json.loads(row["detail"]) | detail)
            db.execute(
                "UPDATE resources SET state=?, detail=?, updated_at=? WHERE run=? AND kind=? AND name=?",
                (state, merged, _now(), run, kind, name),
            )

    def resources(self, run: str | None = None, kind: str | None = None) -> list[Resource]:
        """Recorded resources, oldest change first; all runs and kinds unless given."""
        if not self.path.exists():
            return []
        with self._connect() as db:
            rows = db.execute(
                "SELECT * FROM resources WHERE (? IS NULL OR run=?) AND (? IS NULL OR kind=?) ORDER BY updated_at, rowid",
                (run, run, kind, kind),
            ).fetchall()
        return [Resource(**{**dict(row), "detail": json.loads(row["detail"])}) for row in rows]

    def latest(self, run: str, kind: str, *states: ResourceState) -> Resource | None:
        """The most recently changed resource of this kind in one of `states` (any, if none given)."""
        found = [r for r in self.resources(run, kind) if not states or r.state in states]
        return found[-1] if found else None

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=30)
            try:
                db.row_factory = sqlite3.Row
                db.execute(_SCHEMA)
                with db:
                    yield db
            finally:
                db.close()
        except (sqlite3.Error, OSError) as error:
            raise LorasumError(
                f"cannot use the ledger {self.path}: {error}", "check the disk and the folder's permissions"
            ) from error


@contextmanager
def run_lock(run: str) -> Iterator[None]:
    """Let one process at a time change a run; released by the system when the process dies.

    Raises:
        LorasumError: another process holds it.
    """
    path = paths.run_dir(run) / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise LorasumError(
            f"another lorasum process is working on run {run!r}", "wait for it, or give this run another `name`"
        ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
