"""A training job's own end where no service ends it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract import MAX_SECONDS

SCRIPTS = Path(__file__).parents[2] / "container_scripts"
LONG_WORK = """
import time
from engine.stopping import StopSignal
stop = StopSignal()
with stop.deferred():
    while not stop.received:
        time.sleep(0.05)
    print("saved a checkpoint")
"""


@pytest.mark.parametrize("seconds", ["0.5", "1"])
def test_a_job_ends_itself_at_its_limit_as_on_sigterm(seconds: str) -> None:
    environ = {**os.environ, MAX_SECONDS: seconds, "PYTHONPATH": str(SCRIPTS)}
    ended = subprocess.run(
        [sys.executable, "-c", LONG_WORK], env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert (ended.returncode, ended.stdout) == (143, "saved a checkpoint\n")
    assert ended.stderr == "limits.max_hours reached: saving a checkpoint, then ending\n"
