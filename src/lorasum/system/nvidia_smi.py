"""The GPUs of this machine, as nvidia-smi lists them: without loading torch."""

import shutil
import subprocess
from typing import NamedTuple

_SECONDS = 20
"""For nvidia-smi. A driver that does not answer is of no use to a training either."""


class Gpu(NamedTuple):
    """An NVIDIA GPU: its name, its memory, such as `23028 MiB`, and the version of its driver."""

    name: str
    memory: str
    driver: str


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs. nvidia-smi comes with the driver, so a machine without it can use no GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [Gpu(*line.split(", ")) for line in asked.stdout.splitlines() if line.count(", ") == 2]
