"""A container that is a process: its /opt/ml is a folder of its own, by a mount namespace.

`unshare --mount` (with a user namespace for those who are not root) gives the process its own view of /opt: everything
that is there, and ml/. Nothing is created on the host, and the process that is signalled is the container's first one.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from forks import Popen

LAY_OUT = """
set -e
mkdir -p "$1/host" && mount --rbind /opt "$1/host" && mount -t tmpfs tmpfs /opt
for entry in "$1"/host/*; do
  if [ -d "$entry" ] && [ "${entry##*/}" != ml ]; then
    mkdir "/opt/${entry##*/}" && mount --rbind "$entry" "/opt/${entry##*/}"
  fi
done
mkdir /opt/ml && mount --bind "$1/ml" /opt/ml
if [ -f "$1/hosts" ]; then mount --bind "$1/hosts" /etc/hosts; fi
"""
"""Mounts, in a mount namespace, what a container sees of the folder $1."""
_RUN = f"""{LAY_OUT}
cd /
shift
exec "$@"
"""


def possible() -> bool:
    """Whether this system lets us have a mount namespace."""
    return subprocess.run([*_unshare(), "true"], capture_output=True, check=False).returncode == 0


def first_process(command: Sequence[str], environ: Mapping[str, str], root: Path | None = None) -> "FirstProcess":
    """Run `command` as the first process of a container, with `root`/ml as /opt/ml if there is a root.

    Such a process hears no signal but those that it asks for, and what it started ends when it ends. Elsewhere a
    program that forgets to ask is ended by the system all the same.
    """
    laid_out = [] if root is None else ["sh", "-c", _RUN, "sh", str(root)]
    return FirstProcess([*_unshare(), *_ALONE, *laid_out, *command], environ)


def first_possible() -> bool:
    """Whether this system lets us have a container's first process."""
    return subprocess.run([*_unshare(), *_ALONE, "true"], capture_output=True, check=False).returncode == 0


class FirstProcess(Popen[str]):
    """Its outputs are text, and SIGTERM goes to it, not to `unshare`, which waits for it and ends with its status."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        super().__init__(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace"
        )

    def send_signal(self, number: int) -> None:
        [first] = psutil.Process(self.pid).children()
        first.send_signal(number)

    def kill(self) -> None:
        super().send_signal(signal.SIGKILL)  # the first process goes with it: --kill-child


def environ_of(root: Path | str, environ: Mapping[str, str]) -> dict[str, str]:
    """All variables of a container: PATH, HOME, LANG, that torch computes on one thread, and these."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": path, "HOME": str(root), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **environ}


def start(
    root: Path, command: Sequence[str], environ: Mapping[str, str], network: bool = True
) -> subprocess.Popen[bytes]:
    """Run `command` with `root`/ml as /opt/ml, and the variables of `environ_of`.

    Without `network` it has none at all, as in network isolation: no name is resolved and nothing is connected. If
    `root`/hosts is there, it is /etc/hosts.
    """
    return subprocess.Popen(
        [*_unshare(), *([] if network else ["--net"]), "sh", "-c", _RUN, "sh", str(root), *command],
        env=environ_of(root, environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )


_ALONE = ("--pid", "--fork", "--mount-proc", "--kill-child")


def _unshare() -> list[str]:
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
