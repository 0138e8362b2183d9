"""First process of a SageMaker training container: installs the pinned versions, reads the token, becomes train.py
(or answer.py, in a batch job).

Standard library only, until the pinned versions are there. It turns into train.py rather than calling it, so that the
SIGTERM of a stopped job reaches the training script.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hub_token import hub_token, tracker_keys
from shared.container_limits import visible_gpus
from shared.failure import Failure, failure_text
from shared.names import (
    CHANNEL_WHEELS,
    FAILURE_FILE,
    HUB_CACHE,
    NO_NETWORK,
    PROCESSES,
    PROGRAM,
    REPORT_TO,
    SERVING_REQUIREMENTS,
    SM_CURRENT_HOST,
    SM_HOSTS,
    WARM_CACHE,
    folders_of,
)

ROOT = Path("/opt/ml")
HERE = Path(__file__).resolve().parent
_PIP_SECONDS = 900
_QUICKLY = ("--progress-bar=off", "--no-compile")  # Python compiles what it imports: a fifth of these packages
_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc|\.post|\.dev)\d+)*(\+[a-z0-9.]+)?")  # what pip takes in a constraint
_CAUSE = re.compile(r"^ERROR: | depends on |The user requested \(constraint\)")  # the lines of pip's that say why
_SHOWN = 3  # of them in the reason of a failure; the log has every line


class NotReadyError(Exception):
    """The container cannot be made ready, and the user can do something about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def main() -> None:
    """Never returns: this process becomes the training script, or ends with the reason in `failure`."""
    # A container's first process hears only the signals that it asks for: see launch.end_on_sigterm.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(128 + signal.SIGTERM))
    try:
        wheels = ROOT / "input" / "data" / CHANNEL_WHEELS
        flags = json.loads((ROOT / "input" / "config" / "hyperparameters.json").read_text(encoding="utf-8"))
        for name, folder in caches(flags, os.environ.get(WARM_CACHE, "")).items():
            os.environ.setdefault(name, folder)  # pip reads it, too
        program = os.environ.get(PROGRAM, "train.py")
        pins = "requirements-train.txt" if program == "train.py" else SERVING_REQUIREMENTS
        install_missing(HERE / pins, HERE / "constraints-train.txt", wheels, os.environ)
        keys = ready_trackers(HERE / "requirements-trackers.txt", os.environ)
        environ = {
            "DO_NOT_TRACK": "1",  # libraries send no telemetry
            **os.environ,
            **folders_of(ROOT),
            **machines(ROOT, os.environ),
            **hub_token(os.environ),
            **keys,
        }
        # Until the program asks for SIGTERM too, the system would drop it. One that is held back comes then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.execve(sys.executable, [sys.executable, str(HERE / program), *arguments(flags)], environ)  # noqa: S606
    except Exception as error:
        message, hint = f"the container could not be made ready: {error}", getattr(error, "hint", "")
        print(f"error: {message}\nhint: {hint}", file=sys.stderr)
        (ROOT / "output").mkdir(parents=True, exist_ok=True)
        reason = failure_text(Failure(message, hint))
        (ROOT / "output" / FAILURE_FILE).write_text(reason, encoding="utf-8")
        sys.exit(1)


def caches(hyperparameters: Mapping[str, object], stays: str) -> dict[str, str]:
    """The variables that say where downloads are kept.

    Args:
        stays: folder that the next job on this instance finds again, so that it downloads nothing; empty if there is
            none. The disk check has counted one base model, so those of other jobs are deleted from it.
    """
    if not stays or not Path(stays).is_dir():
        return {"HF_HOME": HUB_CACHE}
    base = json.dumps([hyperparameters.get(name) for name in ("model_id", "model_revision")])
    home = Path(stays) / "lorasum" / hashlib.sha256(base.encode()).hexdigest()[:12]
    for other in home.parent.glob("*"):
        if other != home:
            shutil.rmtree(other, ignore_errors=True)
    return {"HF_HOME": str(home), "PIP_CACHE_DIR": f"{stays}/pip"}


