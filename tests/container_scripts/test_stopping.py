"""A training job's own end where no service ends it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forks import Popen

from shared.names import MAX_SECONDS

SCRIPTS = Path(__file__).parents[2] / "container_scripts"
LONG_WORK = """
import signal, time
from engine.stopping import StopSignal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])  # its time may be over before the next line
stop = StopSignal()
with stop.deferred():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    while not stop.received:
        time.sleep(0.05)
    print("saved a checkpoint")
"""


def test_a_job_ends_itself_at_its_limit_as_on_sigterm() -> None:
    environ = {**os.environ, MAX_SECONDS: "0.5", "PYTHONPATH": str(SCRIPTS)}
    ended = subprocess.run(
        [sys.executable, "-c", LONG_WORK], env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert (ended.returncode, ended.stdout) == (143, "saved a checkpoint\n")
    assert ended.stderr == "limits.max_hours reached: saving a checkpoint, then ending\n"


LOCKED = """
import os, signal, threading
from engine.stopping import StopSignal
StopSignal(0.5)
left = threading.Lock()
left.acquire()
threading.Thread(target=left.acquire).start()
os.kill(os.getpid(), signal.SIGTERM)
"""
DROPPED = """
import os, signal, time
from engine.stopping import StopSignal
StopSignal(60)

class Library:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)

try:
    Library()
    print("goes on")
    time.sleep(2)
    while True:
        time.sleep(0.01)
finally:
    for _ in range(200):
        time.sleep(0.01)
    print("tidied up")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
TWICE = """
import os, signal
from engine.stopping import StopSignal
StopSignal()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    os.kill(os.getpid(), signal.SIGTERM)
    print("tidied up")
"""


def test_a_job_ends_although_a_thread_waits_for_a_lock_for_ever() -> None:
    """As a thread of a library does, when SystemExit comes between the taking of its lock and the giving back."""
    ended = _run(LOCKED)
    assert ended.returncode == 143
    assert ended.stderr.splitlines() == ["SIGTERM received: ending", "it has not ended in 0.5 s, and ends at once"]


def test_an_end_that_python_drops_comes_again() -> None:
    ended = _run(DROPPED)
    assert (ended.returncode, ended.stdout) == (143, "goes on\ntidied up\n")


def test_a_second_sigterm_does_not_end_the_tidying_up() -> None:
    ended = _run(TWICE)
    assert (ended.returncode, ended.stdout) == (143, "tidied up\n")


@pytest.mark.parametrize("program", ["start", "answer"])
def test_the_first_process_of_a_container_hears_sigterm(program: str, tmp_path: Path) -> None:
    """The system ends other processes by itself, with status -15."""
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text("{}")
    waits = f"""
import os, pathlib, sys, time
import {program}
def wait(*_):
    print("waits", flush=True)
    time.sleep(200)
{program}.ROOT = pathlib.Path({str(tmp_path)!r})
{program}.{"install_missing" if program == "start" else "_answer_all"} = wait
sys.argv[1:] = ["--checkpoint_dir", ".", "--max_new_tokens", "1", "--temperature", "0"]
{program}.main()
"""
    environ = {**os.environ, "PYTHONPATH": str(SCRIPTS), "SM_OUTPUT_DIR": str(tmp_path), "SM_MODEL_DIR": str(tmp_path)}
    command, environ = [sys.executable, "-c", waits], {**environ, "SM_CHANNEL_TRAINING": str(tmp_path)}
    with Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.terminate()
        assert process.wait(100) == 143


def _run(script: str) -> "subprocess.CompletedProcess[str]":
    command, environ = [sys.executable, "-c", script], {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
