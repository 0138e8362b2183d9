"""The ledger: what each run created and what still runs, in one SQLite file.

Intent is written before the call that creates something, so that whatever happens in between, nothing that runs or
costs money is unknown. Rows are never deleted: a resource that is gone says so.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from filelock import FileLock, Timeout

from lorasum import paths
from lorasum.errors import LorasumError

ResourceState = Literal["intended", "live", "done", "failed", "gone"]
OPEN: Final = ("intended", "live")
"""States of a resource that may be running."""

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
    usd_per_hour REAL NOT NULL DEFAULT 0,  -- -1: unknown
    PRIMARY KEY (run, kind, name)
);
"""

_UNKNOWN = -1.0  # price; the column is NOT NULL


@dataclass(frozen=True, slots=True)
class Resource:
    """One ledger row: something a run created, or was about to create."""

    run: str
    kind: Literal["dataset", "training_job", "endpoint"]
    name: str
    backend: str
    state: ResourceState
    detail: Mapping[str, Any]
    created_at: str
    updated_at: str
    """UTC, ISO 8601."""
    usd_per_hour: float | None = 0.0
    """While it runs; None where the price is unknown."""
    usd: float | None = 0.0
    """What it has cost up to now; None where that is unknown. Set by `status`."""

    @property
    def kept_warm(self) -> bool:
        """Whether it is a job that has ended while its instance is kept, and billed like a running one."""
        return self.state not in OPEN and bool(self.detail.get("warm"))

    @property
    def is_open(self) -> bool:
        """Whether it may be running, or billed for an instance that is kept."""
        return self.state in OPEN or self.kept_warm


