"""Which processes are ours: those that spawn has started, also when their starter has ended, and no others."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import waiting
from forks import Popen

from lorasum.backends.local import preflight, processes
from lorasum.errors import BackendError

FLAG = "--checkpoint_dir"
SLEEP = "import time; time.sleep(600)"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process of somebody else, and ends it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, own_session: bool = False, **environ: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, **environ}
        started.append(subprocess.Popen(command, start_new_session=own_session, env=env, stdout=subprocess.DEVNULL))
        waiting.until(lambda: str(command[-1]) in psutil.Process(started[-1].pid).cmdline())
        return started[-1]

    yield start
    for process in started:
        for child in psutil.Process(process.pid).children():  # what the shell has started outlives it
            child.kill()
        process.kill()
        process.wait()


def script(folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(SLEEP)
    return str(folder / name)


def spawn(folder: Path) -> subprocess.Popen[bytes]:
    command = processes.python(script(folder, "any.py"), FLAG, str(folder))
    return processes.spawn(command, folder, folder / "log")


def found(value: Path) -> list[int]:
    return [process.pid for process, _ in processes.find(FLAG, lambda given: given == str(value))]


def test_how_the_client_s_python_runs_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers does not load with PYTHONOPTIMIZE=2, and train.py finds no module with PYTHONSAFEPATH."""
    for name, value in {"PYTHONOPTIMIZE": "2", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "beside.py").write_text("def told():\n    'is there'\n")
    (tmp_path / "any.py").write_text(
        "import warnings\nfrom beside import told\n"
        "warnings.warn('a later version', FutureWarning)\nprint(told.__doc__)\n"
    )
    child = processes.spawn(processes.python(str(tmp_path / "any.py")), tmp_path, tmp_path / "log")
    assert child.wait(200) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text().endswith("is there\n")


def test_a_spawned_process_is_found_by_anyone_and_stopped(tmp_path: Path) -> None:
    child = spawn(tmp_path)
    assert found(tmp_path) == [child.pid]
    code = (
        f"from lorasum.backends.local import processes as p; print(p.find({FLAG!r}, lambda v: v == {str(tmp_path)!r}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"pid={child.pid}" in told, "another process finds it too"
    processes.stop([psutil.Process(child.pid)], 5)
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", SLEEP],
        [sys.executable, "-m", "pdb", "train.py"],
        [sys.executable, "-m", "timeit", "-n1", "-r1", "-s", SLEEP],
        [str(shutil.which("sh")), "-c", "sleep 600; true"],
        [str(shutil.which("tail")), "-f", "train.py", "--"],
    ],
    ids=["python -c", "a debugger", "python -m", "a shell", "tail"],
)
@pytest.mark.parametrize("own_session", [False, True])
def test_a_bystander_that_names_the_folder_is_not_ours(
    start: Start, tmp_path: Path, command: list[str], own_session: bool
) -> None:
    train = script(tmp_path, "train.py")
    command = [train if part == "train.py" else part for part in command]
    start(*command, FLAG, str(tmp_path), own_session=own_session)
    assert found(tmp_path) == []


def test_the_users_own_try_of_the_script_is_not_ours(start: Start, tmp_path: Path) -> None:
    start(sys.executable, script(tmp_path, "train.py"), FLAG, str(tmp_path))
    assert found(tmp_path) == []


def test_the_environment_of_ours_does_not_make_another_command_ours(start: Start, tmp_path: Path) -> None:
    child = spawn(tmp_path)
    mark = psutil.Process(child.pid).environ()["LORASUM_PROCESS"]
    start(sys.executable, "-c", SLEEP, FLAG, str(tmp_path), LORASUM_PROCESS=mark)
    assert found(tmp_path) == [child.pid]
    processes.stop([psutil.Process(child.pid)], 5)


def test_the_port_that_a_process_listens_on_is_found(start: Start, tmp_path: Path) -> None:
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s, flush=True); time.sleep(600)"
    with Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline().rpartition(", ")[2].split(")")[0])
        assert processes.port_of(psutil.Process(process.pid)) == port
        process.kill()
    assert processes.port_of(psutil.Process()) is None or processes.port_of(psutil.Process()) != port


def test_a_child_whose_start_was_interrupted_is_found(tmp_path: Path) -> None:
    """Ctrl-C may come when the child runs and the system does not show its command line yet."""
    code = f"""
import os, psutil
from pathlib import Path
from lorasum.backends.local import processes, preflight

def interrupt(child):
    raise KeyboardInterrupt

processes._wait_recognisable = interrupt
processes.find("{FLAG}", bool)  # imports what it needs
try:  # the child gets no processor before this process waits for something
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
except (AttributeError, PermissionError):  # then the moment is only sometimes met
    pass
folder = Path("{tmp_path}")
try:
    processes.spawn(processes.python("-c", "{SLEEP}", "{FLAG}", str(folder)), folder, folder / "log")
except KeyboardInterrupt:
    processes.stop([process for process, _ in processes.find("{FLAG}", lambda value: value == str(folder))], 20)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        assert found(tmp_path) == []


def test_nothing_is_started_that_could_not_be_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_PROC", tmp_path / "missing")
    with pytest.raises(BackendError, match="/proc is not mounted"):
        processes.spawn(["true"], tmp_path, tmp_path / "log")
    with pytest.raises(BackendError, match="/proc is not mounted"):
        processes.find(FLAG, lambda value: True)
    assert not list(tmp_path.iterdir())


def test_a_machine_that_cannot_reach_itself_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.require_loopback()
    monkeypatch.setattr(preflight, "_LOOPBACK", "255.255.255.255")  # which a socket may not reach unasked
    with pytest.raises(BackendError, match=r"cannot reach itself at 255\.255\.255\.255: Permission denied"):
        preflight.require_loopback()
