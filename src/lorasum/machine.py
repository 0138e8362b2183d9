"""What this machine has, found out without loading torch."""

import shutil
import subprocess


def gpu() -> str | None:
    """The name and memory of the first NVIDIA GPU, such as `NVIDIA A10G, 23028 MiB`; None if there is none.

    nvidia-smi comes with the driver, so a machine without it can use no GPU either.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None  # a driver that does not answer is of no use to a training either
    lines = asked.stdout.strip().splitlines()
    return lines[0] if asked.returncode == 0 and lines else None
