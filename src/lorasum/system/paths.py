"""The folders of lorasum's state and of the container scripts."""

import os
from pathlib import Path

from lorasum.errors import LorasumError


def home() -> Path:
    """The folder of everything lorasum writes: the ledger, runs, converted models. `LORASUM_HOME` moves it.

    Raises:
        LorasumError: it is no folder; or it is not set, and nobody knows the user's home, as in containers with a user
            of any number.
    """
    given = os.environ.get("LORASUM_HOME")
    try:
        if not given and os.environ.get("HOME") == "":  # Python would take the root folder
            raise RuntimeError
        folder = Path(given or Path.home() / ".lorasum").expanduser().resolve()
    except RuntimeError:
        raise LorasumError(
            "this user has no home folder: HOME is not set", "set LORASUM_HOME to a folder that this user can write to"
        ) from None
    if folder.exists() and not folder.is_dir():  # where everything would seem to be gone
        raise LorasumError(f"{folder} is no folder", "set LORASUM_HOME to one, or take it away")
    return folder


def home_is_shared() -> bool:
    """Whether `LORASUM_HOME` sets the home. The user then decides who else may read that folder."""
    return bool(os.environ.get("LORASUM_HOME"))


def run_dir(run: str) -> Path:
    """The folder of one run: its dataset, its training jobs, its endpoints."""
    return home() / "runs" / run


def runs() -> list[str]:
    """The names of all runs that have a folder, sorted."""
    root = home() / "runs"
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def model_cache() -> Path:
    """The folder of base models converted to safetensors."""
    return home() / "models"


def container_scripts() -> Path:
    """The folder shipped to the training and serving containers.

    An installed wheel has it inside the package; a checkout has it beside src/.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "container_scripts"
    return installed if installed.is_dir() else package.parents[1] / "container_scripts"


def shipped() -> Path:
    """The folder of the `configs`, `docs` and `examples` that lorasum brings, in an installed wheel or a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parents[1]


def doc(page: str) -> Path:
    """The file of a page of the docs, such as `iam`, as it lies on this disk. Hints name it."""
    return shipped() / "docs" / f"{page}.md"
