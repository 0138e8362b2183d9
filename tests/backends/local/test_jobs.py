"""Training jobs of the local backend, with real processes. The script stands in for train.py: only life and death of
its process are looked at here."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import waiting

from lorasum.backends.base import Backend, RunningResource
from lorasum.backends.local import job_folder, jobs
from lorasum.backends.local import processes as local_processes
from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.local.preflight import require_packages
from lorasum.backends.records import JobRef, JobState, TrainSpec
from lorasum.errors import BackendError
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.models.source import ModelRef
from lorasum.shared.events import Event, StartEvent, StepEvent, UnknownEvent, event_line
from lorasum.system import paths

RUN = "a-run"
SCRIPT = """
import argparse, json, os, pathlib, signal, subprocess, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--act", default="")
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--checkpoint_dir", type=pathlib.Path)
args = parser.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
metrics = open(os.environ["SM_OUTPUT_DATA_DIR"] + "/metrics.jsonl", "a", buffering=1)
emit = lambda event, **values: metrics.write(json.dumps({"event": event, **values}) + "\\n")
checkpoint = args.checkpoint_dir / "step"
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
emit("start", resumed_from_step=step, argv=sys.argv[1:], environ=dict(os.environ), folder=os.getcwd())
model = pathlib.Path(os.environ["SM_MODEL_DIR"])
assert not list(model.iterdir()), "model/ was not empty"
if args.act == "fail first" and step == 0:
    checkpoint.write_text("1")
    pathlib.Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("no such target: w\\nhint: one of: q, k\\n")
    sys.exit(1)
if args.act == "crash":
    raise ZeroDivisionError("what the log ends with")
if args.act == "never stop":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    emit("child", pid=child.pid)
while step < args.steps:
    while args.act == "wait" and not (args.checkpoint_dir / "go-on").exists():
        time.sleep(0.02)
    step += 1
    checkpoint.write_text(str(step))
    emit("step", step=step)
    time.sleep(0.05)
if args.act == "half a line":
    (model / "config.json").write_text("{}")
    metrics.write('{"event": "st'), metrics.flush()
    emit = print
    if step == args.steps and not (args.checkpoint_dir / "again").exists():
        (args.checkpoint_dir / "again").touch()
        time.sleep(600)
