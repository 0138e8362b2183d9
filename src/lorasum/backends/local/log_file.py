"""A file that a process of this machine writes lines into, read while it grows."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL = 0.2  # seconds


def lines_of(path: Path, is_running: Callable[[], bool], begins: int = 0) -> Iterator[bytes]:
    """Yield the lines of a file, and wait for more while its writer runs. No file has no lines.

    Args:
        begins: byte of the first line.
        is_running: whether somebody still writes into it. It is asked before each reading, so that nothing is missed.
    """
    position, rest = begins, b""
    while True:
        running = is_running()
        if path.is_file():
            with path.open("rb") as file:
                if path.stat().st_size < position:  # it was emptied for another process
                    position, rest = 0, b""
                file.seek(position)
                rest += file.read()
                position = file.tell()
        *lines, rest = rest.split(b"\n")
        yield from lines
        if not running:
            if rest:
                yield rest
            return
        time.sleep(POLL)
