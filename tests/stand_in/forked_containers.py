"""Containers that cost no imports, in place of stand_in_container.py's. container_zygote.py is what forks them."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import stand_in_container as container
from forks import Zygote

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
        self._zygote: Zygote | None = None
        self._beginning = threading.Lock()

    def start(
        self, root: Path, command: Sequence[str], environ: Mapping[str, str], network: bool = True
    ) -> ForkedContainer:
        """What stand_in_container.start does, for a command of Python and a script."""
        with self._beginning:
            quiet = {"TOKENIZERS_PARALLELISM": "false"}
            self._zygote = self._zygote or Zygote("container", container.environ_of("/", quiet))
        said, output = os.pipe()
        request = {
            "command": list(command),
            "environ": container.environ_of(root, environ),
            "root": str(root),
            "network": network,
            "output": f"/proc/{os.getpid()}/fd/{output}",
        }
        try:
            return ForkedContainer(self._zygote.ask(request), said)
        finally:
            os.close(output)  # the container has it: what it says ends when it ends
