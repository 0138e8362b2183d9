"""Checkpoints: which one to resume from, and when to write the next."""

import json
import logging
import shutil
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from engine.arguments import Arguments

_log = logging.getLogger(__name__)

STOPPED = 143  # exit status of a process that ended on SIGTERM, by the shell's convention


class Checkpoints:
    """The folder of a job's checkpoints. One without trainer_state.json, which is written last, is half made."""

    def __init__(self, folder: Path, arguments: Arguments, dataset_fingerprint: str) -> None:
        self._folder = folder
        self._made_by = folder / "made_by.json"
        self._identity = json.dumps({"arguments": arguments.fingerprint(), "dataset": dataset_fingerprint})

    def claim(self) -> Path | None:
        """The newest whole checkpoint of this very job, or None; leaves nothing else in the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        same = self._made_by.exists() and self._made_by.read_text(encoding="utf-8") == self._identity
        found = sorted(self._folder.glob("checkpoint-*"), key=step_of)
        whole = [path for path in found if same and _is_whole(path)]
        for path in set(found) - set(whole):
            _log.warning("leaving out %s: %s", path.name, "half made" if same else "made by another configuration")
            shutil.rmtree(path)
        self._made_by.write_text(self._identity, encoding="utf-8")
        return whole[-1] if whole else None


def step_of(checkpoint: Path) -> int:
    """The optimizer step a checkpoint was saved after."""
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


class StopSignal:
    """SIGTERM, which SageMaker sends 120 s before SIGKILL: at the next step's end while training, at once otherwise."""

    def __init__(self) -> None:
        self.received = False
        self.training = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        if not self.training:
            raise SystemExit(STOPPED)


class CheckpointCallback(TrainerCallback):  # type: ignore[misc]
    """Saves after every `minutes` of training, when asked to stop, and at the end, so that a merge can be retried."""

    def __init__(self, minutes: float, stop: StopSignal) -> None:
        self._seconds = minutes * 60
        self._stop = stop
        self._last = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        finished = state.global_step >= state.max_steps
        if self._stop.received or finished or time.monotonic() - self._last >= self._seconds:
            control.should_save = True
            self._last = time.monotonic()
        if self._stop.received:
            control.should_training_stop = True
