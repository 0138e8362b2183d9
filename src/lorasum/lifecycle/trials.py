"""The trials of a sweep: their values, their configs, and which of them fall behind. Pure functions.

Values are drawn by a sequence that fills the space evenly and does not depend on results (Roberts 2018, "The
unreasonable effectiveness of quasirandom sequences"). So a sweep that was killed, or is asked for more trials, draws
the same ones again, and what they trained is not paid for twice.
"""

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lorasum.backends.base import Backend
from lorasum.config.key_paths import put
from lorasum.config.schema import Config
from lorasum.config.sweep import Range, SweepConfig, Value
from lorasum.errors import ConfigError
from lorasum.ledger.ledger import Ledger
from lorasum.shared.events import DoneEvent, EvalEvent, Event, StepEvent
from lorasum.system.paths import doc

_DRAWS = 100
"""Draws for each trial, before it is believed that there are no more that differ."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A set of values, and the config of the run that tries it."""

    values: Mapping[str, Value]
    config: Config

    @property
    def run(self) -> str:
        """The name of its run."""
        return self.config.name


def trials(config: Config) -> list[Trial]:
    """The trials of a config, each once, always the same ones in the same order.

    Raises:
        ConfigError: the config has no sweep, or a trial's config would be wrong.
    """
    if config.sweep is None:
        raise ConfigError(
            "the config has no section sweep",
            f"add it, such as `sweep: {{keys: {{lora.r: [8, 32]}}}}`; {doc('configuration')} has its keys",
        )
    return [Trial(values, _with(config, values)) for values in _drawn(config.sweep)]


def trial_runs(ledger: Ledger, run: str, backend: Backend | None = None) -> list[str]:
    """The trials of a run's sweep, whatever its config says today: those on record, and those that a backend has.

    Raises:
        BackendError: it cannot be asked.
    """
    names = {row.run for row in ledger.resources()} | set(backend.runs(f"{run}-t") if backend else ())
    return sorted(name for name in names if re.fullmatch(rf"{re.escape(run)}-t[0-9a-f]{{6}}", name))


def falls_behind(mine: Sequence[float], others: Collection[Sequence[float]], keep_one_in: int, seen: int = 0) -> bool:
    """Whether a trial is to be stopped: at one of its evaluations 1, k, k², ... it is not among the best one in k.

    Args:
        mine: what its evaluations found, in order; less is better.
        others: the same of all other trials, ended ones too.
        keep_one_in: k; 1 stops none.
        seen: how many of its evaluations were judged before. They are not judged again when others catch up.
    """
    rung = 1
    while keep_one_in > 1 and rung <= len(mine):
        if rung > seen:
            reached = sorted(one[rung - 1] for one in (mine, *others) if len(one) >= rung)
            if mine[rung - 1] > reached[math.ceil(len(reached) / keep_one_in) - 1]:
                return True
        rung *= keep_one_in
    return False


def found_by(events: Iterable[Event], metric: str) -> tuple[list[float], float | None]:
    """What a trial's evaluations before the last step found, in order, less being better; and the value of its model.

    Args:
        metric: `training.evaluate`: loss, or a ROUGE score.
    """
    by_step: dict[int, EvalEvent] = {}
    last, done = 0, None
    for event in events:
        if isinstance(event, StepEvent):
            last = event.steps
        elif isinstance(event, EvalEvent):
            by_step[event.step] = event  # a resumed job evaluates again
        elif isinstance(event, DoneEvent):
            done = event
    found = [(step, _value(event, metric)) for step, event in sorted(by_step.items())]
    values = [math.inf if value is None else less(value, metric) for step, value in found if step < last]
    return values, _value(done, metric) if done else found[-1][1] if found else None


def less(value: float, metric: str) -> float:
    """A value of which less is better: the value itself, or its negative for a score. Twice it is the value again."""
    return value if metric == "loss" else -value


def _value(event: EvalEvent | DoneEvent, metric: str) -> float | None:
    return event.eval_loss if metric == "loss" else event.score


def _drawn(sweep: SweepConfig) -> list[dict[str, Value]]:
    lists = [values for values in sweep.keys.values() if isinstance(values, list)]
    if len(lists) == len(sweep.keys) and math.prod(len(values) for values in lists) <= sweep.trials:
        return [dict(zip(sweep.keys, values, strict=True)) for values in itertools.product(*lists)]
    found: dict[str, dict[str, Value]] = {}
    for point in itertools.islice(_points(len(sweep.keys), sweep.seed), sweep.trials * _DRAWS):
        values = {key: _at(of, share) for (key, of), share in zip(sweep.keys.items(), point, strict=True)}
        found.setdefault(json.dumps(values), values)
        if len(found) == sweep.trials:
            break
    return list(found.values())


def _points(dimensions: int, seed: int) -> Iterator[list[float]]:
    """Points of the unit cube: each next one falls where there is most room."""
    ratio = 2.0
    for _ in range(60):  # the root of x ** (dimensions + 1) = x + 1, of which the golden ratio is the first
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    start = random.Random(seed)  # noqa: S311  nothing secret is drawn
    offsets = [start.random() for _ in range(dimensions)]
    for number in itertools.count():
        yield [(offset + number * ratio ** -(at + 1)) % 1 for at, offset in enumerate(offsets)]


def _at(values: list[Value] | Range, share: float) -> Value:
    """The value at a share, 0 to below 1, of a list or a range."""
    if isinstance(values, list):
        return values[int(share * len(values))]
    low, high = values.low, values.high
    whole = isinstance(low, int) and isinstance(high, int)
    top = high + 1 if whole else high
    drawn = low * (top / low) ** share if values.log else low + (top - low) * share
    return min(int(drawn), int(high)) if whole else float(f"{drawn:.4g}")


def _with(config: Config, values: Mapping[str, Value]) -> Config:
    """The config of the run that tries these values."""
    data: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True)
    data.pop("sweep", None)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    data["name"] = f"{config.name}-t{digest[:6]}"
    for key, value in values.items():
        put(data, tuple(key.split(".")), value)
    try:
        return Config.model_validate_json(json.dumps(data), strict=True)
    except (ValidationError, AttributeError) as error:
        said = "; ".join(f"{key}={value}" for key, value in values.items())
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "a key names no section"
        raise ConfigError(f"sweep.keys gives {said}, which no run can have: {why}", "correct sweep.keys") from error
