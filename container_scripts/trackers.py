"""Sends a training's figures to the trackers that the config names, through the callbacks of transformers.

The callbacks are those of transformers' Trainer, so figures have the names that people know: `train/loss`, `eval/loss`,
`train/learning_rate`. They are given what Trainer would give them, a TrainerState and the settings of the run.

A paid job neither ends nor waits because of a tracker. Each has a thread of its own, which takes events from a queue.
What fails is said once, in a `warning` event, and gets no more events.
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from engine.metrics import Metrics
from shared.events import DoneEvent, EvalEvent, Event, StartEvent, StepEvent, WarningEvent
from shared.names import TENSORBOARD_FOLDER

_LAST_WORDS = 60.0  # seconds that a tracker may take at the end to send what it has
_PACKAGES = {"mlflow": "mlflow-skinny"}  # what to install, where it is not called like the tracker


class Trackers(AbstractContextManager["Trackers"]):
    """All trackers of a job. It reads what `metrics` writes, from its making to the end of the `with` block.

    Args:
        names: such as `("tensorboard", "wandb")`.
        run: what the trackers call the training.
        folder: gets the files of those that write files.
        settings: the job's hyperparameters, which trackers show beside the figures.
    """

    def __init__(
        self, names: Sequence[str], run: str, folder: Path, settings: Mapping[str, Any], metrics: Metrics
    ) -> None:
        self._metrics = metrics
        if names:
            _keep_files_in(folder)
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # for DO_NOT_TRACK it takes no 1
            _import_before_threads()
            metrics.listen(self._note)
        self._trackers = [_Tracker(name, run, folder, settings) for name in names]

    def _note(self, event: Event) -> None:
        for tracker in self._trackers:
            tracker.events.put(event)
        self._say_what_failed()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._trackers:
            tracker.events.put(None)
        for tracker in self._trackers:
            tracker.thread.join(_LAST_WORDS)
            if tracker.thread.is_alive():
                tracker.problem = f"it has not sent everything after {_LAST_WORDS:.0f} s"
        self._say_what_failed()

    def _say_what_failed(self) -> None:
        """In the thread of the training, which alone writes events."""
        failed = [tracker for tracker in self._trackers if tracker.problem]
        self._trackers = [tracker for tracker in self._trackers if not tracker.problem]
        for tracker in failed:
            self._metrics.emit(WarningEvent(f"{tracker.name} is left out, the training continues: {tracker.problem}"))


class _Tracker:
    """One tracker and its thread."""

    def __init__(self, name: str, run: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self.name, self.problem = name, ""
        self.events: SimpleQueue[Event | None] = SimpleQueue()
        self._told = (run, folder, settings)
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        """Hand on events until there are no more. An error ends this tracker, and nothing else."""
        try:
            callback, settings = _callback(self.name), _settings(*self._told)
            while (event := self.events.get()) is not None:
                _hand_on(callback, settings, event)
            _call(callback, "on_train_end", settings, 0, 0.0, 0)
        except ModuleNotFoundError as error:
            package = _PACKAGES.get(self.name, self.name)
            self.problem = f"{error.name or package} is not installed (pip install {package})"
        except (Exception, SystemExit) as error:  # whatever a tracker raises
            self.problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _keep_files_in(folder: Path) -> None:
    """Let files go to the job's folder, unless the environment says where. Trackers would write beside our scripts."""
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / TENSORBOARD_FOLDER))
    os.environ.setdefault("WANDB_DIR", str(folder))
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ["MLFLOW_TRACKING_URI"] = (folder / "mlruns").as_uri()
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")


def _import_before_threads() -> None:
    """Import what the callbacks take of transformers. Its modules import each other when a name is first asked for,
    which fails where two threads do so at once: the training asks for others at the same time."""
    from transformers import TrainerControl, TrainerState, TrainingArguments  # noqa: F401


def _callback(name: str) -> Any:
    """The callback of transformers for a tracker.

    Raises:
        ModuleNotFoundError: the tracker is not installed.
    """
    __import__(name)
    from transformers.integrations import INTEGRATION_TO_CALLBACK

    return INTEGRATION_TO_CALLBACK[name]()


def _settings(run: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    """What a callback may ask of TrainingArguments: the job's own settings, and else the defaults of Trainer.

    No TrainingArguments is made, because making one sets up devices.
    """
    from transformers import TrainingArguments

    class Settings(TrainingArguments):  # type: ignore[misc]
        def __init__(self) -> None:
            self.run_name, self.output_dir = run, str(folder)

        def to_dict(self) -> dict[str, Any]:
            return dict(settings)

        def to_json_string(self) -> str:
            return json.dumps(dict(settings), indent=2)

    return Settings()


def _hand_on(callback: Any, settings: Any, event: Event) -> None:
    """Tell a callback of an event, as Trainer would."""
    match event:
        case StartEvent(steps=steps, resumed_from_step=step):
            _call(callback, "on_train_begin", settings, step, 0.0, steps)
        case StepEvent(step=step, steps=steps, epoch=epoch):
            logs = _logs(loss=event.loss, learning_rate=event.learning_rate, epoch=epoch)
            logs |= _logs(tokens_per_second=event.tokens_per_second)
            _call(callback, "on_log", settings, step, epoch, steps, logs=logs)
        case EvalEvent(step=step, scored_by=by):
            logs = _logs(eval_loss=event.eval_loss, **{f"eval_{by}": event.score})
            _call(callback, "on_log", settings, step, 0.0, 0, logs=logs)
        case DoneEvent(kept_step=step):
            logs = _logs(train_loss=event.train_loss, train_runtime=event.seconds)
            _call(callback, "on_log", settings, step, 0.0, 0, logs=logs)


def _logs(**figures: float | None) -> dict[str, float]:
    """Figures under the names that Trainer gives them, without those that are no number."""
    return {name: figure for name, figure in figures.items() if figure is not None}


def _call(
    callback: Any, method: str, settings: Any, step: int, epoch: float, steps: int, **more: Mapping[str, float]
) -> None:
    """Call a method of a callback after `step` of `steps` steps."""
    from transformers import TrainerControl, TrainerState

    state = TrainerState(global_step=step, epoch=epoch, max_steps=steps)
    getattr(callback, method)(settings, state, TrainerControl(), model=None, **more)
