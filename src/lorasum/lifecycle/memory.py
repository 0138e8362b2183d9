"""What a training needs of memory, before anything is started: the job's own estimate, made on this machine."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from lorasum import paths
from lorasum.backends.records import Check, TrainSpec
from lorasum.config.instances import CARDS, card_of
from lorasum.config.schema import Config
from lorasum.contract import CARDS as CARDS_VARIABLE
from lorasum.contract import PROCESSES, SM_CHANNEL_MODEL, SM_CHANNEL_TRAINING, MemoryPlan

_SECONDS = 300  # a model of 70 billion parameters takes one minute


def memory_of(config: Config, spec: TrainSpec) -> MemoryPlan | None:
    """The memory of a training on a prepared dataset; None where that needs torch, which is not installed.

    On SageMaker it is that of the instance's GPU, or of the smallest one into which the training fits.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    return planned_memory(spec, [gib << 30 for gib, _ in _cards(config)])


def planned_memory(spec: TrainSpec, cards: Sequence[int]) -> MemoryPlan | None:
    """What container_scripts/memory_plan.py tells; None if it fails, as the job itself would then say why.

    Args:
        cards: free bytes of the GPUs to plan for, the one that is meant first; none: this machine.
    """
    flags = [text for name, value in spec.hyperparameters.items() for text in (f"--{name}", value)]
    variables = {
        SM_CHANNEL_TRAINING: str(spec.dataset),
        **({SM_CHANNEL_MODEL: str(spec.model.path)} if spec.model.path else {}),
        CARDS_VARIABLE: json.dumps(list(cards)),
        PROCESSES: str(spec.processes),
    }
    command = [sys.executable, str(paths.container_scripts() / "memory_plan.py"), *flags]
    try:
        told = subprocess.run(  # noqa: S603
            command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return MemoryPlan(**json.loads(told.stdout.splitlines()[-1])) if told.returncode == 0 else None


def fit(config: Config, plan: MemoryPlan) -> Check:
    """Whether the training fits, and what it would fit into."""
    cards, message, _, hint = _cards(config), *plan.refusal.partition("\n")
    if not plan.refusal:
        where = f" of {config.sagemaker.training_instance_type}" if cards else ""
        return Check("memory", True, f"it fits into the {plan.memory_free_bytes / 2**30:.1f} GiB{where}")
    nearest = f"; or train on an {cards[plan.card][1]}, into which it fits" if plan.card > 0 else ""
    return Check("memory", False, message, f"{hint}{nearest}")


def _cards(config: Config) -> list[tuple[int, str]]:
    """GiB that are free on the GPU of the instance type and on larger ones, with the types; none on this machine."""
    if config.backend != "sagemaker":
        return []
    name = config.sagemaker.training_instance_type
    own = card_of(name)
    return [(own, name), *((gib, other) for other, gib in CARDS.items() if gib > own)] if own else []
