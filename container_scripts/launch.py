"""Starts the training processes of this machine where there are several, and ends them together.

train.py asks it first. Where it is to be one of several processes, it becomes their parent instead, and starts itself
again for each of them, with the variables that torchrun would set. Standard library only: the parent needs no torch.

    parent, train.py --flags         SIGTERM goes on to all; its exit status is that of the job
      RANK=0, train.py --flags       writes events, checkpoints and the artifact
      RANK=1, train.py --flags       ...

torchrun would leave its processes behind when it is killed, end them without time for a checkpoint, and write a report
of its own in place of one reason.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from shared.container_limits import processors
from shared.failure import Failure, failure_text
from shared.names import FAILURE_FILE, LAUNCHED, PROCESSES, RENDEZVOUS, SM_CURRENT_HOST, SM_HOSTS

STOPPED = 143
"""Exit status of a process that ended on SIGTERM, by the shell's convention: 128 + 15."""
PEER_LOST = 75
"""Exit status of a process that could not go on without another one, which has ended: its own reason is the reason."""
_CONSEQUENCES = (PEER_LOST, -signal.SIGABRT)
"""Statuses that another process may cause. NCCL aborts a process whose connection to another machine has ended."""
_STOP_TAKES = 100.0  # seconds at most to save a checkpoint: SageMaker and the local backend kill after 120
_FAILURE_TAKES = 30.0  # the same after one process has failed: the others may wait for it for ever
_CAUSE_TAKES = 1.0  # seconds that a process may take to end after its connections have
_OTHERS_FIRST = 20.0  # seconds in which the machine whose process failed may end before this one, and so be the reason
_PORT = 29500
_POLL = 0.05  # seconds


def ranks(environ: Mapping[str, str]) -> list[dict[str, str]]:
    """The variables of each process that is to be started here; none if this process is to train by itself."""
    if "RANK" in environ:
        return []
    here, hosts = int(environ.get(PROCESSES, 1)), sorted(json.loads(environ.get(SM_HOSTS, "[]"))) or ["localhost"]
    size = here * len(hosts)
    if size == 1:
        return []
    first = here * hosts.index(environ.get(SM_CURRENT_HOST, hosts[0]))
    common = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(here), LAUNCHED: "1"}
    common["OMP_NUM_THREADS"] = environ.get("OMP_NUM_THREADS", str(max(processors() // here, 1)))
    if len(hosts) > 1:
        common |= {"MASTER_ADDR": hosts[0], "MASTER_PORT": environ.get("MASTER_PORT", str(_PORT))}
    return [common | {"RANK": str(first + number), "LOCAL_RANK": str(number)} for number in range(here)]


def run(variables: Sequence[Mapping[str, str]], output: Path) -> int:
    """Start this program once for each of `variables`, and wait until all of them have ended.

    Args:
        output: gets the file `failure` if a process ended without saying why.

    Returns:
        0 if all processes did their work, STOPPED if one was asked to stop, else 1.
    """
    children: list[subprocess.Popen[bytes]] = []
    asked = False

    def pass_on(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        _send(children, signal.SIGTERM)

    on_sigterm(pass_on)
    (output / FAILURE_FILE).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="lorasum-") as folder:
        # The processes of one machine find each other by a file, so that no port is open.
        met = {} if "MASTER_ADDR" in variables[0] else {RENDEZVOUS: f"file://{folder}/rendezvous"}
        try:
            for more in variables:
                environ = {**os.environ, **more, **met}
                child = subprocess.Popen([sys.executable, *sys.argv], env=environ, stdin=subprocess.PIPE)  # noqa: S603
                children.append(child)
            if asked:  # it came before all were there
                _send(children, signal.SIGTERM)
            return _result(children, _wait(children), output, other_machines=not met)
        finally:
            _send(children, signal.SIGKILL)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process at once. The system does so by itself, but not with a container's first process,
    which hears only the signals that it asks for: a stopped job would run, and be paid for, until SIGKILL.
    """
    on_sigterm(lambda _number, _frame: os._exit(STOPPED))


def on_sigterm(handler: Callable[[int, FrameType | None], object]) -> None:
    """Have SIGTERM handled from now on, also one that start.py has held back for this program until it is heard."""
    signal.signal(signal.SIGTERM, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def end_with_parent(environ: Mapping[str, str]) -> None:
    """In a process that `run` has started: end when the parent ends, however it does. Standard input ends with it."""

    def watch() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    if environ.get(LAUNCHED) == "1":
        threading.Thread(target=watch, daemon=True).start()


def end_at_once(main: Callable[[], int]) -> NoReturn:
    """Run a program, and end the process with its status. One of several is ended without taking it apart.

    Taking NCCL apart waits for the other processes of the machine. These wait for this one's gradients, and `run` for
    its end: a job that has failed would be paid for until NCCL's time limit.
    """
    if "RANK" not in os.environ:
        sys.exit(main())
    status = 1
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Wait until all have ended; once one has not done its work, only for a time. Returns the first such status, or 0.

    An exit code that the end of another process can cause is reported only if none has its own a moment later.
    """
    first, seen, deadline = 0, float("inf"), float("inf")
    while None in [child.poll() for child in children]:
        now = time.monotonic()
        if not first and (status := _worst(children)):
            seen = min(seen, now)
            if status not in _CONSEQUENCES or now - seen > _CAUSE_TAKES:
                first = status
                deadline = now + (_STOP_TAKES if _is_stop(status) else _FAILURE_TAKES)
                _send(children, signal.SIGTERM)
        if now > deadline:
            _send(children, signal.SIGKILL)
        time.sleep(_POLL)
    return first or _worst(children)


def _worst(children: Sequence["subprocess.Popen[bytes]"]) -> int:
    """The status of a child that has not done its work, a consequence if there is no other; 0 if there is none."""
    bad = [child.returncode for child in children if child.returncode]
    return next((status for status in bad if status not in _CONSEQUENCES), bad[0] if bad else 0)


def _is_stop(status: int) -> bool:
    return status in (STOPPED, -signal.SIGTERM)


def _result(children: Sequence["subprocess.Popen[bytes]"], status: int, output: Path, other_machines: bool) -> int:
    """The exit status of the job on this machine. If no process has said why it failed, the reason is written here."""
    if status == 0:
        return 0
    if _is_stop(status):
        return STOPPED
    if not (output / FAILURE_FILE).exists():
        if status in _CONSEQUENCES and other_machines:
            time.sleep(_OTHERS_FIRST)
        number = [child.returncode for child in children].index(status) + 1
        failure = _reason(status, number, len(children), other_machines)
        print(f"error: {failure.message}\nhint: {failure.hint}", file=sys.stderr)
        output.mkdir(parents=True, exist_ok=True)
        (output / FAILURE_FILE).write_text(failure_text(failure), encoding="utf-8")
    return 1


def _reason(status: int, number: int, count: int, other_machines: bool) -> Failure:
    again = "the same command starts the job again, from its newest checkpoint"
    process = f"training process {number} of {count}"
    if status == PEER_LOST and not other_machines:
        return Failure("the training processes cannot reach each other", f"the log says why; {again}")
    if status in _CONSEQUENCES and other_machines:
        return Failure("a training process of another machine has ended", f"the log of that machine says why; {again}")
    if status == -signal.SIGKILL:
        killed = "was killed (signal 9), as systems do when memory runs out"
        return Failure(f"{process} {killed}", f"use fewer processes, or lower data.max_length; {again}")
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return Failure(f"{process} {how}", f"the log says more; {again}")


def _send(children: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)
