"""Starts processes that cost no imports, and tells how they ended. zygote.py is what forks them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_SECONDS = 600  # a client takes less than one and a training a few, but the machine may be busy


@dataclass
class Ended:
    """How a process ended. `code` is minus the signal for one that was killed; `calls` is what was counted."""

    code: int
    stdout: str
    stderr: str
    calls: int

    def clean(self) -> bool:
        """It did what it was told, was stopped, or said in one line why not and in one what to do."""
        said = self.stderr.splitlines()[-2:]
        refused = len(said) == 2 and said[0].startswith("error: ") and said[1].startswith("hint: ")
        return "Traceback" not in self.stderr and (self.code in (0, 130, -9) or (self.code == 2 and refused))

    def interrupted(self) -> bool:
        """It was stopped by a signal as it is to be, or had done its work before."""
        heard = "stopping, because of" in self.stderr
        return "Traceback" not in self.stderr and self.code == (130 if heard else 0)


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

    def wait(self) -> Ended:
        deadline = time.monotonic() + _SECONDS
        while not (self.folder / "code").exists():
            assert time.monotonic() < deadline, f"it hangs: {(self.folder / 'stderr').read_text()}"
            time.sleep(0.01)
        calls = self.folder / "calls"
        said = [(self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        counted = int(calls.read_text() or 0) if calls.exists() else 0
        code = int((self.folder / "code").read_text())
        shutil.rmtree(self.folder)
        return Ended(code, said[0], said[1], counted)


def begun(command: list[str], environ: Mapping[str, str]) -> "subprocess.Popen[str]":
    """A process that takes requests on stdin, after it has imported what the forks need."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


class Zygote:
    """Starts processes that cost no imports: clients, or trainings (see zygote.py)."""

    def __init__(self, folder: Path, program: Literal["client", "training"] = "client") -> None:
        self._folder, self._count = folder, 0
        folder.mkdir()
        scripts = Path(__file__).parents[2] / "container_scripts"
        path = os.pathsep.join([str(scripts), os.environ.get("PYTHONPATH", "")])
        quiet = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
        coloured = ("FORCE_COLOR", "GITHUB_ACTIONS")  # typer reads them when it is imported
        inherited = {name: value for name, value in os.environ.items() if name not in coloured}
        self.process = begun(
            [sys.executable, str(Path(__file__).with_name("zygote.py")), program],
            {**inherited, **quiet, **({"PYTHONPATH": path} if program == "training" else {})},
        )

    def start(
        self, arguments: list[str], environ: Mapping[str, str], blow: Mapping[str, object], script: str = ""
    ) -> Client:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        request = {"arguments": arguments, "environ": dict(environ), "folder": str(folder), "blow": dict(blow)}
        request["script"] = script
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Client(folder)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(_SECONDS)
