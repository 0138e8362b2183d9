"""Every file that the local backend keeps, damaged in every way: what runs is still found, told and removed."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorasum.backends.local import processes
from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.records import JobRef, TrainSpec
from lorasum.errors import LorasumError
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.models.source import ModelRef
from lorasum.system import paths

RUN, JOB = "a-run", "a-job"
SCRIPT = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--checkpoint_dir", type=pathlib.Path)
(parser.parse_args().checkpoint_dir / "step").write_text("1")
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "metrics.jsonl").write_text(json.dumps({"event": "step"}) + "\\n")
pathlib.Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("no such target: w\\nhint: one of: q, k\\n")
pathlib.Path(os.environ["SM_MODEL_DIR"], "lorasum.json").write_text(json.dumps({"format": 1, "run": "a-run"}))
"""
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "half": lambda content: content[: len(content) // 2],
    "no text": lambda content: b"\xff\xfe" + content,
    "null": lambda content: b"null\n",
    "a list": lambda content: b"[1]\n",
    "another type": lambda content: b'{"event": 1, "port": "x", "format": []}\n',
    "deep": lambda content: b'{"a":' * 100_000,
    "noise": lambda content: random.Random(len(content)).randbytes(max(len(content), 64)),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a job that has ended and an endpoint whose process is gone."""
    home = tmp_path_factory.mktemp("whole")
    scripts = tmp_path_factory.mktemp("scripts")
    (scripts / "train.py").write_text(SCRIPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASUM_HOME", str(home))
        backend = LocalBackend(scripts)
        dataset = tmp_path_factory.mktemp("dataset")
        list(backend.follow_training(backend.start_training(TrainSpec(RUN, JOB, ModelRef("base"), dataset, {}))))
        endpoint = paths.run_dir(RUN) / "endpoints" / RUN
        endpoint.mkdir(parents=True)
        (endpoint / "server.json").write_text(json.dumps({"port": 4000, "pid": 1, "artifact": "/model"}))
        (endpoint / "log").write_text("model loaded in 1 s\n")
    return home


@pytest.fixture
def home(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(processes, "find", lambda flag, accept: [])  # none runs; the list of all takes a while
    return Path(shutil.copytree(whole, tmp_path / "home", symlinks=True))


def stored(home: Path) -> Iterator[Path]:
    return (path for path in sorted(home.rglob("*")) if path.is_file() and "dataset" not in path.parts)


def use(home: Path) -> None:
    """All that commands ask of the backend. Each gives an answer, or an error with a hint."""
    backend = LocalBackend()
    job = JobRef(JOB, str(paths.run_dir(RUN) / "jobs" / JOB))
    questions: list[Callable[[], object]] = [
        lambda: backend.find_training(RUN, JOB),
        lambda: backend.training_state(job),
        lambda: list(backend.follow_training(job)),
        lambda: artifact_record(backend, job),
        lambda: backend.endpoint_state(RUN, RUN),
        lambda: backend.live(RUN),
        lambda: backend.stored_files(RUN, data=True, artifacts=True),
    ]
    errors = []
    for question in questions:
        try:
            question()
        except LorasumError as error:
            errors.append(error)
    assert all(error.hint and "\n" not in error.message for error in errors)
    backend.stop_training(job)
    backend.delete_endpoint(RUN, RUN)
    assert backend.endpoint_state(RUN, RUN).status == "absent"
    backend.delete_files(RUN, data=True, artifacts=True)
    assert backend.training_state(job).status == "absent"
    assert backend.live(RUN) == []


@pytest.mark.parametrize("damage", [*DAMAGES, "missing", "a folder", "a broken link"])
def test_a_damaged_file_hides_nothing_and_stops_no_teardown(home: Path, whole: Path, damage: str) -> None:
    files = [path.relative_to(whole) for path in stored(whole)]
    assert len(files) > 5
    for name in files:
        shutil.rmtree(home)
        shutil.copytree(whole, home, symlinks=True)
        path = home / name
        content = path.read_bytes()
        path.unlink()
        if damage in DAMAGES:
            path.write_bytes(DAMAGES[damage](content))
        elif damage == "a folder":
            path.mkdir()
            (path / "x").touch()
        elif damage == "a broken link":
            path.symlink_to("nowhere")
        use(home)
