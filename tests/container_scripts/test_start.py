"""start.py: what a SageMaker container does before the training script is reached."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import start
from hub_token import hub_token
from start import arguments, folders, install_missing, missing


def test_only_the_pins_that_differ_are_missing(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    version = importlib.metadata.version("peft")
    pins.write_text(f"# why\npeft=={version}\nbitsandbytes==0.0.1  # older\nno-such-package==1.0\n\n")
    assert missing(pins) == ["bitsandbytes==0.0.1", "no-such-package==1.0"]


def test_the_shipped_pins_are_the_installed_versions() -> None:
    assert missing(Path(start.__file__).parent / "requirements.txt") == []


def test_a_pin_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("no-such-package-of-lorasum==1.0\n")
    with pytest.raises(RuntimeError, match=r"installing no-such-package-of-lorasum==1\.0 failed"):
        install_missing(pins)


def test_a_model_channel_is_passed_on_only_if_there_is_one(tmp_path: Path) -> None:
    assert folders(Path("/opt/ml")) == {
        "SM_CHANNEL_TRAINING": "/opt/ml/input/data/training",
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_OUTPUT_DIR": "/opt/ml/output",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
    }
    (tmp_path / "input" / "data" / "model").mkdir(parents=True)
    assert folders(tmp_path)["SM_CHANNEL_MODEL"] == f"{tmp_path}/input/data/model"


def test_hyperparameters_become_flags_from_text_and_from_json() -> None:
    assert arguments({"run_name": "chats", "epochs": "3"}) == ["--run_name", "chats", "--epochs", "3"]
    assert arguments({"epochs": 3, "gradient_checkpointing": True})[1::2] == ["3", "true"]


def test_without_a_secret_there_is_no_token() -> None:
    assert hub_token({}) == {}


def program(root: Path) -> Path:
    """start.py and what it imports in `root`, which stands for /opt/ml."""
    here = Path(start.__file__).parent
    for name in ("contract.py", "hub_token.py"):
        shutil.copy(here / name, root)
    script = root / "start.py"
    script.write_text((here / "start.py").read_text().replace('Path("/opt/ml")', f"Path({str(root)!r})"))
    return script


def test_failure_is_left_where_sagemaker_reads_it(tmp_path: Path) -> None:
    """The whole program, its root moved: there is no requirements.txt beside it."""
    script = program(tmp_path)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "requirements.txt" in (tmp_path / "output" / "failure").read_text()


def test_start_becomes_the_training_script(tmp_path: Path) -> None:
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text(json.dumps({"run_name": "chats"}))
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "train.py").write_text("import os, sys; print(os.getpid(), sys.argv[1:], os.environ['SM_MODEL_DIR'])")
    script = program(tmp_path)
    started = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    said, _ = started.communicate()
    assert said.strip() == f"{started.pid} ['--run_name', 'chats'] {tmp_path}/model"