(model / "lorasum.json").write_text("{}")
"""

Start = Callable[..., tuple[TrainSpec, JobRef]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    for one in LocalBackend().live(RUN):
        LocalBackend().stop_training(JobRef(one.name, one.location))


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    return folder


@pytest.fixture
def backend(home: Path, scripts: Path) -> Backend:
    return LocalBackend(scripts)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., TrainSpec]:
    (tmp_path / "dataset").mkdir()

    def make(model: Path | None = None, **flags: str) -> TrainSpec:
        return TrainSpec(RUN, "a-job", ModelRef("base", path=model), tmp_path / "dataset", flags)

    return make


def kinds(events: Iterable[Event]) -> list[str]:
    return [json.loads(event_line(event))["event"] for event in events]


def process_of(job: JobRef) -> psutil.Process:
    [process] = jobs.processes_of(Path(job.location))
    return process


def test_a_job_tells_which_scripts_it_was_made_with(backend: Backend, spec: Any, scripts: Path) -> None:
    job = backend.start_training(spec(steps="1"))
    list(backend.follow_training(job))
    made = backend.made_with(job)
    assert made == backend.made_with(None)
    (scripts / "engine.py").write_text("# mended")
    assert backend.made_with(None) != made == backend.made_with(job)
    Path(job.location, "scripts").unlink()
    assert backend.made_with(job) == {}, "a version that recorded nothing"


def test_a_job_is_followed_from_its_beginning_to_its_artifact(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec(act="wait"))
    following = backend.follow_training(job)
    events = [next(following)]
    assert backend.training_state(job) == JobState("running")
    (Path(job.location) / "ml" / "checkpoints" / "go-on").touch()
    events += following
    assert kinds(events) == ["start", "step", "step", "step"]
    assert [event.step for event in events if isinstance(event, StepEvent)] == [1, 2, 3]
    assert backend.training_state(job) == JobState("completed")
    assert Path(backend.artifact(job), "lorasum.json").is_file()
    assert list(backend.follow_training(job)) == events


def test_the_log_of_a_job_is_followed_to_its_end(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec(steps="3"))
    run = Path(job.location).parents[1].name
    (Path(job.location) / "log").open("a").write("a line of the log\n")
    assert "a line of the log" in list(backend.log_lines("training_job", run, job.name, follow=True))
    assert backend.training_state(job) == JobState("completed"), "it was followed to the end"
    assert list(backend.log_lines("training_job", run, "no-such-job", follow=True)) == []


def test_a_completed_job_is_not_started_again(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec())
    events = list(backend.follow_training(job))
    assert backend.start_training(spec()) == job
    assert backend.training_state(job) == JobState("completed")
    assert list(backend.follow_training(job)) == events


def test_the_script_gets_the_flags_and_variables_of_a_container(
    backend: Backend, spec: Any, scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_CHANNEL_OTHER", "/of/another/container")
    (tmp_path / "base").mkdir()
    (tmp_path / "kept").mkdir()
    asked = spec(model=tmp_path / "base", steps="0", act="1e5")
    job = backend.start_training(replace(asked, base_summaries=tmp_path / "kept", adapter_only=True))
    assert kinds(backend.follow_training(job)) == ["start"]
    [line] = job_folder.metrics_file(root := Path(job.location) / "ml").read_text().splitlines()
    start = json.loads(line)
    assert start["argv"] == ["--steps", "0", "--act", "1e5", "--checkpoint_dir", f"{root}/checkpoints"]
    assert start["folder"] == str(scripts)

    environ = start["environ"]
    assert {name: environ.get(name) for name in ("SM_MODEL_DIR", "SM_OUTPUT_DIR", "SM_OUTPUT_DATA_DIR")} == {
        "SM_MODEL_DIR": f"{root}/model",
        "SM_OUTPUT_DIR": f"{root}/output",
        "SM_OUTPUT_DATA_DIR": f"{root}/output/data",
    }
    assert Path(environ["SM_CHANNEL_TRAINING"]).resolve() == (tmp_path / "dataset").resolve()
    assert Path(environ["SM_CHANNEL_MODEL"]).resolve() == (tmp_path / "base").resolve()
    assert Path(environ["SM_CHANNEL_BASE"]).resolve() == (tmp_path / "kept").resolve()
    assert "SM_CHANNEL_OTHER" not in environ
    assert (environ["TRAINING_JOB_NAME"], environ["LORASUM_ADAPTER_ONLY"]) == ("a-job", "1")
    assert environ["LORASUM_STEPS_DONE"] == "0"


def test_a_killed_job_says_so_and_resumes_from_its_checkpoint(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec(act="half a line"))
    waiting.until(lambda: (Path(job.location) / "ml" / "checkpoints" / "again").exists())
    process_of(job).kill()
    assert kinds(backend.follow_training(job)) == ["start", "step", "step", "step"]
    state = backend.training_state(job)
    assert state.status == "failed"
    assert "killed (signal 9)" in state.reason
    assert state.hint

    backend.start_training(spec(act="half a line"))
    events = list(backend.follow_training(job))
    assert kinds(backend.training_events(job)) == ["start", "step", "step", "step", "start"]
    assert kinds(events) == ["start"], "the steps of the first start were shown then"
    assert isinstance(events[-1], StartEvent)
    assert events[-1].resumed_from_step == 3
    assert backend.training_state(job) == JobState("completed")


def test_a_stopped_job_saves_first_and_counts_as_stopped_for_everyone(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec(steps="9999"))
    events = backend.follow_training(job)
    assert kinds([next(events), next(events)]) == ["start", "step"]
    assert backend.live(RUN) == [RunningResource("training_job", "a-job", job.location)]
    backend.stop_training(job)
    assert backend.live(RUN) == []
    assert set(kinds(events)) <= {"step"}
    assert backend.training_state(job).status == "stopped"
    assert LocalBackend().training_state(job).status == "stopped"
    backend.stop_training(job)

    backend.start_training(spec(steps="9999"))
    assert backend.training_state(job).status == "running"


def test_a_job_asked_to_stop_is_stopped_before_the_asking_ends(
    backend: Backend, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client may look when the process has just ended, and the one that asked may die by a second Ctrl-C."""

    def stop(*asked: Any) -> None:
        really_stop(*asked)
        raise KeyboardInterrupt

    really_stop = local_processes.stop
    job = backend.start_training(spec(steps="9999"))
    next(iter(backend.follow_training(job)))
    monkeypatch.setattr(local_processes, "stop", stop)
    with pytest.raises(KeyboardInterrupt):
        backend.stop_training(job)
    state = LocalBackend().training_state(job)
    assert (state.status, state.by_request) == ("stopped", True)


