"""Files of JSON lines, to which a process appends until it ends or is killed."""

import mmap
import os
from pathlib import Path


def end_last_line(file: Path) -> None:
    """Remove the incomplete last line of a file, which a killed process has left. There may be no file."""
    if file.exists() and (size := file.stat().st_size):
        with file.open("rb") as kept, mmap.mmap(kept.fileno(), 0, access=mmap.ACCESS_READ) as content:
            whole = content.rfind(b"\n") + 1
        if whole < size:
            os.truncate(file, whole)
