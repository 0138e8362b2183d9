"""Wheels of the pinned packages, for containers that cannot download them.

A container in network isolation, or in a VPC without internet access, reaches no package index. So the wheels are
downloaded on the user's machine, for the image's system and Python. They are kept in lorasum's home and uploaded to S3
with the run.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError
from lorasum.shared.names import SERVING_REQUIREMENTS
from lorasum.system import paths
from lorasum.system.files import maker_lock, new_folder

_PYTHON = "3.12"  # of the Hugging Face images
_GLIBC = (17, 24, 26, 27, 28, 31, 34, 35)  # minor versions that the images' Ubuntu 22.04 runs wheels of
_PLATFORMS = ("manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC))
_SECONDS = 1800
_TRAINING = ("requirements-train.txt", "constraints-train.txt")
_SERVING = (SERVING_REQUIREMENTS,)


@dataclass(frozen=True, slots=True)
class Wheels:
    """The wheels of some pins.

    Attributes:
        pins: requirements such as `peft==0.19.0`. Their own dependencies are in the image or among the pins.
    """

    pins: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of their folder: a hash of the pins, the system and the Python version."""
        identity = "\n".join([*self.pins, _PYTHON, *_PLATFORMS])
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    def download(self) -> Path:
        """Folder with the wheels, in lorasum's home. They are downloaded once, by pip from the user's package index.

        Raises:
            BackendError: pip is not installed, or found no wheel of a pin.
        """
        folder = paths.home() / "wheels" / self.name
        with maker_lock(folder, lambda: None):
            if not folder.is_dir():
                with new_folder(folder) as made:
                    _pip_download(self.pins, made)
        return folder


def are_needed(config: SageMakerConfig) -> bool:
    """Whether containers may reach no package index. A VPC may or may not have internet access, so it gets wheels."""
    return config.network_isolation or bool(config.subnets)


def training_wheels() -> Wheels:
    """The wheels of the training container."""
    return _wheels(_TRAINING)


def serving_wheels() -> Wheels:
    """The wheels of the serving container."""
    return _wheels(_SERVING)


def _wheels(files: Sequence[str]) -> Wheels:
    folder = paths.container_scripts()
    lines = [line for name in files for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    pins = (line.partition("#")[0].strip() for line in lines)
    return Wheels(tuple(sorted({pin for pin in pins if pin})))


def _pip_download(pins: Sequence[str], folder: Path) -> None:
    system = [flag for platform in _PLATFORMS for flag in ("--platform", platform)]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", _PYTHON, *system,
        "--dest", str(folder), *pins,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        said = f"pip took longer than {_SECONDS} s"
    else:
        if done.returncode == 0:
            return
        said = (done.stderr.strip().splitlines() or ["pip did not say why"])[-1].removeprefix("ERROR: ")
    raise BackendError(
        f"cannot download the packages for a container without network: {said}",
        "check the network and `python -m pip --version`; or use images that have these versions, and no VPC",
    )
