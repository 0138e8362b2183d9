"""env: what a bug report needs to say of this machine, without secrets."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from re import match

from lorasum import __version__
from lorasum.config.secrets import redacted
from lorasum.system import nvidia_smi, paths

_VARIABLES = ("LORASUM_", "HF_", "AWS_", "CUDA_", "OMP_", "SM_", "TRANSFORMERS_", "NO_COLOR", "FORCE_COLOR", "TERM")


def env() -> Mapping[str, object]:
    """Versions, device and folders. Nothing heavy is imported, and no service is asked."""
    home = paths.home()
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
    return {
        "lorasum": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "cpu": f"{os.cpu_count()} processors, {platform.machine()}",
        "gpus": [", ".join(gpu) for gpu in nvidia_smi.gpus()],
        "home": str(home),
        "free_bytes": shutil.disk_usage(next(path for path in (home, *home.parents) if path.exists())).free,
        "container_scripts": str(paths.container_scripts()),
        "packages": _packages(),
        "variables": redacted(variables),
    }


def _packages() -> dict[str, str]:
    """The version of each package that lorasum asks for, its extras too; "not installed" where it is missing."""
    asked = [line for line in requires("lorasum") or () if "'dev'" not in line]
    versions = {}
    for name in sorted({found[0] for line in asked if (found := match(r"[\w.-]+", line))}):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
