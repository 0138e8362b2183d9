"""What a training is made of between two optimizer steps, and its way to and from the files of a checkpoint.

| part | file | resumed |
|---|---|---|
| A and B of every adapter, float32 | adapter_model.safetensors | exactly |
| AdamW's two moments and step count of each of them, float32 | optimizer.safetensors | exactly |
| steps done, losses, the fp16 loss scale | progress.json | exactly: JSON keeps every digit of a Python float |

An evaluation of the weights that a checkpoint holds adds evaluation.json: the progress after it. So where the steps
are done, a later start repeats no evaluation either. The checkpoint itself is not written again: a kill meanwhile
would cost its steps.

The learning rate, the order of the packs and dropout follow from the step (schedule.py); the frozen model is the base
model. So the state is the same for any number of processes: the first one reads it, and tells the others.
"""

import hashlib
import json
import math
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engine.arguments import Arguments
from engine.checkpoint import MANIFEST, digest

_EVALUATION = "evaluation.json"


@dataclass(slots=True)
class Progress:
    """How far a training is, in numbers."""

    step: int = 0
    """Completed optimizer steps."""
    tokens: int = 0
    """Tokens of all of them."""
    packs_at_once: int = 0
    """Packs per forward pass: what `auto` came to. Another number would change the last digits of every sum."""
    loss_sum: float = 0.0
    """Sum of the losses of all steps."""
    unlogged_loss: float = 0.0
    """Sum of the losses of the steps since the last `step` event."""
    unlogged_steps: int = 0
    evaluated_step: int = 0
    """The step of the last whole evaluation; 0 for none."""
    eval_loss: float | None = None
    """Its loss: the mean over the test split's labelled tokens."""
    score: float | None = None
    """Its score of generated summaries, if the job is evaluated by one."""
    evaluations: int = 0
    """How many there were."""
    best_step: int = 0
    """The step of the best evaluation: that of the highest score, or else of the lowest loss; 0 for none."""
    best_loss: float | None = None
    best_score: float | None = None
    worse_evaluations: int = 0
    """Evaluations since the best one."""

    def evaluated(self, loss: float, score: float | None) -> bool:
        """Count an evaluation of the weights as they are. Returns whether it is the best so far."""
        self.evaluated_step, self.eval_loss, self.score = self.step, loss, score
        self.evaluations += 1
        if score is not None and self.best_score is not None:
            better = score > self.best_score
        else:
            better = self.best_loss is None or math.isnan(self.best_loss) or loss < self.best_loss
        self.worse_evaluations += 1
        if better:
            self.best_step, self.best_loss, self.best_score, self.worse_evaluations = self.step, loss, score, 0
        return better

    def learns_no_more(self, patience: int) -> bool:
        """Whether as many evaluations as there is patience for were not better; 0 is without end."""
        return 0 < patience <= self.worse_evaluations


def read_progress(checkpoint: Path) -> Progress:
    """The progress of a checkpoint that is whole."""
    stored = _evaluation(checkpoint) or json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
    return Progress(**{field.name: stored[field.name] for field in fields(Progress) if field.name in stored})


def save_evaluation(checkpoint: Path, progress: Progress) -> None:
    """Keep the progress after an evaluation of a checkpoint's weights."""
    text = json.dumps(asdict(progress))
    half_made = checkpoint / f"{_EVALUATION}.part"
    half_made.write_text(json.dumps({"progress": text, "seal": _seal(checkpoint, text)}), encoding="utf-8")
    half_made.replace(checkpoint / _EVALUATION)


def _evaluation(checkpoint: Path) -> Any:
    """The progress after an evaluation; None if there was none, or its file is not whole or another checkpoint's."""
    try:
        kept = json.loads((checkpoint / _EVALUATION).read_text(encoding="utf-8"))
        return json.loads(kept["progress"]) if kept["seal"] == _seal(checkpoint, kept["progress"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _seal(checkpoint: Path, text: str) -> str:
    return hashlib.sha256(f"{digest(checkpoint / MANIFEST)} {text}".encode()).hexdigest()


def with_batch_of(checkpoint: Path | None, arguments: Arguments) -> Arguments:
    """`arguments`, in which `per_device_batch_size: auto` is what it came to when `checkpoint` was made."""
    if checkpoint is None or arguments.per_device_batch_size:
        return arguments
    size = read_progress(checkpoint).packs_at_once
    accumulation = arguments.gradient_accumulation_steps // size
    return replace(arguments, per_device_batch_size=size, gradient_accumulation_steps=accumulation)


def save_state(
    checkpoint: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
) -> None:
    """Write the state into the folder `checkpoint`. `model` is the PEFT model."""
    _save_adapter(checkpoint, model)
    names, state = _trained(model), optimizer.state_dict()["state"]
    moments = {f"{names[index]}.{part}": value for index, parts in state.items() for part, value in parts.items()}
    save_file(moments, checkpoint / "optimizer.safetensors")
    text = json.dumps({**asdict(progress), "loss_scale": scaler.state_dict()}, indent=2)
    (checkpoint / "progress.json").write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class State:
    """What a checkpoint holds."""

    adapter: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    """AdamW's, by `<parameter>.<part>`."""
    loss_scale: dict[str, Any]
    """Of torch's GradScaler; empty without one."""
    progress: Progress


def read_state(checkpoint: Path) -> State:
    """The state of a checkpoint that is whole."""
    return State(
        adapter=load_file(checkpoint / "adapter_model.safetensors"),
        moments=load_file(checkpoint / "optimizer.safetensors"),
        loss_scale=json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))["loss_scale"],
        progress=read_progress(checkpoint),
    )


def put_state(state: State, model: Any, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Give the state, except its progress, to what is trained."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, state.adapter)
    numbers = {name: index for index, name in enumerate(_trained(model))}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.moments.items():
        name, _, part = key.rpartition(".")
        moments.setdefault(numbers[name], {})[part] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    if state.loss_scale:
        scaler.load_state_dict(state.loss_scale)


def put_adapter(checkpoint: Path, model: Any) -> None:
    """Give the adapter of a checkpoint that is whole to `model`."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))


def _save_adapter(checkpoint: Path, model: Any) -> None:
    """In PEFT's format. PEFT's save_pretrained would render a README too, which takes longer than all the rest."""
    from peft import get_peft_model_state_dict

    (config,) = model.peft_config.values()
    config = copy(config)
    config.inference_mode = True
    config.save_pretrained(checkpoint)
    weights = {name: weight.contiguous() for name, weight in get_peft_model_state_dict(model).items()}
    save_file(weights, checkpoint / "adapter_model.safetensors")


def _trained(model: Any) -> list[str]:
    """The names of the trained parameters, in the order in which the optimizer numbers them."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
