"""First process of a SageMaker training container: brings pins, hub token and folders, then becomes train.py.

Standard library only, until the pinned versions are there. It turns into train.py rather than calling it, so that the
SIGTERM of a stopped job reaches the training script.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import contract
from hub_token import hub_token

ROOT = Path("/opt/ml")
HERE = Path(__file__).resolve().parent
_PIP_SECONDS = 900


def main() -> None:
    """Never returns: this process becomes the training script, or ends with the reason in `failure`."""
    try:
        install_missing(HERE / "requirements.txt")
        environ = {"HF_HOME": contract.HUB_CACHE, **os.environ, **folders(ROOT), **hub_token(os.environ)}
        flags = json.loads((ROOT / "input" / "config" / "hyperparameters.json").read_text(encoding="utf-8"))
        os.execve(sys.executable, [sys.executable, str(HERE / "train.py"), *arguments(flags)], environ)  # noqa: S606
    except Exception as error:
        reason = contract.failure_text(contract.Failure(f"the container could not be made ready: {error}"))
        print(reason, file=sys.stderr)
        (ROOT / "output").mkdir(parents=True, exist_ok=True)
        (ROOT / "output" / contract.FAILURE_FILE).write_text(reason, encoding="utf-8")
        sys.exit(1)


def missing(requirements: Path) -> list[str]:
    """The pins, `name==version`, of which another version is installed, or none."""
    found = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        pin = line.partition("#")[0].strip()
        name, _, wanted = pin.partition("==")
        if pin and _installed(name) != wanted:
            found.append(pin)
    return found


def install_missing(requirements: Path) -> None:
    """pip-install what is missing, before anything that costs more is done.

    Raises:
        RuntimeError: pip failed.
    """
    if not (pins := missing(requirements)):
        return
    print(f"installing {' '.join(pins)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)  # noqa: S603
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word from pip"])[-1]
        raise RuntimeError(f"installing {' '.join(pins)} failed: {said}")


def folders(root: Path) -> dict[str, str]:
    """The SM_* variables that the training script reads."""
    data = root / "input" / "data"
    found = {
        contract.SM_CHANNEL_TRAINING: data / contract.CHANNEL_TRAINING,
        contract.SM_MODEL_DIR: root / "model",
        contract.SM_OUTPUT_DIR: root / "output",
        contract.SM_OUTPUT_DATA_DIR: root / "output" / "data",
    }
    if (model := data / contract.CHANNEL_MODEL).is_dir():
        found[contract.SM_CHANNEL_MODEL] = model
    return {name: str(path) for name, path in found.items()}


def arguments(hyperparameters: Mapping[str, object]) -> list[str]:
    """Hyperparameters as flags; the platform hands them over as text, or decoded from JSON."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in hyperparameters.items()}
    return [text for name, value in texts.items() for text in (f"--{name}", value)]


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