class Ledger:
    """SQLite file of resources; every method is one transaction, durable when it returns.

    Raises:
        LorasumError: from any method, when the file cannot be opened or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.home() / "ledger.sqlite"

    def intend(
        self, run: str, kind: str, name: str, backend: str, detail: Mapping[str, Any], usd_per_hour: float | None = 0.0
    ) -> None:
        """Record that `name` is about to be created. Must return before the call that creates it is made.

        Args:
            usd_per_hour: what it costs while it runs; None if that is unknown.

        Raises:
            LorasumError: something of this name is running elsewhere, on another backend or in another account or
                region (`where` in the detail); its record is not overwritten.
        """
        now = _now()
        with self._connect(write=True) as db:
            row = _row(db, run, kind, name)
            if row and kind != "dataset" and _resource(row).is_open:
                _refuse_elsewhere(_resource(row), backend, detail.get("where", ""))
            db.execute(
                "REPLACE INTO resources VALUES (?,?,?,?,'intended',?,?,?,?)",
                (
                    run,
                    kind,
                    name,
                    backend,
                    json.dumps(dict(detail)),
                    now,
                    now,
                    _UNKNOWN if usd_per_hour is None else usd_per_hour,
                ),
            )

    def mark(self, run: str, kind: str, name: str, state: ResourceState, **detail: Any) -> None:
        """Set the state of a recorded resource and merge `detail` into what is known of it.

        Raises:
            LorasumError: `name` was never recorded.
        """
        self._update(run, kind, name, state, detail)

    def note(self, run: str, kind: str, name: str, **detail: Any) -> None:
        """Merge `detail` into what is known of a recorded resource. Its state stays, and so does since when.

        Raises:
            LorasumError: `name` was never recorded.
        """
        self._update(run, kind, name, None, detail)

    def resources(self, run: str | None = None, kind: str | None = None) -> list[Resource]:
        """Recorded resources, oldest change first; all runs and kinds unless given."""
        if not self.path.exists():
            return []
        with self._connect() as db:
            rows = db.execute(
                "SELECT * FROM resources WHERE (? IS NULL OR run=?) AND (? IS NULL OR kind=?) "
                "ORDER BY updated_at, rowid",
                (run, run, kind, kind),
            ).fetchall()
        return [_resource(row) for row in rows]

    def find(self, run: str, kind: str, name: str) -> Resource | None:
        """The record of one resource, None when there is none."""
        return next((r for r in self.resources(run, kind) if r.name == name), None)

    def latest(self, run: str, kind: str, *states: ResourceState) -> Resource | None:
        """The most recently changed resource of this kind in one of `states` (any, if none given)."""
        found = [r for r in self.resources(run, kind) if not states or r.state in states]
        return found[-1] if found else None

    def _update(self, run: str, kind: str, name: str, state: ResourceState | None, detail: Mapping[str, Any]) -> None:
        with self._connect(write=True) as db:
            row = _row(db, run, kind, name)
            if row is None:
                raise LorasumError(f"the ledger knows no {kind} {name!r} of run {run!r}", "run `lorasum status`")
            merged = json.dumps({**json.loads(row["detail"]), **detail})
            db.execute(
                "UPDATE resources SET state=?, detail=?, updated_at=? WHERE run=? AND kind=? AND name=?",
                (state or row["state"], merged, _now() if state else row["updated_at"], run, kind, name),
            )

    @contextmanager
    def _connect(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=30)
            try:
                db.row_factory = sqlite3.Row
                db.execute(_SCHEMA)
                with db:
                    if write:  # said aloud, because sqlite3 would begin at the first write, after a read
                        db.execute("BEGIN IMMEDIATE")
                    yield db
            finally:
                db.close()
        except (sqlite3.Error, OSError) as error:
            raise LorasumError(
                f"cannot use the ledger {self.path}: {error}", "check the disk and the folder's permissions"
            ) from error


def cost(row: Resource) -> float | None:
    """USD that a resource has cost up to now; None where that is unknown.

    Its detail has `usd`: of a job, what its ended tries were billed; of an endpoint, what it had come to when it was
    deleted. One that runs adds its price since it was recorded. To an endpoint belongs what those before it cost that
    had its name, `usd_before`: one that is updated is recorded anew.
    """
    ended: float | None = row.detail.get("usd")
    before: float | None = row.detail.get("usd_before", ended or 0.0)
    if row.usd_per_hour == 0:
        return before
    if row.state not in OPEN:
        return ended
    if row.usd_per_hour is None or before is None:
        return None
    hours = (datetime.now(UTC) - datetime.fromisoformat(row.created_at)).total_seconds() / 3600
    return before + max(hours, 0.0) * row.usd_per_hour


class RunBusyError(LorasumError):
    """Another process is changing the run."""


@contextmanager
def run_lock(run: str, wait: float = 10) -> Iterator[None]:
    """Let one process at a time change a run; released by the system when the process dies.

    Args:
        run: its name.
        wait: seconds to wait for another process.

    Raises:
        RunBusyError: another process still holds it.
    """
    lock = FileLock(paths.run_dir(run) / "lock")
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait)
    except Timeout:
        raise RunBusyError(
            f"another lorasum process is working on run {run!r}", "wait for it, or give this run another `name`"
        ) from None
    except OSError as error:
        raise LorasumError(f"cannot lock run {run!r}: {error}", "check the disk and the folder's permissions") from None
    try:
        yield
    finally:
        lock.release()


def _refuse_elsewhere(row: Resource, backend: str, where: str) -> None:
    still = "kept warm" if row.kept_warm else row.state
    what = f"{row.kind.replace('_', ' ')} {row.name!r} of run {row.run!r} is still {still}"
    there = row.detail.get("where", where)
    if row.backend != backend:
        raise LorasumError(
            f"{what} on {row.backend}", f"remove it first: `lorasum teardown --set backend={row.backend}`"
        )
    if there != where:
        raise LorasumError(
            f"{what} in {there}", "remove it first: `lorasum teardown` with the account and region of then"
        )


def _row(db: sqlite3.Connection, run: str, kind: str, name: str) -> sqlite3.Row | None:
    query = "SELECT * FROM resources WHERE run=? AND kind=? AND name=?"
    row: sqlite3.Row | None = db.execute(query, (run, kind, name)).fetchone()
    return row


def _resource(row: sqlite3.Row) -> Resource:
    price = None if row["usd_per_hour"] == _UNKNOWN else row["usd_per_hour"]
    return Resource(**{**dict(row), "detail": json.loads(row["detail"]), "usd_per_hour": price})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
