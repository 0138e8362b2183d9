"""The ledger: what each run created and what still runs, in one SQLite file.

A row is written before the call that creates something. If the process dies in between, the ledger still knows of all
that runs or costs money. Rows are never deleted: the row of a deleted endpoint says `gone`. A row is always written
whole, so whoever changes a run's jobs and endpoints holds the run's lock (`lock.py`).
"""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from lorasum.errors import LorasumError
from lorasum.ledger import database
from lorasum.ledger.database import NewerLedgerError
from lorasum.ledger.resources import COLUMNS, Dataset, Resource, Unreadable, details, kind_of
from lorasum.ledger.stored_rows import parse
from lorasum.system import paths

__all__ = ["Ledger", "NewerLedgerError"]

Row = TypeVar("Row", bound=Resource)

_UNKNOWN = -1.0  # price; the column is NOT NULL


class Ledger:
    """SQLite file of resources; every method is one transaction, durable when it returns.

    Args:
        path: the file; by default the one in lorasum's home.
        clock: tells the time, with its zone.
        warn: told when a damaged file is set aside.

    Raises:
        LorasumError: from any method, when the file cannot be opened or written.
        NewerLedgerError: from any method, when a newer lorasum wrote the file.
    """

    def __init__(
        self,
        path: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.path = path or paths.home() / "ledger.sqlite"
        self._clock = clock
        self.warn = warn

    def now(self) -> datetime:
        """The time by the ledger's clock."""
        return self._clock()

    def intend(self, resource: Row) -> Row:
        """Record that something is about to be created. The call that creates it comes after this one has returned.

        Returns what was recorded: `resource` as intended, and since when. If an earlier command may have asked for it,
        and nobody knows what came of that, that stays on record.

        Raises:
            LorasumError: something of this name is running elsewhere, on another backend or in another account or
                region; its record is not overwritten.
        """
        now = self._timestamp()
        row = replace(resource, state="intended", usd_total=None, created_at=now, updated_at=now)
        with self._connect(write=True) as db:
            before = _read_one(db, row)
            if before and not isinstance(before, Dataset) and before.is_open:
                _refuse_elsewhere(before, row)
            if before and before.state == "intended":
                row = replace(row, asked=before.asked)
            _write(db, row)
        return row

    def save(self, resource: Row) -> Row:
        """Record a change of a resource, and that it was just now.

        Raises:
            LorasumError: it was never recorded.
        """
        return self._update(replace(resource, updated_at=self._timestamp()))

    def note(self, resource: Row) -> Row:
        """Record what was found out about a resource. The time of its last change stays.

        Raises:
            LorasumError: it was never recorded.
        """
        return self._update(resource)

    def set_unusable_aside(self) -> str:
        """Rename a ledger that a newer lorasum has written, and make an empty one.

        Returns the new file name, or "" if the ledger is usable. A damaged one is renamed whenever it is opened.
        """
        try:
            self.resources()
        except NewerLedgerError:
            return str(database.set_aside(self.path, self._timestamp()))
        return ""

    def unread(self) -> tuple[str, ...]:
        """Files of which nobody knows what they recorded: this ledger if it cannot be read, and damaged ones."""
        files = database.set_aside_files(self.path)
        try:
            self.resources()
        except LorasumError:
            files.append(self.path)
        return tuple(map(str, files))

    def resources(self, run: str | None = None) -> list[Resource]:
        """Recorded resources, oldest change first; of all runs unless one is given."""
        return self._read(run=run)

    def rows(self, kind: type[Row], run: str | None = None) -> list[Row]:
        """Recorded resources of a kind, oldest change first. Those that cannot be read are left out."""
        return [row for row in self._read(kind=kind.kind, run=run) if isinstance(row, kind)]

    def find(self, kind: type[Row], run: str, name: str) -> Row | None:
        """The record of one resource; None if there is none that can be read."""
        return next((row for row in self._read(kind=kind.kind, run=run, name=name) if isinstance(row, kind)), None)

    def latest_dataset(self, run: str) -> Dataset | None:
        """The run's dataset that was prepared last; None if it is no longer on this disk."""
        rows = [row for row in self.rows(Dataset, run) if row.state == "done"]
        return rows[-1] if rows and Path(rows[-1].path).is_dir() else None

    def _read(self, **columns: str | None) -> list[Resource]:
        """The rows whose columns have these values (any value, if None), oldest change first."""
        if not self.path.exists():
            return []
        with self._connect() as db:
            return _select(db, {column: value for column, value in columns.items() if value is not None})

    def _update(self, row: Row) -> Row:
        with self._connect(write=True) as db:
            if _read_one(db, row) is None:
                what = f"{kind_of(row)} {row.name!r} of run {row.run!r}"
                raise LorasumError(f"the ledger knows no {what}", "run `lorasum status`")
            _write(db, row)
        return row

    def _timestamp(self) -> str:
        return self._clock().isoformat(timespec="microseconds")

    @contextmanager
    def _connect(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            db = database.open_ledger(self.path, self._timestamp(), self.warn)
            try:
                with db:
                    if write:  # explicit, because sqlite3 would begin it at the first write, after the read
                        db.execute("BEGIN IMMEDIATE")
                    yield db
            finally:
                db.close()
        except (sqlite3.Error, OSError) as error:
            raise LorasumError(
                f"cannot use the ledger {self.path}: {error}",
                "check the disk and the folder's permissions; LORASUM_HOME names another folder",
            ) from error


@contextmanager
def usable(ledger: Ledger, warn: Callable[[str], None]) -> Iterator[Ledger]:
    """The ledger; if it cannot be read, a temporary empty one takes its place, and a warning says so."""
    try:
        ledger.resources()
    except LorasumError as error:
        warn(f"{error.message}; going by what runs on the backend alone")
        with tempfile.TemporaryDirectory() as folder:
            yield Ledger(Path(folder) / "ledger.sqlite", ledger.now)
        return
    yield ledger


def _refuse_elsewhere(before: Resource, row: Resource) -> None:
    still = "kept warm" if before.kept_warm else before.state
    what = f"{kind_of(before).replace('_', ' ')} {before.name!r} of run {before.run!r} is still {still}"
    if before.backend != row.backend:
        raise LorasumError(
            f"{what} on {before.backend}", f"remove it first: `lorasum teardown --set backend={before.backend}`"
        )
    if before.account_and_region not in ("", row.account_and_region):
        raise LorasumError(
            f"{what} in {before.account_and_region}",
            "remove it first: `lorasum teardown` with the account and region of then",
        )


def _read_one(db: sqlite3.Connection, like: Resource) -> Resource | None:
    return next(iter(_select(db, {"run": like.run, "kind": kind_of(like), "name": like.name})), None)


def _select(db: sqlite3.Connection, wanted: Mapping[str, str]) -> list[Resource]:
    conditions = " AND ".join([f"{column}=?" for column in wanted]) or "TRUE"
    query = f"SELECT * FROM resources WHERE {conditions} ORDER BY updated_at, rowid"  # noqa: S608  # columns are ours
    return [_resource(row) for row in db.execute(query, tuple(wanted.values()))]


def _write(db: sqlite3.Connection, row: Resource) -> None:
    """Write a row. An existing one keeps its rowid, which orders the rows that changed at the same moment."""
    price = _UNKNOWN if row.usd_per_hour is None else row.usd_per_hour
    stored = row.stored if isinstance(row, Unreadable) else json.dumps(details(row))
    values = (row.run, kind_of(row), row.name, row.backend, row.state, stored, row.created_at, row.updated_at, price)
    db.execute(
        "INSERT INTO resources (run, kind, name, backend, state, detail, created_at, updated_at, usd_per_hour) "
        "VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (run, kind, name) DO UPDATE SET backend=excluded.backend, "
        "state=excluded.state, detail=excluded.detail, created_at=excluded.created_at, "
        "updated_at=excluded.updated_at, usd_per_hour=excluded.usd_per_hour",
        values,
    )


def _resource(row: sqlite3.Row) -> Resource:
    columns = {name: row[name] for name in COLUMNS}
    if columns["usd_per_hour"] == _UNKNOWN:
        columns["usd_per_hour"] = None
    return parse(columns, row["detail"])
