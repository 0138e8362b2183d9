"""start.py: what a SageMaker container does before the training script is reached."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import stand_in_container as container

import start
from hub_token import hub_token
from shared import container_limits
from start import arguments, missing


def test_only_the_pins_that_differ_are_missing(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    version = importlib.metadata.version("peft")
    pins.write_text(f"# why\npeft=={version}\nbitsandbytes==0.0.1  # older\nno-such-package==1.0\n\n")
    assert missing(pins) == ["bitsandbytes==0.0.1", "no-such-package==1.0"]


def test_the_shipped_pins_are_the_installed_versions() -> None:
    assert missing(Path(start.__file__).parent / "requirements-train.txt") == []


Wheels = Callable[..., Path]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of its own, with our pip and nothing else: what a container image brings."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = importlib.metadata.distribution("pip")
    for name in {file.parts[0] for file in pip.files or []} - {".."}:
        (packages_of(python) / name).symlink_to(str(pip.locate_file(name)))
    return python


@pytest.fixture
def wheels(tmp_path: Path) -> Wheels:
    """Makes a wheel in the folder `wheels`: wheels("name", "1.0", "needed>=1")."""
    folder = tmp_path / "wheels"
    folder.mkdir()

    def make(name: str, version: str, *requires: str) -> Path:
        info = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        files = {
            f"{name}.py": f"version = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            for file, content in {**files, f"{info}/RECORD": record}.items():
                archive.writestr(file, content)
        return folder

    return make


def install(
    image: Path, tmp_path: Path, pins: str, constraints: str = "", **environ: str
) -> "subprocess.CompletedProcess[str]":
    """install_missing with the image's Python, in a process of its own."""
    (tmp_path / "pins.txt").write_text(pins)
    (tmp_path / "constraints.txt").write_text(constraints)
    code = (
        "import os, pathlib, start\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "start.install_missing(here / 'pins.txt', here / 'constraints.txt', here / 'wheels', os.environ)\n"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(start.__file__).parent), **environ}
    return subprocess.run([image, "-c", code], env=env, capture_output=True, text=True, timeout=120)


def add(image: Path, wheels: Path) -> None:
    """Make the packages that there are wheels of a part of the image."""
    for wheel in wheels.iterdir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages_of(image))


def versions(image: Path) -> dict[str, str]:
    found = importlib.metadata.distributions(path=[str(packages_of(image))])
    return {package.name: package.version for package in found}


def packages_of(image: Path) -> Path:
    [folder] = image.parents[1].glob("lib/python*/site-packages")
    return folder


def test_pins_are_installed_and_other_packages_of_the_image_stay(image: Path, tmp_path: Path, wheels: Wheels) -> None:
    folder = wheels("arrays", "1.0")
    add(image, folder)
    wheels("arrays", "2.0")
    wheels("columns", "5.0", "arrays>=1")
    wheels("columns", "6.0", "arrays>=1")
    wheels("ours", "1.0", "columns", "arrays")
    done = install(image, tmp_path, "ours==1.0  # why\n", "columns==5.0\n")
    assert done.returncode == 0, done.stderr
    assert versions(image).items() >= {"arrays": "1.0", "columns": "5.0", "ours": "1.0"}.items()
    compiled = list(image.parents[1].glob("lib/*/site-packages/__pycache__/columns.*"))
    assert not compiled, "most of what is installed is never imported"
    assert install(image, tmp_path, "ours==1.0", LORASUM_NO_NETWORK="1").stderr == "", "nothing is missing now"


def test_packages_that_conflict_after_the_installation_are_named(image: Path, tmp_path: Path, wheels: Wheels) -> None:
    folder = wheels("base", "1.0")
    wheels("images_own", "3.0", "base<2")
    add(image, folder)
    wheels("base", "2.0")
    wheels("newer", "1.0", "base>=2")
    refused = install(image, tmp_path, "newer==1.0")
    assert "NotReadyError: pip could not install newer==1.0: ERROR: Cannot install newer==1.0" in refused.stderr
    assert "newer 1.0 depends on base>=2" in refused.stderr
    assert "The conflict is caused by:" in refused.stderr, "all of pip's words are in the log"
    assert versions(image)["base"] == "1.0"
    broken = install(image, tmp_path, "newer==1.0", "base==2.0")
    assert "packages conflict: images-own 3.0 has requirement base<2, but you have base 2.0" in broken.stderr
    wheels("images_own", "4.0", "base")
    mended = install(image, tmp_path, "images_own==4.0")
    assert mended.returncode == 0, mended.stderr


