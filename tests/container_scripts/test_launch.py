"""The parent of several training processes: they begin with torchrun's variables, and end together, with one reason."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import waiting

import launch
from shared.failure import read_failure
from shared.names import LAUNCHED, PROCESSES

PROGRAM = """
import os, pathlib, signal, sys, time
import launch
here = pathlib.Path(sys.argv[1])
if ranks := launch.ranks(os.environ):
    sys.exit(launch.run(ranks, here / "output"))
launch.end_with_parent(os.environ)
rank = os.environ["RANK"]
def stop(*_):
    (here / f"saved-{rank}").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv[2:] else stop)
(here / f"pid-{rank}.part").write_text(str(os.getpid()))
(here / f"pid-{rank}.part").rename(here / f"pid-{rank}")
while not (here / f"end-{rank}").exists():
    time.sleep(0.02)
status = (here / f"end-{rank}").read_text()
if status == "1":
    (here / "output").mkdir(exist_ok=True)
    (here / "output" / "failure").write_text("the loss is no number")
sys.exit(int(status))
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the program above with two processes, which wait to be told how to end."""

    def start(*more: str) -> "subprocess.Popen[str]":
        script = tmp_path / "program.py"
        script.write_text(PROGRAM)
        environ = {**os.environ, "PYTHONPATH": str(Path(launch.__file__).parent), PROCESSES: "2"}
        parent = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), *more], env=environ, stderr=subprocess.PIPE, text=True
        )
        waiting.until(lambda: len(pids(tmp_path)) == 2)
        return parent

    return start


def pids(folder: Path) -> list[int]:
    return [int((folder / f"pid-{rank}").read_text()) for rank in (0, 1) if (folder / f"pid-{rank}").exists()]


def end(folder: Path, rank: int, status: int) -> None:
    (folder / "telling").write_text(str(status))
    (folder / "telling").rename(folder / f"end-{rank}")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def result(parent: "subprocess.Popen[str]", folder: Path) -> tuple[int, str]:
    """How the job ended, and its reason. No process is left."""
    _, said = parent.communicate(timeout=100)
    assert all(map(is_gone, pids(folder)))
    failure = folder / "output" / "failure"
    reason = read_failure(failure.read_text()).message if failure.exists() else ""
    assert said.count("error: ") <= 1
    return parent.returncode, reason


def test_the_job_is_done_when_all_processes_are(start: Start, tmp_path: Path) -> None:
    parent = start()
    end(tmp_path, 1, 0)
    waiting.until(lambda: is_gone(pids(tmp_path)[1]))
    assert not is_gone(pids(tmp_path)[0]), "the first one makes the artifact alone"
    end(tmp_path, 0, 0)
    assert result(parent, tmp_path) == (0, "")


def test_sigterm_goes_on_to_all_which_may_save(start: Start, tmp_path: Path) -> None:
    parent = start()
    parent.terminate()
    assert result(parent, tmp_path) == (143, "")
    assert sorted(path.name for path in tmp_path.glob("saved-*")) == ["saved-0", "saved-1"]


def test_sigterm_to_one_process_stops_the_job(start: Start, tmp_path: Path) -> None:
    parent = start()
    os.kill(pids(tmp_path)[1], signal.SIGTERM)
    assert result(parent, tmp_path) == (143, "")
    assert (tmp_path / "saved-0").exists()


def test_a_killed_process_is_the_reason_and_ends_the_rest(start: Start, tmp_path: Path) -> None:
    parent = start()
    os.kill(pids(tmp_path)[1], signal.SIGKILL)
    killed = "training process 2 of 2 was killed (signal 9), as systems do when memory runs out"
    assert result(parent, tmp_path) == (1, killed)


def test_a_process_that_hears_no_signal_is_killed(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "program.py"
    monkeypatch.setattr(sys.modules[__name__], "PROGRAM", PROGRAM.replace("import launch\n", SHORT, 1))
    parent = start("deaf")
    assert "_FAILURE_TAKES = 0.5" in script.read_text()
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    assert result(parent, tmp_path)[1].startswith("training process 1 of 2 was killed (signal 9)")


SHORT = "import launch\nlaunch._FAILURE_TAKES = 0.5\n"


def test_a_reason_of_a_process_stays_and_its_consequences_are_silent(start: Start, tmp_path: Path) -> None:
    parent = start()
    end(tmp_path, 0, launch.PEER_LOST)
    end(tmp_path, 1, 1)
    assert result(parent, tmp_path) == (1, "the loss is no number")


def test_processes_that_lost_each_other_are_of_one_machine_or_of_several() -> None:
    assert launch._reason(launch.PEER_LOST, 1, 2, other_machines=True).message.count("another machine") == 1
    assert launch._reason(launch.PEER_LOST, 1, 2, other_machines=False).message.count("another machine") == 0


def test_a_process_that_nccl_aborts_is_a_consequence(start: Start, tmp_path: Path) -> None:
    parent = start()
    os.kill(pids(tmp_path)[0], signal.SIGABRT)
    end(tmp_path, 1, 1)
    assert result(parent, tmp_path) == (1, "the loss is no number")
    assert launch._reason(-signal.SIGABRT, 1, 2, other_machines=True) == launch._reason(75, 1, 2, other_machines=True)
    assert launch._reason(-signal.SIGABRT, 1, 2, other_machines=False).message.endswith("was ended by signal 6")


@pytest.mark.parametrize(("environ", "said"), [({"RANK": "1"}, ""), ({}, "taken apart")])
def test_one_of_several_processes_is_not_taken_apart(environ: dict[str, str], said: str) -> None:
    """Taking NCCL apart waits for the others, which wait for this one to end."""
    program = "import atexit, launch; atexit.register(print, 'taken apart'); launch.end_at_once(lambda: 3)"
    path = {"PYTHONPATH": str(Path(launch.__file__).parent)}
    ended = subprocess.run([sys.executable, "-c", program], env={**path, **environ}, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.strip()) == (3, said)


def test_no_process_outlives_a_parent_that_is_killed(start: Start, tmp_path: Path) -> None:
    parent = start()
    parent.kill()
    waiting.until(lambda: all(map(is_gone, pids(tmp_path))))
    parent.communicate()


def test_variables_are_those_of_torchrun_on_every_machine() -> None:
    assert launch.ranks({}) == []
    assert launch.ranks({PROCESSES: "1", "SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1"}) == []
    assert launch.ranks({PROCESSES: "4", "RANK": "1"}) == [], "it is one of them"
    machine = {PROCESSES: "2", "SM_HOSTS": '["algo-2", "algo-1"]', "SM_CURRENT_HOST": "algo-2"}
    first, second = launch.ranks({**machine, "OMP_NUM_THREADS": "3"})
    same = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "algo-1", "MASTER_PORT": "29500"}
    assert first == {**same, "RANK": "2", "LOCAL_RANK": "0", LAUNCHED: "1", "OMP_NUM_THREADS": "3"}
    assert (second["RANK"], second["LOCAL_RANK"]) == ("3", "1")
