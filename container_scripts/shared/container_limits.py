"""What this process may take of its machine: less than the machine has, in a container or in a job of a batch system.

The client plans with the same code: src/lorasum/shared is a link to this folder.
"""

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_CGROUP, _OURS, _SYSTEM = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/meminfo")
_LIST_GPUS = ("nvidia-smi", "--list-gpus")
_DRIVER_SECONDS = 120  # the first question to a driver takes seconds for each GPU


class _Files(NamedTuple):
    """What a version of cgroups calls a limit, what is in use, and the part of that which is given back for a file."""

    limit: str
    used: str
    given_back: str


_MEMORY = {
    1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: _Files("memory.max", "memory.current", "inactive_file"),
}  # by the version of cgroups
_TIME = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), 2: ("cpu.max",)}  # microseconds of time in every so many


def free_main_memory() -> int:
    """The bytes of main memory that this process can still take."""
    return min([_available(), *(_left(group, _MEMORY[version]) for group, version in _groups("memory"))])


def processors() -> int:
    """How many processors this process may keep busy: those that it may run on, or fewer by a quota of their time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *(_time_is_worth(group, _TIME[version]) for group, version in _groups("cpu"))])


def limit_threads() -> None:
    """Have torch compute in this thread on no more threads than it has processors, unless the user decides.

    OpenMP counts the processors of the machine. With a quota of two out of 64, its 64 threads would use up that time at
    once, and then wait for each other until the next period.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and (most := processors()) < torch.get_num_threads():
        torch.set_num_threads(most)


def visible_gpus(environ: Mapping[str, str]) -> int | None:
    """How many NVIDIA GPUs a program sees: those of CUDA_VISIBLE_DEVICES, or all that the driver tells of.

    None if there is a driver that does not tell.
    """
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    try:
        listed = subprocess.run(  # noqa: S603
            _LIST_GPUS, capture_output=True, text=True, timeout=_DRIVER_SECONDS, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return None
    except OSError:  # nvidia-smi comes with the driver
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _available() -> int:
    """What Linux can give to programs without swapping, in bytes."""
    try:
        lines = _SYSTEM.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux, or no /proc: then all that the machine has
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    values = dict(line.partition(":")[::2] for line in lines)
    return int(values["MemAvailable"].split()[0]) * 1024


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of the groups that may limit this process: its own, and all those around it; and cgroups' version.

    A container sees its own group as the root, or the path of its group on the machine, of which it has no folder.
    """
    try:
        lines = _OURS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top, version = (_CGROUP / controller, 1) if controllers else (_CGROUP, 2)
        own = top / path.lstrip("/")
        yield from ((group, version) for group in (own, *own.parents) if group.is_relative_to(top))


def _left(group: Path, files: _Files) -> int:
    """What a group may still take, in bytes. Files that its processes have read count as used, and are given back."""
    try:
        limit, used = (int((group / name).read_text(encoding="utf-8")) for name in (files.limit, files.used))
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # no such group here, or the limit is "max"
        return sys.maxsize
    given_back = dict(line.split() for line in lines).get(files.given_back, "0")
    return limit - used + int(given_back)


def _time_is_worth(group: Path, files: tuple[str, ...]) -> int:
    """How many processors a group's quota of time is worth, a part of one counted as one."""
    try:
        quota, period = map(int, " ".join((group / name).read_text(encoding="utf-8") for name in files).split())
    except (OSError, ValueError):  # no such group here, or the quota is "max"
        return sys.maxsize
    return math.ceil(quota / period) if quota > 0 else sys.maxsize  # -1 is none
