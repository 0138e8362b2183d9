"""Forks containers from a process that has imported the libraries of the images: torch, transformers, PEFT and others.

A request is a folder, whose path is one line on stdin. Its request.json has `command`, `environ`, `root` and `network`,
as stand_in_container.start takes them, and `output`, the path of the pipe that stdout and stderr go to. In that folder
pid is written when it has begun, and code when it has ended.

A fork has the mount namespace, the variables and the working folder of a real start, and runs the same script. So have
the scripts that it starts, which are a job's processes. Only libraries are shared: our own code is imported from the
container's folders, by each process anew. What libraries
read from variables while they are imported is as in the zygote, so at least one job and one endpoint of the suite are
started for real.
"""

import ctypes
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import serve
import stand_in_container as container

_NEW_MOUNTS, _NEW_USER, _NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # of linux/sched.h
_PATH = sys.path[1:]


def main() -> None:
    import bitsandbytes
    import datasets  # noqa: F401
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BloomForCausalLM
    from warm import warm

    assert all((bitsandbytes, peft, AutoModelForCausalLM, AutoTokenizer, BloomForCausalLM, serve.toolkit()))
    torch.set_num_threads(1)
    warm()
    libraries = frozenset(sys.modules)
    gc.freeze()  # a collection in a fork would copy what it looks at
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    print("ready", flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            wait_for_container(Path(line.rstrip("\n")), libraries)
    os._exit(0)  # taking all that was imported apart would take seconds


def wait_for_container(folder: Path, libraries: frozenset[str]) -> NoReturn:
    """Fork the container, and write down how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads((folder / "request.json").read_text())
    output = os.open(request["output"], os.O_WRONLY)
    pid = os.fork()
    if pid == 0:
        sys.pycache_prefix = str(folder.parent / "compiled")  # for all containers
        be_container(request, output, libraries)
    os.close(output)
    write(folder / "pid", pid)
    _, status = os.waitpid(pid, 0)
    write(folder / "code", os.waitstatus_to_exitcode(status))
    os._exit(0)


def write(path: Path, number: int) -> None:
    path.with_suffix(".part").write_text(str(number))
    path.with_suffix(".part").rename(path)


def be_container(request: Mapping[str, Any], output: int, libraries: frozenset[str]) -> NoReturn:
    """Enter the container, and run its command there."""
    import torch

    # The first call after a fork makes torch's pool of threads again, without a lock. Two threads that load weights may
    # not be the first: "Invalid thread pool!"
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, target in enumerate([os.open(os.devnull, os.O_RDONLY), output, output]):
        os.dup2(target, descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)

    def become(_python: str, command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
        """What os.execve does, where the command is Python's: run its script without importing the libraries anew."""
        for name in sys.modules.keys() - libraries:
            del sys.modules[name]
        os.environ.clear()
        os.environ.update(environ)
        sys.argv = list(command[1:])
        sys.path[:] = [str(Path(sys.argv[0]).parent), *_PATH]
        os._exit(status_of(sys.argv[0]))

    class Popen(subprocess.Popen[Any]):
        """A child that runs a script of Python without importing the libraries again, or any other command."""

        def __init__(self, args: Sequence[str], **more: Any) -> None:
            if args[0] == sys.executable and args[1].endswith(".py"):
                more["preexec_fn"] = partial(be_child, args, more.get("env") or os.environ)
            super().__init__(args, **more)

    def be_child(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
        """What happens to files, signals and threads when a process begins, and then what it runs."""
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(1)
        become(sys.executable, command, environ)

    enter(request["root"], request["network"])
    os.execve = become  # type: ignore[assignment]
    subprocess.Popen = Popen  # type: ignore[assignment,misc]
    become(sys.executable, request["command"], request["environ"])


def enter(root: str, network: bool) -> None:
    """Have a container's view of the file system, and its network."""
    user, group = os.geteuid(), os.getegid()
    flags = _NEW_MOUNTS | (0 if user == 0 else _NEW_USER) | (0 if network else _NEW_NETWORK)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    subprocess.run(["sh", "-c", f"mount --make-rprivate /\n{container.LAY_OUT}", "sh", root], check=True)
    os.chdir("/")


def status_of(script: str) -> int:
    """Run a script to its end, and return the exit status that Python would have."""
    status: Any = 1
    try:
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status)


if __name__ == "__main__":
    main()
