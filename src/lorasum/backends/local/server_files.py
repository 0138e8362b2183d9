"""The files through which a local endpoint's server and its client talk, in the endpoint's folder.

server.json   written by the server when its port is open: a `ServerState`
expires_at    written by the client: the time, with its zone, at which the server ends; it may be changed or removed
log           what the server prints; its last line begins with REASON when the server gives up
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from lorasum.system.files import write_file

STATE_FILE: Final = "server.json"
EXPIRY_FILE: Final = "expires_at"
REASON: Final = "cannot serve: "


@dataclass(frozen=True, slots=True)
class ServerState:
    """What a server says of itself; `artifact` is what it serves."""

    port: int
    pid: int
    artifact: str

    def write(self, folder: Path) -> None:
        """Write server.json."""
        write_file(folder / STATE_FILE, json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "ServerState | None":
        """What server.json says; None if it is not written yet, or damaged."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json((folder / STATE_FILE).read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None


def is_written(folder: Path) -> bool:
    """Whether there is a server.json, damaged or not."""
    return os.path.lexists(folder / STATE_FILE)


def forget(folder: Path) -> bool:
    """Remove server.json, or a folder in its place. True if there was one.

    Raises:
        OSError: it cannot be removed.
    """
    path = folder / STATE_FILE
    existed = is_written(folder)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return existed


def write_expiry(folder: Path, at: datetime | None) -> None:
    """Say when the server ends, which looks here every second. None takes the time away.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / EXPIRY_FILE
    if at is None:
        path.unlink(missing_ok=True)
    else:
        write_file(path, at.isoformat())


def read_expiry(folder: Path) -> datetime | None:
    """When the server ends; None if no time is written, or one without a zone."""
    try:
        end = datetime.fromisoformat((folder / EXPIRY_FILE).read_text())
    except (OSError, ValueError):
        return None
    return end if end.tzinfo else None