def test_a_pin_that_cannot_be_had_is_named(image: Path, tmp_path: Path, wheels: Wheels) -> None:
    wheels("other", "1.0")
    done = install(image, tmp_path, "no-such-package-of-lorasum==1.0")
    assert "pip could not install no-such-package-of-lorasum==1.0: ERROR: " in done.stderr


def test_without_network_and_wheels_pip_is_not_asked(image: Path, tmp_path: Path) -> None:
    done = install(image, tmp_path, "no-such-package-of-lorasum==1.0", LORASUM_NO_NETWORK="1")
    assert (
        "the container has no network (sagemaker.network_isolation) to install no-such-package-of-lorasum==1.0"
        in done.stderr
    )


def test_a_tracker_that_cannot_be_installed_ends_no_job(image: Path, tmp_path: Path) -> None:
    (tmp_path / "trackers.txt").write_text("nobodys_tracker==1.0\nanother==1.0\n")
    code = (
        "import pathlib, start\n"
        "environ = {'LORASUM_REPORT_TO': 'nobodys_tracker'}\n"
        f"print(start.ready_trackers(pathlib.Path({str(tmp_path / 'trackers.txt')!r}), environ))\n"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(start.__file__).parent)}
    done = subprocess.run([image, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "{}\n", done.stderr
    assert "No matching distribution found for nobodys_tracker==1.0" in done.stderr
    assert "another" not in done.stderr, "it is not asked for"


def test_hyperparameters_become_flags_from_text_and_from_json() -> None:
    assert arguments({"run_name": "chats", "epochs": "3"}) == ["--run_name", "chats", "--epochs", "3"]
    assert arguments({"epochs": 3, "gradient_checkpointing": True})[1::2] == ["3", "true"]


def test_without_a_secret_there_is_no_token() -> None:
    assert hub_token({}) == {}


def program(root: Path) -> Path:
    """start.py and what it imports in `root`, which stands for /opt/ml."""
    here = Path(start.__file__).parent
    shutil.copytree(here / "shared", root / "shared")
    shutil.copy(here / "hub_token.py", root)
    script = root / "start.py"
    script.write_text((here / "start.py").read_text().replace('Path("/opt/ml")', f"Path({str(root)!r})"))
    return script


def asked_for(root: Path, hyperparameters: dict[str, str]) -> None:
    """What the platform writes of the request."""
    (root / "input" / "config").mkdir(parents=True)
    (root / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))


def test_failure_is_left_where_sagemaker_reads_it(tmp_path: Path) -> None:
    """The whole program, its root moved: there is no requirements-train.txt beside it."""
    script = program(tmp_path)
    asked_for(tmp_path, {})
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "requirements-train.txt" in (tmp_path / "output" / "failure").read_text()


def test_machines_of_a_job_are_told_to_the_training_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    listed = tmp_path / "nvidia-smi"
    listed.write_text('#!/bin/sh\nfor gpu in 0 1 2 3; do echo "GPU $gpu: NVIDIA A10G"; done\n')
    listed.chmod(0o700)
    (tmp_path / "input" / "config").mkdir(parents=True)
    file = tmp_path / "input" / "config" / "resourceconfig.json"
    file.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}))
    assert start.machines(tmp_path, {}) == {"LORASUM_PROCESSES": "4"}
    for visible, processes in (("0,2", "2"), ("GPU-1f", "1"), ("-1", "1"), ("", "1")):
        assert start.machines(tmp_path, {"CUDA_VISIBLE_DEVICES": visible}) == {"LORASUM_PROCESSES": processes}
    hosts = ["algo-1", "algo-2"]
    file.write_text(json.dumps({"current_host": "algo-2", "hosts": hosts, "network_interface_name": "eth0"}))
    assert start.machines(tmp_path, {}) == {
        "LORASUM_PROCESSES": "4",
        "SM_HOSTS": json.dumps(hosts),
        "SM_CURRENT_HOST": "algo-2",
        "NCCL_SOCKET_IFNAME": "eth0",
        "GLOO_SOCKET_IFNAME": "eth0",
    }