def read_pins(file: Path) -> dict[str, str]:
    """Name → version of a file of `name==version` lines; comments and empty lines are ignored."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return {name: version for name, _, version in (line.partition("==") for line in lines if line)}


def missing(requirements: Path) -> list[str]:
    """The pins, `name==version`, of which another version is installed, or none."""
    return [f"{name}=={wanted}" for name, wanted in read_pins(requirements).items() if _installed(name) != wanted]


def install_missing(requirements: Path, constraints: Path, wheels: Path, environ: Mapping[str, str]) -> None:
    """pip-install the pins that are missing, before anything that costs more is done. Nothing else is changed.

    Args:
        requirements: our pins.
        constraints: versions of what our pins pull in. Every other package is held to the version that is installed.
        wheels: folder to install from instead of the network, where there is one.
        environ: says whether there is a network.

    Raises:
        NotReadyError: there is no network, pip failed, or what it installed does not go with what was there.
    """
    if not (pins := missing(requirements)):
        return
    print(f"installing {' '.join(pins)}", file=sys.stderr, flush=True)
    source = _source(pins, wheels, environ)
    before = _broken()
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "held.txt"
        held.write_text("\n".join(_held([*read_pins(requirements), *read_pins(constraints)])), encoding="utf-8")
        known = ("--constraint", constraints, "--constraint", held)
        done = _pip("install", *_QUICKLY, *source, *known, *pins)
    print(done.stdout, file=sys.stderr, flush=True)
    if done.returncode:
        said = [line.strip() for line in done.stdout.splitlines() if _CAUSE.search(line)]
        raise NotReadyError(
            f"pip could not install {' '.join(pins)}: {'; '.join(said[:_SHOWN]) or 'it did not say why'}",
            "the log has all of pip's words; a sagemaker.training_image that has these versions needs no pip",
        )
    if broken := [line for line in _broken() if line not in before]:
        raise NotReadyError(
            f"after installing {' '.join(pins)}, packages conflict: {'; '.join(broken[:_SHOWN])}",
            "choose the sagemaker.training_image of the default configuration, or one that has these versions",
        )


def ready_trackers(requirements: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Install the trackers that the job names, and return the variables that hold their keys.

    A training goes on without a tracker, and train.py says so in an event. So nothing here ends the job.
    """
    names = [name for name in environ.get(REPORT_TO, "").split(",") if name]
    if not names:
        return {}
    packages = {pin.removesuffix("-skinny"): (pin, version) for pin, version in read_pins(requirements).items()}
    try:
        for name, version in [packages[name] for name in names if importlib.util.find_spec(name) is None]:
            print(f"installing {name}=={version}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                held = Path(folder) / "held.txt"
                held.write_text("\n".join(_held(())), encoding="utf-8")
                done = _pip("install", *_QUICKLY, "--constraint", held, f"{name}=={version}")
            print(done.stdout, file=sys.stderr, flush=True)
        return tracker_keys(environ)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"warning: {error}", file=sys.stderr, flush=True)
        return {}


def _source(pins: Sequence[str], wheels: Path, environ: Mapping[str, str]) -> list[str]:
    """pip's flags for where packages come from."""
    if wheels.is_dir():
        return ["--no-index", "--find-links", str(wheels)]
    if environ.get(NO_NETWORK) == "1":
        raise NotReadyError(
            f"the container has no network (sagemaker.network_isolation) to install {' '.join(pins)}",
            "use a sagemaker.training_image that has these versions, or set sagemaker.network_isolation: false",
        )
    return []


def _held(free: Sequence[str]) -> list[str]:
    """What is installed as constraints, `name==version`, but the packages in `free`."""
    names = {_normal(name) for name in free}
    there = {_normal(each.name): each.version for each in importlib.metadata.distributions()}
    return [
        f"{name}=={version}" for name, version in there.items() if name not in names and _VERSION.fullmatch(version)
    ]


def _broken() -> list[str]:
    """pip's lines about packages that do not go together."""
    checked = _pip("check")
    return checked.stdout.splitlines() if checked.returncode else []


def _normal(name: str) -> str:
    """A package's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run pip. Both of its streams are in `stdout`: the cause of a conflict goes to the one, its end to the other."""
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--disable-pip-version-check"]
    return subprocess.run(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_PIP_SECONDS, check=False
    )


def machines(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of launch.py: the machines of the job, and a process for each GPU of this one.

    Raises:
        NotReadyError: the driver does not tell of its GPUs.
    """
    file = root / "input" / "config" / "resourceconfig.json"
    resources = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if (gpus := visible_gpus(environ)) is None:  # one process would train on one of several GPUs that are paid for
        raise NotReadyError(
            "nvidia-smi does not tell how many GPUs this instance has", "the same command starts the job again"
        )
    found = {PROCESSES: str(max(gpus, 1))}
    if len(hosts := resources.get("hosts", [])) > 1:
        found |= {SM_HOSTS: json.dumps(hosts), SM_CURRENT_HOST: resources["current_host"]}
        if network := resources.get("network_interface_name"):
            found |= {"NCCL_SOCKET_IFNAME": network, "GLOO_SOCKET_IFNAME": network}
    return found


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
