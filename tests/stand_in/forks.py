"""Starts processes that cost no imports, and tells how they ended. A zygote is what forks them: see zygote.py.

All workers of pytest-xdist share the zygotes, because each takes seconds of CPU to begin. A request is a folder with
request.json, whose path is one line in a named pipe. Pytest's first process holds the pipes open: zygotes end with it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, AnyStr

from filelock import FileLock

_SHARED = "LORASUM_TEST_ZYGOTES"
"""The variable with the folder of the pipes."""
_SCRIPTS = {"client": "zygote.py", "training": "zygote.py", "container": "container_zygote.py"}
_SECONDS = 600  # a client takes less than one and a training a few, but the machine may be busy


@dataclass
class Ended:
    """How a process ended. `code` is minus the signal for one that was killed; `calls` is what was counted.

    `place` is where a signal came at a step.
    """

    code: int
    stdout: str
    stderr: str
    calls: int
    place: str = ""

    def clean(self) -> bool:
        """It did what it was told, was stopped, or said in one line why not and in one what to do."""
        said = self.stderr.splitlines()[-2:]
        refused = len(said) == 2 and said[0].startswith("error: ") and said[1].startswith("hint: ")
        stopped = self.code in (130, -signal.SIGINT, -signal.SIGKILL)
        return "Traceback" not in self.stderr and (self.code == 0 or stopped or (self.code in (2, 5) and refused))

    def interrupted(self) -> bool:
        """It was stopped by a signal as it is to be, or had done its work before."""
        heard = self.stderr.partition("stopping, because of ")[2]
        code = -signal.SIGINT if heard.startswith("Ctrl-C") else 130
        return "Traceback" not in self.stderr and self.code == (code if heard else 0)


@dataclass
class Client:
    """A process at work."""

    folder: Path

    @property
    def pid(self) -> int:
        """Of the process; it waits until there is one."""
        pid = self.folder / "pid"
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        return int(pid.read_text())

    def said(self) -> str:
        """What is on its stderr so far."""
        stderr = self.folder / "stderr"
        return stderr.read_text(errors="replace") if stderr.exists() else ""

    def kill(self) -> Ended:
        """End it at once, if it has not ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> Ended:
        deadline = time.monotonic() + _SECONDS
        while not (self.folder / "code").exists():
            assert time.monotonic() < deadline, f"it hangs: {self.said()}"
            time.sleep(0.01)
        calls = self.folder / "calls"
        said = [(self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        place = (self.folder / "place").read_text() if (self.folder / "place").exists() else ""
        counted = int(calls.read_text() or 0) if calls.exists() else 0
        code = int((self.folder / "code").read_text())
        shutil.rmtree(self.folder)
        return Ended(code, said[0], said[1], counted, place)


class Popen(subprocess.Popen[AnyStr]):
    """A command that a test starts for the length of a block. If the block fails, it is killed.

    subprocess's own would wait for it, without end where the fault is that it hangs, and no timeout would come again.
    """

    def __exit__(self, failed: type[BaseException] | None, *more: Any) -> None:
        if failed:
            self.kill()
        super().__exit__(failed, *more)


def share() -> Callable[[], None]:
    """Make the pipes, for this process and those it starts. Returns what lets the zygotes end."""
    folder = Path(tempfile.mkdtemp(prefix="lorasum-zygotes-"))
    os.environ[_SHARED] = str(folder)
    pipes = []
    for program in _SCRIPTS:
        os.mkfifo(folder / program)
        pipes.append(os.open(folder / program, os.O_RDWR))

    def end() -> None:
        for pipe in pipes:
            os.close(pipe)
        shutil.rmtree(folder, ignore_errors=True)

    return end


class Zygote:
    """The zygote of `program`: client, training or container. It begins when it is first needed, with `environ`."""

    def __init__(self, program: str, environ: Mapping[str, str]) -> None:
        self._folder = Path(os.environ[_SHARED])
        self._requests = self._folder / program
        ready = self._folder / f"{program}-is-ready"
        with FileLock(self._folder / f"{program}.lock"):
            if not ready.exists():
                self._begin(program, environ)
                ready.touch()

    def ask(self, request: Mapping[str, Any]) -> Path:
        """Have a process forked. Returns its folder, where the zygote writes how it fares."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / "request.json").write_text(json.dumps(request))
        with self._requests.open("w") as pipe:
            pipe.write(f"{folder}\n")  # at once, for it is short: other workers write too
        return folder

    def start(
        self,
        arguments: list[str],
        environ: Mapping[str, str],
        blow: Mapping[str, object],
        script: str = "",
        terminal: str = os.devnull,
    ) -> Client:
        """Start a client or a training; see zygote.py."""
        asked = {"arguments": arguments, "environ": dict(environ), "blow": dict(blow)}
        return Client(self.ask({**asked, "script": script, "terminal": terminal}))

    def _begin(self, program: str, environ: Mapping[str, str]) -> None:
        command = [sys.executable, str(Path(__file__).with_name(_SCRIPTS[program])), program]
        said = self._folder / f"{program}.stderr"  # a client may begin it, whose own stderr is to end with the client
        with self._requests.open() as requests, said.open("w") as stderr:
            self._process = subprocess.Popen(
                command, stdin=requests, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environ
            )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", said.read_text()


def clients() -> Zygote:
    """Starts `lorasum`."""
    coloured = ("FORCE_COLOR", "GITHUB_ACTIONS")  # typer reads them when it is imported
    return Zygote("client", {name: value for name, value in _environ().items() if name not in coloured})


def trainings() -> Zygote:
    """Runs container_scripts/train.py."""
    path = os.pathsep.join([str(Path(__file__).parents[2] / "container_scripts"), os.environ.get("PYTHONPATH", "")])
    return Zygote("training", _environ() | {"PYTHONPATH": path})


def _environ() -> dict[str, str]:
    quiet = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    return {**os.environ, **quiet}
