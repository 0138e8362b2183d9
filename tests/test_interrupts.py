"""Ctrl-C, SIGTERM and a closed terminal stop every verb in the same way, and leave nothing running that it started.

What is interrupted is a process of its own, with the signal handlers of a shell's. The model that it serves is a stub
that takes no time, and loads for as long as a test holds it up.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import waiting
from forks import Popen, Zygote
from local_world import HOLD, copy_stubs

from lorasum.ledger.ledger import Ledger

pytestmark = pytest.mark.slow

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def each_signal(first: signal.Signals) -> pytest.MarkDecorator:
    """Try a verb with one signal in `make test`, and with the others in `make drill`: one handler takes all of them."""
    others = [pytest.param(number, marks=pytest.mark.drill) for number in SIGNALS if number != first]
    return pytest.mark.parametrize("number", [first, *others])


STARTING = 200  # seconds: a busy machine takes its time to import torch


class Home:
    """A run in a home of its own, and the command line on it."""

    def __init__(self, folder: Path, model: Path, chats: Path, clients: Zygote) -> None:
        self.home, self.config, self._clients = folder / "home", folder / "tiny.yaml", clients
        data = {"train": str(chats / "train.jsonl"), "test": str(chats / "test.jsonl"), "max_length": 256}
        content = {"name": "tiny", "model": {"id": str(model)}, "data": data, "training": {"max_steps": 2}}
        content["evaluate"] = {"base_minutes": 0}  # so that `evaluate` needs an endpoint of the base model
        self.config.write_text(json.dumps({**content, "predict": {"max_new_tokens": 4, "batch_size": 1}}))
        self.environ = {**os.environ, "LORASUM_HOME": str(self.home)}

    def start(self, *arguments: str) -> Popen[str]:
        command = [sys.executable, "-m", "lorasum", *arguments, "--config", str(self.config)]
        return Popen(
            command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_everything,
        )

    def call(self, *arguments: str, **environ: str) -> Any:
        """The result of a verb that nobody interrupts."""
        command = [*arguments, "--json", "--config", str(self.config)]
        ended = self._clients.start(command, {**self.environ, **environ}, {}).wait()
        assert ended.code == 0, ended.stderr
        return json.loads(ended.stdout)

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Servers that start now load their model until the block ends."""
        [record] = (self.home / "runs" / "tiny" / "jobs").glob("*/ml/model/lorasum.json")
        hold = record.with_name(HOLD)
        hold.touch()
        yield
        hold.unlink()

    def processes(self, kind: str) -> list[psutil.Process]:
        """Training processes (`jobs`) or servers (`endpoints`) of this home."""
        program = {"jobs": "train.py", "endpoints": "lorasum.backends.local.server"}[kind]
        folder = str(self.home / "runs" / "tiny" / kind)
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = process.info["cmdline"] or []  # a zombie has none
            if any(part.endswith(program) for part in command) and any(part.startswith(folder) for part in command):
                found.append(process)
        return found

    def states(self, kind: str) -> dict[str, str]:
        rows = Ledger(self.home / "ledger.sqlite").resources()
        return {row.name: row.state for row in rows if row.kind == kind}


def _hear_everything() -> None:
    """Undo a shell's or nohup's ignoring signals for what it runs, such as a whole test suite."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def suspend(server: psutil.Process) -> None:
    """Make a server deaf to SIGTERM. One that is told to stop, but has not stopped yet, would still end at SIGTERM."""
    server.suspend()
    waiting.until(lambda: server.status() == psutil.STATUS_STOPPED)


def read_until(process: Popen[str], words: str) -> None:
    """Read what a command says on stderr up to the line that holds `words`."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the command ended and never said: {words}")


def interrupted(process: Popen[str], number: signal.Signals) -> str:
    """Send the signal to a command, wait until it has ended, and return what it says from now on on stderr."""
    process.send_signal(number)
    read_until(process, "stopping, because of")
    return ended(process, number)


