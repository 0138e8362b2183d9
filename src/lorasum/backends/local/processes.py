"""Processes of ours on this machine: started in sessions of their own, recognised by their command line, stopped.

No pid is written down: whatever happened to who started it, a process whose command line holds its private folder is
found, and nothing else is ever taken for it. Zombies count as gone.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from lorasum.errors import BackendError

if TYPE_CHECKING:
    from psutil import Process

_POLL = 0.05  # seconds
_KILL_TAKES = 10.0  # seconds at most for the system to remove a killed process
_APPEARING_TAKES = 10.0  # seconds at most until a new process shows its command line

_children: list[subprocess.Popen[bytes]] = []


def require(doing: str, modules: Sequence[str]) -> None:
    """Check that modules can be imported, without importing them.

    Raises:
        BackendError: some cannot; `doing` begins the message.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise BackendError(f"{doing} on this machine needs {', '.join(missing)}", "pip install 'lorasum[local]'")


def spawn(
    command: Sequence[str], cwd: Path, log: Path, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one: a session of its own, no input, stdout and stderr to the end of `log`.

    Its OpenMP threads sleep while they wait for one another, unless the environment says otherwise: spinning, the
    default, made torch ten times slower on a machine that does something else at the same time.

    Raises:
        OSError: the log cannot be written or the program not run.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603
            command,
            cwd=cwd,
            env={"OMP_WAIT_POLICY": "PASSIVE", **(os.environ if environ is None else environ)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(child)
    _wait_recognisable(child)
    return child


def find(flag: str, accept: Callable[[str], bool]) -> list[tuple["Process", str]]:
    """Running processes with `flag` and a value that is accepted, and that value; of parent and child, the parent."""
    if find_spec("psutil") is None:  # the extra that starts processes brings it: without it there are none
        return []
    import psutil

    for child in _children:
        child.poll()  # or it would stay a zombie for as long as this process lives
    found: dict[int, tuple[Process, str]] = {}
    for process in psutil.process_iter(["cmdline"]):  # a zombie has no command line
        value = flag_value(process.info["cmdline"] or [], flag)
        if value is not None and accept(value) and alive(process):
            found[process.pid] = (process, value)
    return [(process, value) for process, value in found.values() if _parent_pid(process) not in found]


def flag_value(command: Sequence[str], flag: str) -> str | None:
    """What follows `flag` in a command line, None if it is not there."""
    return next((value for name, value in pairwise(command) if name == flag), None)


def alive(process: "Process") -> bool:
    """Whether the process still runs: not ended, not a zombie, its pid not taken by another."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(processes: Iterable["Process"], grace: float) -> None:
    """SIGTERM; after `grace` seconds at most, SIGKILL to each and to all it has started in its process group.

    Raises:
        BackendError: one does not end even so.
    """
    import psutil

    roots = list(processes)
    family = {member for root in roots for member in _group(root)}
    for root in roots:
        try:
            root.terminate()
        except psutil.NoSuchProcess:
            continue
    _wait_gone(roots, grace)
    family |= {member for root in roots for member in _group(root)}
    for member in family:
        if alive(member):
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
    _wait_gone(family, _KILL_TAKES)
    if stubborn := [member.pid for member in family if alive(member)]:
        raise BackendError(f"process {stubborn[0]} does not end, even when killed", f"look at `ps {stubborn[0]}`")


def holder(port: int) -> str:
    """The process that listens on a local TCP port, as "process 12 (name)"; empty when the system does not tell."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS tells root only
        return ""
    for connection in connections:
        listens_on = getattr(connection.laddr, "port", None) if connection.status == psutil.CONN_LISTEN else None
        if listens_on == port and connection.pid:
            return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log that are not blank, oldest first; none when there is no log."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = file.read().decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()][-count:]


def python(*arguments: str) -> list[str]:
    """The command line of this very interpreter with `arguments`."""
    return [sys.executable, *arguments]


def _wait_recognisable(child: subprocess.Popen[bytes]) -> None:
    """Wait for the moment that the system takes to show a new process's command line: without it `find` misses it."""
    import psutil

    deadline = time.monotonic() + _APPEARING_TAKES
    while child.poll() is None and time.monotonic() < deadline:
        try:
            if psutil.Process(child.pid).cmdline():
                return
        except psutil.ZombieProcess:  # it has ended already; the next poll says so
            continue
        time.sleep(0.001)


def _group(process: "Process") -> list["Process"]:
    """The process and the others in the process group it leads. They keep that group when it ends before them."""
    import psutil

    return [process, *(other for other in psutil.process_iter() if _group_id(other.pid) == process.pid)]


def _group_id(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _parent_pid(process: "Process") -> int | None:
    import psutil

    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _wait_gone(processes: Iterable["Process"], seconds: float) -> None:
    """Wait by looking: psutil's own wait would take the exit status from the Popen that is owed it."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left and time.monotonic() < deadline:
        time.sleep(_POLL)
        left = [process for process in left if alive(process)]
