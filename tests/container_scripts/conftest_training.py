"""Trainings of a tiny model in this process, which SIGTERM can stop wherever a test wants."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from conftest_engine import in_table, random_model, random_packs
from engine.arguments import Arguments
from engine.base_memory import shareable
from engine.checkpoint import Checkpoints
from engine.distributed import ALONE, Group
from engine.fake_pass import recompute_layers, skeleton
from engine.fitting import Plan
from engine.host_weights import SharedBase
from engine.memory import Memory
from engine.model import add_adapter, load_base
from engine.packed_loss import PackedLoss
from engine.packs import Packs, longest_example
from engine.scorer import Scorer
from engine.setup import Setup
from engine.stopping import StopSignal
from engine.trainer import train_adapter
from shared.events import DoneEvent, EvalEvent, Event, StepEvent
from shared.lora_targets import resolve_targets

TRAIN = random_packs(1, [[9, 7], [12], [5, 5, 5], [16], [8, 4], [11, 3], [6]])
TEST = random_packs(2, [[9, 5], [7], [4, 4]])


@dataclass
class Events:
    """Stands for engine.metrics.Metrics, and sends SIGTERM to this process after an event that `stop_at` picks."""

    stop_at: Callable[[Event], bool] = lambda _event: False
    emitted: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.emitted.append(event)
        if self.stop_at(event):
            signal.raise_signal(signal.SIGTERM)

    def losses(self) -> dict[int, float | None]:
        return {event.step: event.loss for event in self.emitted if isinstance(event, StepEvent)}

    def evaluations(self) -> dict[int, float | None]:
        return {event.step: event.eval_loss for event in self.emitted if isinstance(event, EvalEvent)}


@dataclass
class Training:
    """One start of a job, in which everything is made again, as in a new process."""

    arguments: Arguments
    train: Any = field(default_factory=lambda: in_table(TRAIN))
    test: Any = field(default_factory=lambda: in_table(TEST))
    events: Events = field(default_factory=Events)
    dtype: torch.dtype = torch.float32
    resumed_from: Path | None = None
    make_scorer: Callable[[Arguments, PackedLoss], Scorer] | None = None
    group: Group = ALONE
    base: Path | None = None
    shared: bool = False
    """Whether the processes share `base`. One that is alone fetches its codes, as a GPU does."""
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    """Where `base` is loaded."""
    recomputed: int = 0
    """Layers that recompute their activations."""

    def run(self) -> DoneEvent:
        torch.manual_seed(self.arguments.seed)
        model = self._load_base() if self.base else random_model("llama")
        model.requires_grad_(False)
        recompute_layers(model, self.recomputed)
        self.model = add_adapter(model, self.arguments, resolve_targets(model, tuple(self.arguments.lora_targets)))
        checkpoints = Checkpoints(self.arguments.checkpoint_dir, self.arguments, "dataset")
        self.resumed_from = self.group.from_first(checkpoints.claim)
        plan = Plan(self.arguments, 0, 2, Memory(0, 0, 0, 0, 0), 0, [])
        loss = PackedLoss(self.model, longest_example(self.train, self.test), self.arguments)
        scorer = self.make_scorer(self.arguments, loss) if self.make_scorer else None
        return train_adapter(
            Setup(self.model, loss, self.train, self.test, plan, self.dtype, scorer, self.group),
            self.events,  # type: ignore[arg-type]
            StopSignal(),
            checkpoints,
            self.resumed_from,
        )

    def _load_base(self) -> Any:
        assert self.base
        shared = None
        if self.shared:
            weights = shareable(skeleton(self.base))
            shared = SharedBase(weights, self.device, self.group, fetches=self.group.size == 1)
        return load_base(self.base, self.arguments, self.dtype, self.device, shared)

    def adapter(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}


def small(folder: Path, **changes: Any) -> Arguments:
    """Arguments of a training that takes milliseconds."""
    given = {"checkpoint_dir": folder, "lora_r": 2, "learning_rate": 0.02, "epochs": 2.0, **changes}
    return Arguments(**given)


def stop_after(kind: type[StepEvent] | type[EvalEvent], step: int) -> Callable[[Event], bool]:
    """For Events.stop_at."""
    return lambda event: isinstance(event, kind) and event.step == step


class StoppingSplit(Packs):
    """A split that sends SIGTERM when `row` is read for the `time`-th time: inside an evaluation or a step."""

    def __init__(self, rows: list[dict[str, Any]], row: int, time: int = 1) -> None:
        super().__init__(pa.Table.from_pylist(rows))
        self._row, self._time = row, time

    def __getitem__(self, number: Any) -> Any:
        if number == self._row:
            self._time -= 1
            if self._time == 0:
                signal.raise_signal(signal.SIGTERM)
        return super().__getitem__(number)


def sigterm_as_before() -> Iterator[None]:
    """A fixture's body: what SIGTERM does in the test process is the same afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