def ended(process: Popen[str], number: signal.Signals) -> str:
    """Wait until an interrupted command has ended, and return the rest of what it says on stderr."""
    code = -number if number == signal.SIGINT else 130
    assert process.stdout is not None
    assert process.stderr is not None
    errors = process.stderr.read()  # not communicate, which would miss what `read_until` has read beyond its line
    assert (process.wait(STARTING), process.stdout.read()) == (code, ""), errors
    assert "Traceback" not in errors
    assert "went wrong" not in errors
    return errors


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, tiny_chats: Path, clients: Zygote
) -> Iterator[Home]:
    """A run that is prepared and trained, by a stub that leaves a stub of a model."""
    folder = tmp_path_factory.mktemp("interrupts")
    made = Home(folder, tiny_model_dir, tiny_chats, clients)
    made.call("prepare")
    made.call("train", LORASUM_STUB_SCRIPTS=str(copy_stubs(folder / "scripts")))
    yield made
    made.call("teardown", "--yes")
    assert made.processes("endpoints") == made.processes("jobs") == []


@pytest.fixture
def deployed(home: Home) -> Home:
    home.call("deploy")
    return home


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("verb", ["deploy", pytest.param("run", marks=pytest.mark.drill)])
def test_an_endpoint_that_is_starting_goes(home: Home, verb: str, number: signal.Signals) -> None:
    home.call("teardown", "--yes")
    with home.held_up(), home.start(verb) as process:
        waiting.until(lambda: home.processes("endpoints"))
        interrupted(process, number)
    assert home.processes("endpoints") == []
    assert home.states("endpoint")["tiny"] in ("failed", "gone")


@each_signal(signal.SIGTERM)
def test_evaluate_leaves_only_the_endpoint_that_was_there(deployed: Home, number: signal.Signals) -> None:
    [before] = deployed.processes("endpoints")
    with deployed.start("evaluate") as process:
        waiting.until(lambda: len(deployed.processes("endpoints")) == 2)
        interrupted(process, number)
    assert deployed.processes("endpoints") == [before]
    states = deployed.states("endpoint")
    assert (states.pop("tiny"), set(states.values())) == ("live", {"gone"}), "the base model's is gone"


@each_signal(signal.SIGINT)
def test_train_saves_a_checkpoint_and_says_how_to_go_on(home: Home, number: signal.Signals) -> None:
    seed = ("--set", "training.max_steps=2000", "--set", f"training.seed={100 + number}")
    with home.start("train", *seed) as process:
        read_until(process, "step 1/2")
        errors = interrupted(process, number)
    assert "error: training stopped at step" in errors
    assert "hint: the same command resumes from the checkpoint" in errors
    assert home.processes("jobs") == []
    [job] = [name for name, state in home.states("training_job").items() if state == "stopped"][-1:]
    assert list((home.home / "runs" / "tiny" / "jobs" / job / "ml" / "checkpoints").iterdir())


@each_signal(signal.SIGHUP)
def test_predict_keeps_its_answers_and_the_endpoint(deployed: Home, tmp_path: Path, number: signal.Signals) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"dialogue": f"Ana: {i}"}) + "\n" for i in range(20_000)))
    with deployed.start("predict", "--input", str(source), "--output", str(output)) as process:
        waiting.until(lambda: [part for part in tmp_path.glob("out.jsonl.*.part") if part.stat().st_size])
        errors = interrupted(process, number)
    assert "the same command continues from there" in errors
    assert not output.exists()
    [part] = tmp_path.glob("out.jsonl.*.part")
    assert 0 < len(part.read_text().splitlines()) < 20_000
    assert len(deployed.processes("endpoints")) == 1


@each_signal(signal.SIGTERM)
def test_prepare_leaves_no_half_of_a_dataset(home: Home, tmp_path: Path, number: signal.Signals) -> None:
    source = tmp_path / "many.jsonl"
    text = "Ana: are we on for tonight? Ben: yes, at eight " * 20
    rows = [{"dialogue": f"{number} {text}", "summary": "They meet."} for number in range(15_000)]  # none a duplicate
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    datasets = home.home / "runs" / "tiny" / "data"
    before = sorted(datasets.iterdir())
    with home.start("prepare", "--set", f"data.train={source}", "--set", "data.max_length=1024") as process:
        waiting.until(lambda: len(list(datasets.iterdir())) > len(before))
        interrupted(process, number)
    assert sorted(datasets.iterdir()) == before


