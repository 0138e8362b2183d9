"""What this process may take of its machine: less than the machine has, in a container or in a job of a batch system.

The client plans with the same code: src/lorasum/container_limits.py is a link to this file.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CGROUP, _OURS, _SYSTEM = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/meminfo")


class _Files(NamedTuple):
    """What a version of cgroups calls a limit, what is in use, and the part of that which is given back for a file."""

    limit: str
    used: str
    given_back: str


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")


def free_main_memory() -> int:
    """The bytes of main memory that this process can still take."""
    return min([_available(), *(_left(group, files) for group, files in _groups())])


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _available() -> int:
    """What Linux can give to programs without swapping, in bytes."""
    try:
        lines = _SYSTEM.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux, or no /proc: then all that the machine has
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    values = dict(line.partition(":")[::2] for line in lines)
    return int(values["MemAvailable"].split()[0]) * 1024


def _groups() -> Iterator[tuple[Path, _Files]]:
    """The folders of the groups that may limit this process's memory: its own, and all those around it.

    A container sees its own group as the root, or the path of its group on the machine, of which it has no folder.
    """
    try:
        lines = _OURS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (_CGROUP / "memory", _VERSION_1) if controllers else (_CGROUP, _VERSION_2)
        own = top / path.lstrip("/")
        yield from ((group, files) for group in (own, *own.parents) if group.is_relative_to(top))


def _left(group: Path, files: _Files) -> int:
    """What a group may still take, in bytes. Files that its processes have read count as used, and are given back."""
    try:
        limit, used = (int((group / name).read_text(encoding="utf-8")) for name in (files.limit, files.used))
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # no such group here, or the limit is "max"
        return sys.maxsize
    given_back = dict(line.split() for line in lines).get(files.given_back, "0")
    return limit - used + int(given_back)
