"""Gives a local training process what SageMaker gives a container: the /opt/ml tree, the SM_* variables and the flags.

Names and values are those of SageMaker's own drivers (sagemaker-train's environment.py), or else of the older training
toolkit. Only the root differs: it is a folder of the job instead of /opt/ml.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasum.backends.records import TrainSpec
from lorasum.contract import (
    CHANNEL_MODEL,
    CHANNEL_TRAINING,
    FAILURE_FILE,
    METRICS_FILE,
    RECORD_FILE,
    Failure,
    read_event,
    read_failure,
    read_record,
)
from lorasum.files import make_folder, write_file

_HOST = "algo-1"
_GROUP = "homogeneousCluster"
_OTHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables of processes that torchrun or a cluster has started: they are not this job's."""


def hyperparameters(root: Path, spec: TrainSpec) -> dict[str, str]:
    """The job's hyperparameters, with the folder of its checkpoints added."""
    return {**spec.hyperparameters, "checkpoint_dir": str(root / "checkpoints")}


def arguments(hyperparameters: Mapping[str, str]) -> list[str]:
    """Hyperparameters as flags, in their order."""
    return [text for name, value in hyperparameters.items() for text in (f"--{name}", value)]


def lay_out(root: Path, spec: TrainSpec) -> None:
    """Make the job's tree, or prepare it for another start: link channels, write config files, clear a partial model/.

    Checkpoints and metrics stay, because the job resumes from them.

    Raises:
        OSError: it cannot be written.
    """
    for folder in ("input/config", "input/data", "output/data", "model", "checkpoints"):
        make_folder(root / folder)
    (root / "output" / FAILURE_FILE).unlink(missing_ok=True)
    if not is_complete(root):
        shutil.rmtree(root / "model")
        make_folder(root / "model")
    _end_last_line(metrics_file(root))
    for name, target in _channels(spec).items():
        link = root / "input" / "data" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target, target_is_directory=True)
    for name, content in {
        "hyperparameters": hyperparameters(root, spec),
        "inputdataconfig": _input_data_config(spec),
        "resourceconfig": _resource_config(),
    }.items():
        write_file(root / "input" / "config" / f"{name}.json", json.dumps(content, indent=2))


def environment(root: Path, spec: TrainSpec, scripts: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with its own SM_* variables replaced by the container's."""
    flags = hyperparameters(root, spec)
    values = {name: _decoded(value) for name, value in flags.items()}
    channels = {name: str(root / "input" / "data" / name) for name in _channels(spec)}
    common = _common_variables(root, spec, environ)
    training_env = {**common, "channel_input_dirs": channels, "hyperparameters": values, "job_name": spec.job_name}
    variables: dict[str, Any] = {
        **common,
        "output_dir": str(root / "output"),
        "output_failure": str(root / "output" / FAILURE_FILE),
        "output_intermediate_dir": str(root / "output" / "intermediate"),
        "source_dir": str(scripts),
        "entry_script": spec.program,
        "module_dir": str(scripts),
        "module_name": spec.program.removesuffix(".py"),
        "user_entry_point": spec.program,
        "user_args": arguments(flags),
        "host_count": 1,
        "current_host_rank": 0,
        "current_instance_group": _GROUP,
        "channels": sorted(channels),
        "hps": values,
        "training_env": training_env,
        **{f"channel_{name}": path for name, path in channels.items()},
        **{f"hp_{name.replace('-', '_')}": value for name, value in values.items()},
    }
    own = {name: value for name, value in environ.items() if not name.startswith("SM_") and name not in _OTHERS}
    container = {f"SM_{name.upper()}": _encoded(value) for name, value in variables.items()}
    return {**own, **container, "TRAINING_JOB_NAME": spec.job_name, "PYTHONUNBUFFERED": "1"}


def _common_variables(root: Path, spec: TrainSpec, environ: Mapping[str, str]) -> dict[str, Any]:
    """What stands both in SM_* variables of their own and in SM_TRAINING_ENV, by name in lower case without SM_."""
    return {
        "input_dir": str(root / "input"),
        "input_config_dir": str(root / "input" / "config"),
        "input_data_dir": str(root / "input" / "data"),
        "output_data_dir": str(root / "output" / "data"),
        "model_dir": str(root / "model"),
        "current_host": _HOST,
        "current_instance_type": "local",
        "hosts": [_HOST],
        "master_addr": _HOST,
        "master_port": 7777,
        "network_interface_name": "lo",
        "num_cpus": multiprocessing.cpu_count(),
        "num_gpus": gpus(environ),
        "num_neurons": 0,
        "log_level": 20,
        "input_data_config": _input_data_config(spec),
        "resource_config": _resource_config(),
    }


def is_complete(root: Path) -> bool:
    """Whether model/ holds a whole artifact. Its record is written last; a damaged record does not count."""
    try:
        read_record((root / "model" / RECORD_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return True


def failure(root: Path) -> Failure | None:
    """Why the job failed; None if it left no reason."""
    path = root / "output" / FAILURE_FILE
    return read_failure(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None


def set_damaged_aside(job: Path, mark: str) -> list[str]:
    """Rename a record and events of a job's folder that cannot be read. Of the events, those that can be read stay.

    Raises:
        OSError: that cannot be done.
    """
    record, events, done = job / "ml" / "model" / RECORD_FILE, metrics_file(job / "ml"), []
    if os.path.lexists(record) and not is_complete(job / "ml"):
        kept = job / f"{RECORD_FILE}{mark}"  # not in model/, which the next start empties
        record.rename(kept)
        done.append(f"set the damaged record of job {job.name} aside as {kept}; `lorasum train` makes its model again")
    if os.path.lexists(events) and (readable := _readable_events(events)) is not None:
        kept = events.with_name(f"{events.name}{mark}")
        events.rename(kept)
        write_file(events, b"".join(line + b"\n" for line in readable))
        done.append(f"set the damaged events of job {job.name} aside as {kept}; {len(readable)} could be read")
    return done


def _readable_events(path: Path) -> list[bytes] | None:
    """The lines of a damaged file of events that can be read; None if there is nothing wrong with it."""
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line]
    except OSError:  # a folder in its place, for example
        return []
    good = [line for line in lines if read_event(line) is not None]
    return good if len(good) < len(lines) else None


def metrics_file(root: Path) -> Path:
    """The file of the job's events, one JSON object a line. A restarted job appends to it."""
    return root / "output" / "data" / METRICS_FILE


def _channels(spec: TrainSpec) -> dict[str, Path]:
    model = Path(spec.artifact) if spec.artifact else spec.model.path
    return {CHANNEL_TRAINING: spec.dataset} | ({CHANNEL_MODEL: model} if model else {})


def _input_data_config(spec: TrainSpec) -> dict[str, Any]:
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    return dict.fromkeys(_channels(spec), channel)


def _resource_config() -> dict[str, Any]:
    group = {"instance_group_name": _GROUP, "instance_type": "local", "hosts": [_HOST]}
    return {
        "current_host": _HOST,
        "current_instance_type": "local",
        "current_group_name": _GROUP,
        "hosts": [_HOST],
        "instance_groups": [group],
        "network_interface_name": "lo",
    }


def gpus(environ: Mapping[str, str]) -> int:
    """Number of GPUs that the training process will see."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _end_last_line(path: Path) -> None:
    """End an unfinished last line, which a killed job may have left, so that the next event begins a new one."""
    if path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _encoded(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