@pytest.mark.parametrize("does", ["exec sleep 600", "echo GPU 0: NVIDIA A10G; exit 15"])
def test_gpus_that_the_driver_does_not_tell_of_end_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """One process would train on one GPU, and eight are paid for."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{does}\n")
    (tmp_path / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(container_limits, "_DRIVER_SECONDS", 0.5 if "sleep" in does else 60)
    with pytest.raises(start.NotReadyError, match="nvidia-smi does not tell how many GPUs this instance has"):
        start.machines(tmp_path, {})


def test_a_warm_instance_keeps_the_downloads_of_one_base_model(tmp_path: Path) -> None:
    first, again, pinned = (
        start.caches({"model_id": "me/model", **more}, str(tmp_path))["HF_HOME"]
        for more in ({"lora_r": "2"}, {"lora_r": "4"}, {"model_revision": "v1"})
    )
    assert first == again != pinned
    Path(first).mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    assert start.caches({"model_id": "me/model"}, str(tmp_path)) == {
        "HF_HOME": first,
        "PIP_CACHE_DIR": f"{tmp_path}/pip",
    }
    assert Path(first).is_dir()
    start.caches({"model_id": "me/other"}, str(tmp_path))
    assert not Path(first).exists(), "its disk has room for one, as it was counted"
    assert (tmp_path / "theirs").is_dir()
    for nowhere in ("", str(tmp_path / "none")):
        assert start.caches({"model_id": "me/model"}, nowhere) == {"HF_HOME": "/tmp/huggingface"}


def test_a_batch_job_installs_what_serving_needs(tmp_path: Path) -> None:
    """The training's pins are 110 MB more: bitsandbytes, and what `datasets` brings."""
    asked_for(tmp_path, {})
    (tmp_path / "requirements-serve.txt").write_text("no-such-package-of-lorasum==1.0\n")
    environ = {**os.environ, "LORASUM_NO_NETWORK": "1", "LORASUM_PROGRAM": "answer.py"}
    ended = subprocess.run([sys.executable, program(tmp_path)], capture_output=True, text=True, env=environ)
    assert "to install no-such-package-of-lorasum==1.0" in ended.stderr


def test_start_becomes_the_training_script(tmp_path: Path) -> None:
    asked_for(tmp_path, {"run_name": "chats"})
    (tmp_path / "requirements-train.txt").write_text("")
    (tmp_path / "train.py").write_text(
        "import os, sys; print(os.getpid(), sys.argv[1:], *map(os.environ.get, ('SM_MODEL_DIR', 'DO_NOT_TRACK')))"
    )
    script = program(tmp_path)
    environ = {name: value for name, value in os.environ.items() if name != "DO_NOT_TRACK"}
    started = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environ)
    said, _ = started.communicate()
    assert said.strip() == f"{started.pid} ['--run_name', 'chats'] {tmp_path}/model 1"


LOADS = """
import os, pathlib, sys, time
if "RANK" not in os.environ:
    print("loads", flush=True)
    while not pathlib.Path(__file__).with_name("loaded").exists():
        time.sleep(0.02)
    import launch
    {hears}
    print("answers", flush=True)
time.sleep(200)
"""
HEARS = {
    "alone": "launch.end_on_sigterm()",
    "with children": 'sys.exit(launch.run([{"RANK": "0"}], pathlib.Path(".")))',
}


@pytest.mark.skipif(not container.first_possible(), reason="this system gives no process namespaces")
@pytest.mark.parametrize("hears", HEARS.values(), ids=HEARS)
def test_a_stop_while_the_program_loads_is_not_lost(tmp_path: Path, hears: str) -> None:
    """The system drops a signal that a container's first process has not asked for: the job would run on for 120 s."""
    asked_for(tmp_path, {})
    (tmp_path / "requirements-train.txt").write_text("")
    shutil.copy(Path(start.__file__).with_name("launch.py"), tmp_path)
    (tmp_path / "train.py").write_text(LOADS.replace("{hears}", hears))
    command = [sys.executable, str(program(tmp_path))]
    with container.first_process(command, container.environ_of(tmp_path, {})) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loads\n"
        process.terminate()
        (tmp_path / "loaded").touch()
        assert process.wait(100) == 143
        assert process.stdout.read() == ""
