"""The ledger's file: its schema, its version (SQLite's own `user_version`), and the setting aside of a damaged one."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from filelock import FileLock

from lorasum.errors import LorasumError
from lorasum.ledger.resources import COLUMNS
from lorasum.system import paths
from lorasum.system.files import FILE_MODE, FOLDER_MODE, make_folder, open_file

VERSION: Final = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    run TEXT NOT NULL,
    kind TEXT NOT NULL,          -- dataset | training_job | endpoint
    name TEXT NOT NULL,
    backend TEXT NOT NULL,
    state TEXT NOT NULL,         -- intended | live | done | stopped | failed | gone
    detail TEXT NOT NULL,        -- JSON
    created_at TEXT NOT NULL,    -- UTC, ISO 8601
    updated_at TEXT NOT NULL,
    usd_per_hour REAL NOT NULL DEFAULT 0,  -- -1: unknown
    PRIMARY KEY (run, kind, name)
);
"""


class NewerLedgerError(LorasumError):
    """A newer lorasum wrote the ledger, and this one cannot know what its rows mean."""


def open_ledger(path: Path, now: str, warn: Callable[[str], None]) -> sqlite3.Connection:
    """Open the ledger's database. It is made if necessary; a damaged file is set aside, and a new one made.

    Args:
        now: the time. It becomes part of the name of a file that is set aside.
        warn: called with the warning that a file was set aside.

    Raises:
        NewerLedgerError: a newer lorasum wrote it.
        sqlite3.Error, OSError: it cannot be opened.
    """
    make_folder(path.parent)
    if path.parent == paths.home() and not paths.home_is_shared():
        with suppress(OSError):  # on a disk that is read-only, what is on record can still be read
            path.parent.chmod(FOLDER_MODE)  # somebody may have made it by hand
    if path.is_dir() or not (db := _open_whole(path)):
        _set_damaged_aside(path, now, warn)
        db = _connect(path)
    try:
        _make_table(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _open_whole(path: Path) -> sqlite3.Connection | None:
    """The database; None if it is damaged."""
    db = _connect(path)
    try:
        if _is_whole(db):
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return None


def damage_mark(now: str) -> str:
    """The end of the name of a file that is set aside at this time."""
    return f".damaged-{now[:19].replace(':', '')}"


def set_aside(path: Path, now: str) -> Path:
    """Rename a ledger and its journal, which SQLite would else apply to the next one. Returns its new name."""
    kept = path.with_name(f"{path.name}{damage_mark(now)}")
    for suffix in ("-journal", "-wal", "-shm"):
        part = path.with_name(f"{path.name}{suffix}")
        if part.exists():
            part.replace(kept.with_name(f"{kept.name}{suffix}"))
    return path.replace(kept)


def set_aside_files(path: Path) -> list[Path]:
    """The ledgers that were set aside and that nobody has deleted yet, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.damaged-????-??-??T??????"))


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        open_file(path, "ab").close()  # SQLite would make it with the umask's permissions
    db = sqlite3.connect(path, timeout=30)
    db.row_factory = sqlite3.Row
    db.text_factory = _text
    return db


def _text(stored: bytes) -> str:
    """The text of a column. Damaged text may be no UTF-8, and must not hide the other rows."""
    return stored.decode("utf-8", "replace")


def _is_whole(db: sqlite3.Connection) -> bool:
    """Whether SQLite finds no damage, and the table has its columns. The columns of a newer version are not checked."""
    try:
        [(version,)] = db.execute("PRAGMA user_version").fetchall()
        [(said,)] = db.execute("PRAGMA quick_check(1)").fetchall()
        columns = {row["name"] for row in db.execute("PRAGMA table_info(resources)")}
    except UnicodeDecodeError:  # SQLite's message quotes the damaged bytes
        return False
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return False
        raise
    whole = columns >= {*COLUMNS, "detail"} or not (columns or version)
    return said == "ok" and (version > VERSION or whole)


def _set_damaged_aside(path: Path, now: str, warn: Callable[[str], None]) -> None:
    """Set a damaged ledger aside. If two processes do so at once, the second one does nothing."""
    with FileLock(path.with_name(f"{path.name}.lock"), mode=FILE_MODE):
        if not path.is_dir() and (db := _open_whole(path)):
            db.close()
            return
        kept = set_aside(path, now)
    warn(
        f"the ledger is damaged and was set aside as {kept}; what it recorded is unknown now: `lorasum status "
        "--rebuild` with each config records what runs, and `lorasum teardown` removes it"
    )


def _make_table(db: sqlite3.Connection, path: Path) -> None:
    """Make the table of a new file, in one transaction."""
    [(version,)] = db.execute("PRAGMA user_version").fetchall()
    if version > VERSION:
        raise NewerLedgerError(
            f"the ledger {path} is of a newer lorasum: its format is {version}, and this one knows {VERSION}",
            "upgrade lorasum, or make another ledger with `lorasum status --rebuild`; `lorasum teardown` needs none",
        )
    if version < VERSION:
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version = {VERSION}")
