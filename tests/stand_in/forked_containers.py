"""Containers that cost no imports, in place of stand_in_container.py's. container_zygote.py is what forks them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import stand_in_container as container
from forks import begun

_SECONDS = 600  # to begin; it takes a moment, but the machine may be busy


class ForkedContainer:
    """A container's first process, as subprocess.Popen shows one that is our own child."""

    def __init__(self, folder: Path, output: int) -> None:
        self.stdout = os.fdopen(output, "rb")
        self.returncode: int | None = None
        self._folder = folder
        self.pid = int(self._written("pid"))

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        if self.returncode is None and (self._folder / "code").exists():
            self.returncode = int((self._folder / "code").read_text())
        return self.returncode

    def wait(self, timeout: float = _SECONDS) -> int:
        """Its exit status, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it did not end in time.
        """
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("container", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and its exit status is being written
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it runs."""
        self.send_signal(signal.SIGKILL)

    def _written(self, name: str) -> str:
        """What the zygote writes of it, which is waited for."""
        deadline = time.monotonic() + _SECONDS
        while not (self._folder / name).exists():
            assert time.monotonic() < deadline, "the container did not begin"
            time.sleep(0.01)
        return (self._folder / name).read_text()


class ContainerZygote:
    """Starts containers whose libraries are imported once, for all of them, when the first one is started."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="stand-in-containers-")
        self._count, self._starting = 0, threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(
        self, root: Path, command: Sequence[str], environ: Mapping[str, str], network: bool = True
    ) -> ForkedContainer:
        """What stand_in_container.start does, for a command of Python and a script."""
        said, output = os.pipe()
        with self._starting:
            process = self._process = self._process or _zygote()
            self._count += 1
            folder = Path(self._folder.name) / str(self._count)
            folder.mkdir()
            request = {
                "command": list(command),
                "environ": container.environ_of(root, environ),
                "root": str(root),
                "network": network,
                "output": f"/proc/{os.getpid()}/fd/{output}",
                "folder": str(folder),
            }
            assert process.stdin
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        try:
            return ForkedContainer(folder, said)
        finally:
            os.close(output)  # the container has it: what it says ends when it ends

    def close(self) -> None:
        """Let no more containers start."""
        if self._process:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait(_SECONDS)
        self._folder.cleanup()


def _zygote() -> "subprocess.Popen[str]":
    script = Path(__file__).with_name("container_zygote.py")
    environ = container.environ_of("/", {"TOKENIZERS_PARALLELISM": "false"})
    return begun([sys.executable, str(script)], environ)
