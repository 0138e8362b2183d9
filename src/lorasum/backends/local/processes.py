"""Start, find and stop lorasum's processes on this machine. Each has a session of its own.

No pid is written down. A process is lorasum's if its command line names its folder, and its environment holds the
digest of that command line, which `spawn` has put there. So it is found even when the process that started it has died
or its files are lost, and an editor or a debugger on the same folder is not mistaken for it. Zombies count as gone.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasum.backends.local.preflight import require_proc
from lorasum.errors import BackendError
from lorasum.system.files import open_file
from lorasum.system.script_environment import script_environment

if TYPE_CHECKING:
    from psutil import Process

_POLL = 0.05  # seconds
_KILL_TAKES = 10.0  # seconds at most for the system to remove a killed process
_APPEARING_TAKES = 10.0  # seconds at most until a new process shows its command line
_MARK = "LORASUM_PROCESS"  # environment variable

_children: list[subprocess.Popen[bytes]] = []


def spawn(
    command: Sequence[str], cwd: Path, log: Path, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one. It has a session of its own and no input, and its output goes to `log`.

    Its OpenMP threads sleep while they wait for one another, unless the environment sets a policy. By default they
    spin, which made torch ten times slower on a busy machine.

    Raises:
        OSError: the log cannot be written, or the program cannot be run.
        BackendError: it could not be found again.
    """
    require_proc()
    passed = script_environment(os.environ if environ is None else environ)
    with open_file(log, "ab") as output:
        child = subprocess.Popen(  # noqa: S603
            command,
            cwd=cwd,
            env={"OMP_WAIT_POLICY": "PASSIVE", **passed, _MARK: _mark(command)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=_umask(passed),
        )
    _children.append(child)
    _wait_recognisable(child)
    return child


def _umask(environ: Mapping[str, str]) -> int:
    """The umask of our processes, so that their files are private. -1, no change, if a shared model cache is set."""
    return -1 if {"HF_HOME", "HF_HUB_CACHE"} & environ.keys() else 0o077


def find(flag: str, accept: Callable[[str], bool]) -> list[tuple["Process", str]]:
    """Our processes with a value of `flag` that `accept` takes, and that value; of parent and child only the parent."""
    if find_spec("psutil") is None:  # it comes with the extra `local`: without that, no process was started
        return []
    require_proc()
    import psutil

    for child in _children:
        child.poll()  # reaps it; else it stays a zombie while this process lives
    matching: dict[int, tuple[Process, str]] = {}
    for process in psutil.process_iter():
        command = _command_line(process)
        value = flag_value(command, flag)
        if value is not None and accept(value) and _is_ours(process, command) and alive(process):
            matching[process.pid] = (process, value)
    return [(process, value) for process, value in matching.values() if _parent_pid(process) not in matching]


def flag_value(command: Sequence[str], flag: str) -> str | None:
    """The value after `flag` in a command line; None if there is no such flag."""
    return next((value for name, value in pairwise(command) if name == flag), None)


def alive(process: "Process") -> bool:
    """Whether the process still runs. False for a zombie, and if another process has got its pid."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(processes: Iterable["Process"], grace: float) -> None:
    """Send SIGTERM. After `grace` seconds, send SIGKILL to those that still run, and to their process groups.

    Raises:
        BackendError: a process does not end even then.
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
    """The process that listens on a local TCP port, such as "process 12 (python)"; empty if it is unknown."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS tells only root
        return ""
    for connection in connections:
        if port in _listened(connection) and connection.pid:
            with suppress(psutil.NoSuchProcess):
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def port_of(process: "Process") -> int | None:
    """The TCP port that one of our processes listens on; None if there is none yet or it is unknown."""
    import psutil

    try:
        ports = [port for connection in process.net_connections(kind="tcp") for port in _listened(connection)]
    except psutil.Error:
        return None
    return ports[0] if ports else None


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log, oldest first, without blank ones; empty if there is no log."""
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
    """Wait until the system shows a new process's command line, which takes a moment. Before that `find` misses it."""
    import psutil

    deadline = time.monotonic() + _APPEARING_TAKES
    while child.poll() is None and time.monotonic() < deadline:
        try:
            process = psutil.Process(child.pid)
            if _is_ours(process, process.cmdline()):
                return
        except psutil.NoSuchProcess:  # it has ended already; the next poll says so
            continue
        time.sleep(0.001)


def _command_line(process: "Process") -> list[str]:
    """The command line of a process; empty for a zombie, and for one that is not ours to look at.

    A new child has none yet, which is waited for. `spawn` waits too, but a signal may have interrupted it: the child
    that the command then wants to stop must not be missed.
    """
    import psutil

    deadline = time.monotonic() + _APPEARING_TAKES
    try:
        while not (command := process.cmdline()) and process.ppid() == os.getpid() and time.monotonic() < deadline:
            time.sleep(0.001)
        return command
    except psutil.Error:
        return []


def _mark(command: Sequence[str]) -> str:
    """Digest of a command line without the program's path, which some systems change."""
    return hashlib.sha256(json.dumps(list(command[1:])).encode()).hexdigest()


def _is_ours(process: "Process", command: Sequence[str]) -> bool:
    """Whether `spawn` started the process: its environment holds the digest of its command line."""
    import psutil

    try:
        return process.environ().get(_MARK) == _mark(command)
    except (psutil.Error, OSError):  # another user's, or it has just ended
        return False


def _listened(connection: Any) -> list[int]:
    """The port of a connection in state LISTEN; empty for any other."""
    import psutil

    return [connection.laddr.port] if connection.status == psutil.CONN_LISTEN and connection.laddr else []


def _group(process: "Process") -> list["Process"]:
    """The process and all others in its process group. They stay in the group when the process ends first."""
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
    """Wait by polling. psutil's own wait would take the exit status away from the Popen that needs it."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left and time.monotonic() < deadline:
        time.sleep(_POLL)
        left = [process for process in left if alive(process)]
