"""env: what a bug report needs to say of this machine, without secrets."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from re import match

from lorasum import __version__, paths
from lorasum.config.secrets import redacted
from lorasum.results import EnvResult

_VARIABLES = ("LORASUM_", "HF_", "AWS_", "CUDA_", "OMP_", "SM_", "TRANSFORMERS_", "NO_COLOR", "FORCE_COLOR", "TERM")


def env() -> EnvResult:
    """Versions, device and folders. Nothing heavy is imported, and no service is asked."""
    home = paths.home()
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
    return EnvResult(
        lorasum=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=platform.platform(),
        cpu=f"{os.cpu_count()} processors, {platform.machine()}",
        gpus=_gpus(),
        home=str(home),
        free_bytes=shutil.disk_usage(next(path for path in (home, *home.parents) if path.exists())).free,
        container_scripts=str(paths.container_scripts()),
        packages=_packages(),
        variables=redacted(variables),
    )


def _packages() -> dict[str, str]:
    """The version of each package that lorasum asks for, its extras too; "not installed" where it is missing."""
    names = {found[0] for line in requires("lorasum") or () if (found := match(r"[\w.-]+", line))}
    dev = {found[0] for line in requires("lorasum") or () if "'dev'" in line and (found := match(r"[\w.-]+", line))}
    versions = {}
    for name in sorted(names - dev):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _gpus() -> tuple[str, ...]:
    """Each GPU with its memory and driver, as nvidia-smi says; none where there is no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    asked = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    return tuple(line.strip() for line in said.stdout.splitlines() if line.strip())