@each_signal(signal.SIGINT)
def test_teardown_says_that_it_was_interrupted_and_goes_on(deployed: Home, number: signal.Signals) -> None:
    [server] = deployed.processes("endpoints")
    suspend(server)  # it is killed after a while
    with deployed.start("teardown", "--yes") as process:
        read_until(process, "removing endpoint")
        errors = interrupted(process, number)
    assert "what it had not removed yet may still run" in errors
    assert deployed.processes("endpoints") == [server]
    server.resume()  # it ends now, as it was told to
    assert deployed.call("teardown", "--yes")["remaining"] == []
    assert deployed.processes("endpoints") == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.drill)])
def test_a_second_signal_ends_at_once_and_says_what_removes_the_rest(home: Home, number: signal.Signals) -> None:
    home.call("teardown", "--yes")
    override = ["--set", "predict.max_new_tokens=5"]
    with home.held_up(), home.start("deploy", *override) as process:
        waiting.until(lambda: home.processes("endpoints"))
        [server] = home.processes("endpoints")
        suspend(server)
        process.send_signal(number)
        read_until(process, "stopping, because of")
        time.sleep(0.6)  # sooner, it would count as the first one again
        process.send_signal(number)
        errors = ended(process, number)
    assert "ended at once" in errors
    removes = " ".join(["lorasum", "teardown", str(home.config), *override])
    assert f"the same command goes on with it, and `{removes}` removes it" in errors
    assert home.processes("endpoints") == [server]
    server.resume()
    assert home.call("teardown", "--yes")["remaining"] == []


def test_a_closed_terminal_hangs_up_twice_and_the_endpoint_still_goes(home: Home) -> None:
    home.call("teardown", "--yes")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "lorasum", "run", "--config", str(home.config)]
    with (
        home.held_up(),
        Popen(
            command, env=home.environ, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=_hear_everything
        ) as process,
    ):
        os.close(theirs)
        waiting.until(lambda: home.processes("endpoints"))
        os.close(ours)  # what is written from now on fails
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        process.send_signal(signal.SIGHUP)
        assert process.wait(STARTING) == 130
    assert home.processes("endpoints") == []
    assert home.states("endpoint")["tiny"] in ("failed", "gone")


def test_a_signal_that_nohup_ignores_stays_ignored(home: Home) -> None:
    home.call("teardown", "--yes")
    script = f"trap '' HUP; exec {sys.executable} -m lorasum deploy --config {home.config} --json"
    with Popen(["bash", "-c", script], env=home.environ, stdout=subprocess.PIPE) as process:
        with home.held_up():
            waiting.until(lambda: home.processes("endpoints"))
            process.send_signal(signal.SIGHUP)
        assert process.wait(STARTING) == 0
    assert len(home.processes("endpoints")) == 1


DROPPED = """
import os, signal, sys, threading, time
from lorasum.cli.interrupts import interrupts

def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)

class Library:
    def __del__(self):
        interrupt()

def catch_everything():
    try:
        interrupt()
    except BaseException:
        pass

interrupts.install()
try:
    {"dropped": Library, "caught": catch_everything}[sys.argv[1]]()
    print("goes on")
    threading.Event().wait()  # a signal that only Python knows of would not end that
except KeyboardInterrupt:
    for _ in range(300):
        time.sleep(0.01)  # nothing disturbs the cleaning up
    print("cleans up")
"""


@pytest.mark.parametrize("how", ["dropped", "caught"])
def test_an_interrupt_that_a_library_loses_comes_again(how: str) -> None:
    """Python drops what `__del__` raises, and the SDK catches everything: `train` said that it stops, and went on."""
    command = [sys.executable, "-c", DROPPED, how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=STARTING, check=True)
    assert ended.stdout == "goes on\ncleans up\n"
    assert ended.stderr == "stopping, because of SIGTERM; a second time ends at once\n"