def test_a_job_terminated_by_someone_else_is_stopped_not_failed(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec(steps="9999"))
    next(iter(backend.follow_training(job)))
    process_of(job).send_signal(signal.SIGTERM)
    assert list(backend.follow_training(job))
    assert backend.training_state(job).status == "stopped"


def test_a_job_that_does_not_stop_is_killed_with_all_it_started(
    backend: Backend, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_GRACE", 0.5)
    job = backend.start_training(spec(act="never stop", steps="9999"))
    child = next(e for e in backend.follow_training(job) if isinstance(e, UnknownEvent)).values["pid"]
    deaf = psutil.Process(child)
    backend.stop_training(job)
    assert backend.training_state(job).status == "stopped"
    assert not local_processes.alive(deaf)


def test_a_job_outlives_the_process_that_started_it_and_is_adopted(
    backend: Backend, spec: Any, scripts: Path, tmp_path: Path
) -> None:
    code = f"""
import os
from pathlib import Path
from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.records import TrainSpec
from lorasum.models.source import ModelRef
spec = TrainSpec({RUN!r}, "a-job", ModelRef("base"), Path({str(tmp_path / "dataset")!r}), {{"steps": "9999"}})
LocalBackend(Path({str(scripts)!r})).start_training(spec)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    job = backend.find_training(RUN, "a-job")
    assert job is not None
    process = process_of(job)
    assert backend.start_training(spec(steps="9999")) == job
    assert process_of(job) == process
    events = backend.follow_training(job)
    assert kinds([next(events), next(events)]) == ["start", "step"]
    process.kill()
    assert set(kinds(events)) <= {"step"}
    state = backend.training_state(job)  # not our child: how it ended is not known
    assert (state.status, state.reason) == ("failed", "the training process ended without a result")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_an_artifact_with_a_damaged_record_is_made_again(backend: Backend, spec: Any, content: bytes) -> None:
    job = backend.start_training(spec())
    list(backend.follow_training(job))
    record = Path(backend.artifact(job), "lorasum.json")
    record.write_bytes(content)
    assert backend.training_state(job).status == "failed"
    with pytest.raises(BackendError, match="cannot read"):
        artifact_record(backend, job)
    backend.start_training(spec())
    list(backend.follow_training(job))
    assert backend.training_state(job).status == "completed"
    assert artifact_record(backend, job) is not None


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"3", b'{"event": 3}', b'{"event": []}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000],
    ids=lambda line: repr(line[:13]),
)
def test_a_damaged_line_of_the_metrics_is_passed_over(backend: Backend, spec: Any, line: bytes) -> None:
    job = backend.start_training(spec(steps="1"))
    list(backend.follow_training(job))
    metrics = Path(job.location) / "ml/output/data/metrics.jsonl"
    metrics.write_bytes(line + b"\n" + metrics.read_bytes())
    assert len(list(backend.follow_training(job))) == 2


def test_a_failed_job_keeps_its_reason_until_it_is_started_again(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec(act="fail first"))
    list(backend.follow_training(job))
    assert backend.training_state(job) == JobState("failed", "no such target: w", "one of: q, k")
    backend.start_training(spec(act="fail first"))
    assert [e.resumed_from_step for e in backend.follow_training(job) if isinstance(e, StartEvent)] == [1]
    assert backend.training_state(job) == JobState("completed")


def test_a_job_that_crashed_silently_is_reported_by_the_end_of_its_log(backend: Backend, spec: Any) -> None:
    job = backend.start_training(spec(act="crash"))
    list(backend.follow_training(job))
    state = backend.training_state(job)
    assert state.status == "failed"
    assert state.reason.endswith("status 1; its log ends: ZeroDivisionError: what the log ends with")
    assert str(Path(job.location) / "log") in state.hint


def test_a_job_that_never_was_is_absent_and_can_be_stopped(backend: Backend) -> None:
    job = JobRef("nothing", str(paths.run_dir(RUN) / "jobs" / "nothing"))
    assert backend.find_training(RUN, "nothing") is None
    assert backend.training_state(job) == JobState("absent")
    assert list(backend.follow_training(job)) == []
    backend.stop_training(job)
    assert backend.live(RUN) == []


def test_deleting_files_spares_what_the_channels_point_to(backend: Backend, spec: Any, tmp_path: Path) -> None:
    job = backend.start_training(spec())
    (tmp_path / "dataset" / "kept").touch()
    list(backend.follow_training(job))
    assert backend.delete_files(RUN, data=True, artifacts=False) == []
    assert backend.training_state(job).status == "completed"
    assert backend.delete_files(RUN, data=False, artifacts=True) == [str(paths.run_dir(RUN) / "jobs")]
    assert backend.training_state(job).status == "absent"
    assert (tmp_path / "dataset" / "kept").exists()
    assert backend.delete_files(RUN, data=True, artifacts=True) == []


def test_a_job_goes_on_from_the_checkpoints_of_another(backend: Backend, spec: Any) -> None:
    for name, others, resumed_from in (("a-job", "", 0), ("another", "a-job", 3), ("third", "another", 3)):
        job = backend.start_training(replace(spec(), job_name=name, checkpoints=others))
        start = next(backend.follow_training(job))
        assert isinstance(start, StartEvent)
        assert start.resumed_from_step == resumed_from
        list(backend.follow_training(job))
    backend.delete_files(RUN, data=False, artifacts=True)
    assert not list(paths.run_dir(RUN).iterdir())


def test_steps_of_another_stand_beside_a_jobs_own(backend: Backend, spec: Any) -> None:
    """And a job whose own were deleted with it begins anew."""
    other = backend.start_training(spec())
    list(backend.follow_training(other))
    for others, resumed_from in (("", 0), ("a-job", 3), ("", 1)):
        stopped = replace(spec(act="fail first"), job_name="stopped", checkpoints=others)
        job = backend.start_training(stopped)
        start = next(backend.follow_training(job))
        assert isinstance(start, StartEvent)
        assert start.resumed_from_step == resumed_from
        list(backend.follow_training(job))
        assert backend.steps_of(RUN, job) == (other if others else job)
        shutil.rmtree(Path(job.location) / "ml" / "model")
    backend.start_training(replace(spec(), job_name="stopped", checkpoints="a-job"))
    shutil.rmtree(other.location)
    assert backend.steps_of(RUN, job) is None


def test_a_job_that_cannot_be_laid_out_is_an_error_with_a_hint(backend: Backend, spec: Any, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "runs").write_text("a file where the folder should be")
    with pytest.raises(BackendError, match="cannot start training") as caught:
        backend.start_training(spec())
    assert caught.value.hint


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(BackendError, match=r"(?m)training on this machine needs no_such_package$") as caught:
        require_packages("training", ["json", "no_such_package"])
    assert "lorasum[local]" in caught.value.hint


LAUNCHING = """
import os, pathlib, signal, sys, time
import launch
if ranks := launch.ranks(os.environ):
    sys.exit(launch.run(ranks, pathlib.Path(os.environ["SM_OUTPUT_DIR"])))
launch.end_with_parent(os.environ)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["RANK"] + "-" + str(os.getpid())).touch()
time.sleep(600)
"""


def test_processes_of_a_job_are_started_found_and_ended_as_one(
    backend: Backend, spec: Any, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "7")  # of a cluster that started this very process
    (scripts / "train.py").write_text(LAUNCHING)
    shutil.copy(paths.container_scripts() / "launch.py", scripts)
    shutil.copytree(paths.container_scripts() / "shared", scripts / "shared")

    def start() -> tuple[JobRef, list[psutil.Process]]:
        job = backend.start_training(replace(spec(), processes=2))
        model = Path(backend.artifact(job))
        waiting.until(lambda: len(list(model.iterdir())) == 2)
        names = sorted(path.name for path in model.iterdir())
        assert [name[0] for name in names] == ["0", "1"]
        return job, [psutil.Process(int(name[2:])) for name in names]

    def all_gone(ranks: list[psutil.Process]) -> bool:
        return not any(map(local_processes.alive, ranks))

    job, ranks = start()
    assert set(process_of(job).children()) == set(ranks), "of parent and children the parent is the job"
    assert backend.live(RUN) == [RunningResource("training_job", job.name, job.location)]
    backend.stop_training(job)
    assert all_gone(ranks)
    assert backend.training_state(job).status == "stopped"

    job, ranks = start()
    ranks[1].kill()
    waiting.until(lambda: backend.training_state(job).status != "running")
    state = backend.training_state(job)
    assert (state.status, state.reason) == (
        "failed",
        "training process 2 of 2 was killed (signal 9), as systems do when memory runs out",
    )
    assert all_gone(ranks)

    job, ranks = start()
    process_of(job).kill()
    waiting.until(lambda: all_gone(ranks))
    assert backend.training_state(job).status == "failed"


def test_more_processes_than_gpus_are_refused(backend: Backend, spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(BackendError, match="processes is 2, and this machine has 1 GPU"):
        backend.start_training(replace(spec(), processes=2))
