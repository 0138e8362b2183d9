"""What this machine has: the GPUs that nvidia-smi tells of."""

import os
from pathlib import Path

import pytest

from lorasum.system.nvidia_smi import Gpu, gpus


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program that is found first under this name."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "nvidia-smi"


def test_gpus_are_told_with_their_memory_and_driver(nvidia_smi: Path) -> None:
    nvidia_smi.write_text(
        "#!/bin/sh\nprintf 'NVIDIA A10G, 23028 MiB, 550.54.15\\nNVIDIA L4, 23034 MiB, 550.54.15\\n'\n"
    )
    nvidia_smi.chmod(0o755)
    assert gpus() == [Gpu("NVIDIA A10G", "23028 MiB", "550.54.15"), Gpu("NVIDIA L4", "23034 MiB", "550.54.15")]


def test_a_driver_that_does_not_answer_is_no_gpu(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.write_text("#!/bin/sh\nexec sleep 600\n")
    nvidia_smi.chmod(0o755)
    monkeypatch.setattr("lorasum.system.nvidia_smi._SECONDS", 0.2)
    assert gpus() == []
