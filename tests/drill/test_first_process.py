"""A batch job as SageMaker runs it: start.py is the container's first process, becomes answer.py, and gets SIGTERM.

Whatever the moment, it ends as a stopped job, keeps what it has answered, and the next one answers the rest, once.
"""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import stand_in_container as container
from moments import TRIES
from stand_in_container import FirstProcess

from shared.names import ANSWERS_FOLDER, PROGRAM, RECORD_FILE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.drill,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not container.first_possible(), reason="this system gives no process namespaces"),
]

SCRIPTS = Path(__file__).parents[2] / "container_scripts"
ROWS, SHARDS = 4000, 4
END_TAKES = 60.0  # seconds, on a busy machine; SageMaker kills after 120


class BatchJob:
    """Starts of a batch job's container. Their /opt/ml is `ml`, and the checkpoints in it stay."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.ml, self.environ = root, root / "ml", {PROGRAM: "answer.py"}
        for folder in ("input/config", "output/data", "checkpoints", "model", "input/data/training"):
            (self.ml / folder).mkdir(parents=True)
        flags = {"checkpoint_dir": "/opt/ml/checkpoints", "max_new_tokens": "5", "temperature": "0"}
        (self.ml / "input" / "config" / "hyperparameters.json").write_text(json.dumps(flags))
        shutil.copytree(model, self.ml / "input" / "data" / "model")
        shutil.copytree(SCRIPTS, self.ml / "input" / "data" / "code", ignore=shutil.ignore_patterns("__pycache__"))
        for shard in range(SHARDS):
            rows = [{"row": row, "prompt": f"Ana: {row}?"} for row in range(shard, ROWS, SHARDS)]
            file = self.ml / "input" / "data" / "training" / f"{shard:05}.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self) -> FirstProcess:
        for folder in ("model", "output/data"):
            shutil.rmtree(self.ml / folder)
            (self.ml / folder).mkdir()
        environ = container.environ_of(self.root, {"HF_HUB_OFFLINE": "1", **self.environ})
        process = container.first_process(["python3", "/opt/ml/input/data/code/start.py"], environ, self.root)
        while process.poll() is None and not _hears(process):  # Python itself has to start first
            time.sleep(0.01)
        return process

    def have_gpus(self, count: int) -> None:
        """Let start.py find so many, for as many processes. They find none, and compute on the CPU."""
        program = self.root / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n" + "echo 'GPU 0: none'\n" * count)
        program.chmod(0o755)
        self.environ["PATH"] = f"{program.parent}:{container.environ_of(self.root, {})['PATH']}"

    def forget(self) -> None:
        """Begin without any answer."""
        shutil.rmtree(self.ml / "checkpoints")
        (self.ml / "checkpoints").mkdir()

    def answered(self) -> Counter[int]:
        """How often each row is answered by now. An incomplete line is none."""
        lines = [line for file in (self.ml / "checkpoints").iterdir() for line in file.read_text().splitlines(True)]
        return Counter(json.loads(line)["row"] for line in lines if line.endswith("\n"))

    def left(self) -> list[int]:
        """The rows of the artifact."""
        files = (self.ml / "model" / ANSWERS_FOLDER).iterdir()
        return sorted(json.loads(line)["row"] for file in files for line in file.open())


def _hears(process: FirstProcess) -> bool:
    """Whether it has asked for SIGTERM, or holds it back for a program that will."""
    try:
        [first] = psutil.Process(process.pid).children()
        status = Path(f"/proc/{first.pid}/status").read_text()
    except (ValueError, psutil.NoSuchProcess, FileNotFoundError):
        return False
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    masks = [int(lines[name], 16) for name in ("SigCgt", "SigBlk")]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


@pytest.fixture
def job(tmp_path: Path, tiny_model_dir: Path) -> BatchJob:
    return BatchJob(tmp_path, tiny_model_dir)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_batch_job_stopped_at_any_moment_goes_on(job: BatchJob, tried: Counter[str], processes: int) -> None:
    if processes > 1:
        job.have_gpus(processes)
    phases: dict[str, tuple[Callable[[], object], float]] = {
        "loads": (lambda: True, 6.0),
        "answers": (job.answered, 0.8),
        "writes": (lambda: len(job.answered()) == ROWS, 0.1),
    }
    moments = random.Random(f"{os.environ.get('LORASUM_DRILL_FROM', '0')} {processes}")
    for phase, (begins, longest) in [*phases.items()] * TRIES:
        seconds = moments.uniform(0, longest)
        what = f"SIGTERM {seconds:.3f} s after it {phase}, {processes} processes"
        job.forget()
        with job.start() as process:
            while process.poll() is None and not begins():
                time.sleep(0.01)
            time.sleep(seconds)
            with suppress(ValueError, psutil.NoSuchProcess):  # it has ended
                process.terminate()
            said = process.communicate(timeout=END_TAKES)[1]
        done = (job.ml / "model" / RECORD_FILE).exists()
        assert process.returncode == (0 if done else 143), f"{what}: {process.returncode} {said}"
        assert "Traceback" not in said, f"{what}: {said}"
        assert not (job.ml / "output" / "failure").exists(), what
        before = job.answered()
        assert set(before.values()) <= {1}, what
        with job.start() as again:
            said = again.communicate(timeout=600)[1]
        assert again.returncode == 0, f"{what}, then again: {said}"
        assert job.left() == list(range(ROWS)), what
        assert job.answered() == Counter(range(ROWS)), what
        tried[f"SIGTERM while a batch job {phase}, {processes} processes, in a container's first process"] += 1
