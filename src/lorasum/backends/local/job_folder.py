"""The folder of a local training job: what start.py gives it in SageMaker's container: channels, variables and flags.

Only the root differs: it is a folder of the job instead of /opt/ml.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lorasum.backends.records import TrainSpec
from lorasum.shared.events import read_event
from lorasum.shared.failure import Failure, read_failure
from lorasum.shared.json_lines import end_last_line
from lorasum.shared.names import (
    CHANNEL_BASE,
    CHANNEL_MODEL,
    CHANNEL_TRAINING,
    FAILURE_FILE,
    METRICS_FILE,
    RECORD_FILE,
    folders_of,
)
from lorasum.shared.records import ArtifactRecord, from_json
from lorasum.system.files import make_folder, write_file

_OTHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables of processes that torchrun or a cluster has started: they are not this job's."""
_CHECKPOINTS = "checkpoints"


def arguments(root: Path, spec: TrainSpec) -> list[str]:
    """The job's hyperparameters as flags, in their order, and behind them the folder of its checkpoints."""
    flags = {**spec.hyperparameters, "checkpoint_dir": str(root / _CHECKPOINTS)}
    return [text for name, value in flags.items() for text in (f"--{name}", value)]


def lay_out(root: Path, spec: TrainSpec) -> None:
    """Make the job's tree, or prepare it for another start: link the channels, clear a partial model/.

    Checkpoints and metrics stay, because the job resumes from them.

    Raises:
        OSError: it cannot be written.
    """
    for folder in ("input/data", "output/data", "model"):
        make_folder(root / folder)
    _make_checkpoints(root, spec)
    (root / "output" / FAILURE_FILE).unlink(missing_ok=True)
    if not is_complete(root):
        shutil.rmtree(root / "model")
        make_folder(root / "model")
    end_last_line(metrics_file(root))
    model = Path(spec.artifact) if spec.artifact else spec.model.path
    channels = {CHANNEL_TRAINING: spec.dataset, CHANNEL_MODEL: model, CHANNEL_BASE: spec.base_summaries}
    for name, target in channels.items():
        link = root / "input" / "data" / name
        link.unlink(missing_ok=True)
        if target:
            link.symlink_to(target, target_is_directory=True)


def _make_checkpoints(root: Path, spec: TrainSpec) -> None:
    """The folder of the checkpoints; a link, where they are another job's. Its own are kept beside it meanwhile."""
    folder, own = root / _CHECKPOINTS, root / f"{_CHECKPOINTS}.own"
    if folder.is_symlink():
        folder.unlink()
        if own.is_dir():
            own.rename(folder)
    if not spec.checkpoints:
        make_folder(folder)
        return
    if folder.is_dir():
        folder.rename(own)
    shared = root.parents[1] / spec.checkpoints / root.name / folder.name
    make_folder(shared)
    folder.symlink_to(os.path.relpath(shared, root), target_is_directory=True)


def steps_of(root: Path) -> str:
    """The job whose checkpoints this one has."""
    return (root / _CHECKPOINTS).resolve().parents[1].name


def environment(root: Path, spec: TrainSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the variables of this job in the place of any other job's, after `lay_out`."""
    own = {name: value for name, value in environ.items() if not name.startswith("SM_") and name not in _OTHERS}
    return {**own, **folders_of(root), "TRAINING_JOB_NAME": spec.job_name, "PYTHONUNBUFFERED": "1"}


def is_complete(root: Path) -> bool:
    """Whether model/ holds a whole artifact. Its record is written last; a damaged record does not count."""
    try:
        from_json(ArtifactRecord, (root / "model" / RECORD_FILE).read_bytes())
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
