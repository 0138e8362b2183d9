"""SHA-256 digests of files. The digest of a file that has not changed since is remembered."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from lorasum.errors import DataError
from lorasum.system.cache import read_cache, write_cache

_KEPT = 1000  # remembered digests of other files
_STABLE = 2.0  # seconds: a younger file may change again without a new time stamp


def digests(paths: Sequence[Path]) -> list[str]:
    """The digest of each file. The file of remembered digests is read once, and written at most once.

    Raises:
        DataError: one of them cannot be read.
    """
    known = read_cache("digests")
    new = {}
    hashes = []
    for path in paths:
        key = str(path)
        try:
            stat = path.stat()
            state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
            before = known.get(key)
            if isinstance(before, list) and before[:3] == state and len(before) == 4:
                hashes.append(str(before[3]))
                continue
            with path.open("rb") as file:
                hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from error
        if time.time() - stat.st_mtime > _STABLE:
            new[key] = [*state, hashes[-1]]
    if new:
        asked = {str(path) for path in paths}
        others = [one for one in known.items() if one[0] not in asked][-_KEPT:]
        write_cache("digests", dict(others) | {key: known[key] for key in known if key in asked} | new)
    return hashes
