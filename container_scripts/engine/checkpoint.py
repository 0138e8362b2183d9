"""Checkpoints on disk: written so that a damaged one is recognised, and read from the newest that is whole.

    checkpoints/
        checkpoint-120/            the state after 120 optimizer steps (train_state.py)
            adapter_config.json    PEFT's format: a checkpoint is an adapter that can be loaded
            adapter_model.safetensors
            optimizer.safetensors
            progress.json
            manifest.json          size and SHA-256 of each file; written last
            evaluation.json        what an evaluation has found since (train_state.py); not in the manifest
        checkpoint-180/
        checkpoint-60/             that of the best evaluation, with `keep: best`
        set-aside/checkpoint-240/  damaged: kept for a look, never read
        failures.json              how often a resume from a checkpoint failed

There is no pickle in it, so a checkpoint cannot run code. Every file is flushed to the disk (fsync) before the manifest
is written: a checkpoint with a manifest whose sizes and digests match was written completely and has not changed since.
SageMaker copies this folder to S3 and back, file by file and in any order, and puts marker files
(*.sagemaker-uploading, *.sagemaker-uploaded) beside the others. They are not in the manifest, so they do not matter.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.arguments import Arguments
from gpu import is_out_of_memory

_log = logging.getLogger(__name__)

FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "optimizer.safetensors",
    "progress.json",
)
"""What every checkpoint holds beside its manifest."""
_FORMAT = 1
_KEEP = 2  # newest checkpoints: if one is damaged there is another
_MOST_FAILURES = 2  # of resumes from the same checkpoint, before an older one is taken
MANIFEST = "manifest.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class Checkpoints:
    """The folder of one job's checkpoints.

    Args:
        folder: where they are; it is made if it does not exist.
        arguments: the job's. A checkpoint of other arguments is not resumed from.
        dataset_fingerprint: the dataset's. A checkpoint of another dataset is not resumed from.
    """

    def __init__(self, folder: Path, arguments: Arguments, dataset_fingerprint: str) -> None:
        self._folder = folder
        self._failures_file = folder / "failures.json"
        identity = json.dumps({"arguments": arguments.fingerprint(), "dataset": dataset_fingerprint})
        self._identity = hashlib.sha256(identity.encode()).hexdigest()
        self._newest = -1  # step of the newest checkpoint of this process, or of the one it resumed from

    def claim(self) -> Path | None:
        """The newest checkpoint that is whole and of this job, or None. What is newer and is not gets set aside."""
        self._folder.mkdir(parents=True, exist_ok=True)
        failures = self._failures()
        for checkpoint in reversed(self._found()):
            problem = _problem(checkpoint, self._identity)
            if not problem and failures.get(checkpoint.name, 0) >= _MOST_FAILURES:
                problem = f"a resume from it failed {failures[checkpoint.name]} times"
            if not problem:
                self._newest = step_of(checkpoint)
                return checkpoint
            self._set_aside(checkpoint, problem)
        return None

    def save(self, step: int, write: Callable[[Path], None], best: int = 0) -> None:
        """Write the checkpoint after `step` optimizer steps, then delete all but the two newest and the best.

        Args:
            step: nothing is written if the newest checkpoint is of this step already.
            write: writes FILES into the folder that it is given.
            best: the step of the best one.

        Raises:
            OSError: the disk is full.
        """
        if step == self._newest:
            return
        checkpoint = self._folder / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        write(checkpoint)
        _write_manifest(checkpoint, self._identity)
        self._newest = step
        for old in self._found()[:-_KEEP]:
            if step_of(old) == best:
                continue
            try:
                shutil.rmtree(old)
            except OSError as error:  # SageMaker may put a marker file into it at this moment
                _log.warning("cannot delete %s: %s", old, error)

    def of(self, step: int) -> Path | None:
        """The newest checkpoint of this process, if it is of this step. Processes that save none have none."""
        return self._folder / f"checkpoint-{step}" if step == self._newest else None

    def whole(self, step: int) -> Path | None:
        """The checkpoint of a step; None, and the reason is logged, if it is not whole."""
        checkpoint = self._folder / f"checkpoint-{step}"
        if problem := _problem(checkpoint, self._identity):
            _log.warning("%s cannot be used: %s", checkpoint.name, problem)
        return None if problem else checkpoint

    @contextmanager
    def counting_failures(self, resumed_from: Path | None) -> Iterator[None]:
        """Count an error in this block against `resumed_from`, unless a newer checkpoint was saved in the block.

        A full disk, or another process that holds the GPU's memory, says nothing about the checkpoint: not counted.
        """
        try:
            yield
        except Exception as error:
            says_nothing = isinstance(error, OSError) or is_out_of_memory(error)
            if not says_nothing and resumed_from and step_of(resumed_from) == self._newest:
                failures = self._failures()
                failures[resumed_from.name] = failures.get(resumed_from.name, 0) + 1
                self._failures_file.write_text(json.dumps(failures), encoding="utf-8")
            raise

    def _failures(self) -> dict[str, int]:
        try:
            found = json.loads(self._failures_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return (
            {name: count for name, count in found.items() if isinstance(count, int)} if isinstance(found, dict) else {}
        )

    def _found(self) -> list[Path]:
        """All checkpoint folders, oldest first, whole or not."""
        return sorted((p for p in self._folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)), key=step_of)

    def _set_aside(self, checkpoint: Path, problem: str) -> None:
        target = self._folder / "set-aside" / checkpoint.name
        _log.warning("not resuming from %s: %s; moved to %s", checkpoint.name, problem, target)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        checkpoint.rename(target)


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps after which a checkpoint was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def _write_manifest(checkpoint: Path, identity: str) -> None:
    files = {}
    for name in FILES:
        flush(checkpoint / name)
        files[name] = {"bytes": (checkpoint / name).stat().st_size, "sha256": digest(checkpoint / name)}
    manifest = checkpoint / MANIFEST
    content = {"format": _FORMAT, "job": identity, "step": step_of(checkpoint), "files": files}
    manifest.write_text(json.dumps(content, indent=2), encoding="utf-8")
    flush(manifest)
    flush(checkpoint)
    flush(checkpoint.parent)


def _problem(checkpoint: Path, identity: str) -> str:
    """Why a checkpoint cannot be resumed from; empty if it can."""
    try:
        manifest: Any = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            return f"its format is {manifest['format']}, not {_FORMAT}"
        if manifest["job"] != identity:
            return "it was made with another configuration or dataset"
        if manifest["step"] != step_of(checkpoint):
            return f"its {MANIFEST} is that of step {manifest['step']}"
        for name in FILES:
            recorded, file = manifest["files"][name], checkpoint / name
            if not file.is_file():
                return f"{name} is missing"
            if (size := file.stat().st_size) != recorded["bytes"]:
                return f"{name} has {size} bytes instead of {recorded['bytes']}"
            if digest(file) != recorded["sha256"]:
                return f"the content of {name} has changed"
    except FileNotFoundError:
        return f"it has no {MANIFEST}: it was not written to its end"
    except OSError as error:
        return f"{Path(error.filename).name} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"its {MANIFEST} is damaged"
    return ""


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
