"""The training loop: AdamW on the adapter, one packed row per forward pass, and a state that can be resumed exactly.

One optimizer step, with N = tokens that have a label in all batches of the step:

    for each batch:   loss = sum of cross-entropy / N;   loss.backward()      gradients add up in float32
    clip the gradients to max_grad_norm;   AdamW with the step's learning rate

So the step's loss is the mean over its labelled tokens, however they are spread over batches. The step's losses are
read back (the only wait for the device in a step) while the next batches are already made and on their way, and before
the weights change: a loss that is not finite never reaches the adapter.

Stopping. SIGTERM is looked at before every forward pass, of training and of evaluation. A step that was begun is
dropped, the state after the last whole step is saved, and the process ends. Resuming from it gives the same weights,
bit for bit on a CPU, as if it had never stopped: the order of packs and the learning rate follow from the step
(schedule.py), all else is in the checkpoint (train_state.py), and evaluation draws no random numbers.

Time. Generating summaries for an evaluation (scorer.py) is no training: it is counted by itself, and left out of tokens
per second.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from contract import EvalEvent, StepEvent
from engine.batches import Batch, collate, name_packs, on_device
from engine.best_adapter import BestAdapter
from engine.checkpoint import Checkpoints
from engine.failure import TrainingError
from engine.memory import Plan
from engine.metrics import Metrics
from engine.packed_loss import PackedLoss
from engine.schedule import plan_steps
from engine.scorer import Scorer
from engine.stopping import StopSignal
from engine.train_state import Progress, generator_states, load_state, read_progress, save_state

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class Setup:
    """What is trained, on what, and how."""

    model: Any
    """The PEFT model, on its device."""
    packed_loss: PackedLoss
    """The loss of its batches."""
    train: "Dataset"
    """Packs to learn from (rows of the dataset)."""
    test: "Dataset"
    """Packs to evaluate on."""
    plan: Plan
    """The arguments, and what their training needs of the device's memory."""
    dtype: torch.dtype
    """The compute dtype, in which the model is already. fp16 needs its loss scaled."""
    scorer: Scorer | None = None
    """Scores the model's own summaries in each evaluation; None where the test loss is all that is asked for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training came to, besides the adapter in the model."""

    train_loss: float | None
    """Mean of the losses of all steps, those before a resume included; None if there was no step."""
    eval_loss: float
    """Mean over the test split's labelled tokens, with the weights that are kept."""
    score: float | None
    """The scorer's, with the weights that are kept."""
    kept_step: int
    """The step whose weights are in the model."""
    kept_because: str
    """Why it is this step."""
    tokens: int
    """Tokens trained on since this start."""
    seconds: float
    """Of training and test loss since this start."""
    generation_seconds: float
    """Of generating and scoring summaries since this start."""


def train_adapter(
    setup: Setup, metrics: Metrics, stop: StopSignal, checkpoints: Checkpoints, resume_from: Path | None
) -> Outcome:
    """Train the adapter in place, evaluating after every epoch, or as often as the arguments say, and at the end.

    Args:
        setup: what is trained, on what, and how.
        metrics: gets a `step` event after each logged step, and an `eval` event after each evaluation.
        stop: says when to end.
        checkpoints: where to save.
        resume_from: a whole checkpoint of `checkpoints`, or None.

    Raises:
        SystemExit: SIGTERM came. The state after the last whole step is saved.
        TrainingError: the loss or its gradient is not finite, or the device ran out of memory.
        OSError: a checkpoint cannot be written.
    """
    with stop.deferred(), _explained(setup.plan), checkpoints.counting_failures(resume_from):
        training = _Training(setup, metrics, stop, checkpoints)
        if resume_from:
            training.resume(resume_from)
        return training.run()


class _Training:
    """The state of one training, and the steps that change it. Parameters are train_adapter's."""

    def __init__(self, setup: Setup, metrics: Metrics, stop: StopSignal, checkpoints: Checkpoints) -> None:
        arguments = setup.plan.arguments
        self._setup, self._arguments = setup, arguments
        self._metrics, self._stop, self._checkpoints = metrics, stop, checkpoints
        self._parameters = [parameter for parameter in setup.model.parameters() if parameter.requires_grad]
        self._device = self._parameters[0].device
        self._schedule = plan_steps(arguments, len(setup.train))
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=arguments.learning_rate, weight_decay=arguments.weight_decay, fused=True
        )
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=setup.dtype is torch.float16)
        self._progress = Progress(packs_at_once=arguments.per_device_batch_size)
        self._best = BestAdapter(arguments.checkpoint_dir)
        self._generators = generator_states()  # as they are after the last whole step
        self._next: list[Batch] | None = None  # the batches of the next step, once they are made
        self._tokens, self._first_step, self._generation_seconds = 0, 0, 0.0
        self._started = self._saved_at = time.monotonic()

    def resume(self, checkpoint: Path) -> None:
        """Take over the state of a whole checkpoint."""
        load_state(checkpoint, self._setup.model, self._optimizer, self._scaler)
        packs_at_once = self._progress.packs_at_once
        self._progress = read_progress(checkpoint)
        self._progress.packs_at_once = packs_at_once
        self._generators = generator_states()
        self._first_step = self._progress.step

    def run(self) -> Outcome:
        """Do what is left to do: steps, evaluations, checkpoints."""
        self._setup.model.train()
        while not self._stop.received:
            if self._evaluation_is_due():
                self._evaluate()
            elif self._progress.step < self._schedule.steps and not self._learns_no_more():
                self._do_step()
            else:
                break
        if self._stop.received:
            self._save()
        progress = self._progress
        is_best = self._takes_best() and self._best.restore(self._setup.model, progress.best_step)
        eval_loss = progress.best_loss if is_best else progress.eval_loss
        return Outcome(
            train_loss=progress.loss_sum / progress.step if progress.step else None,
            eval_loss=math.nan if eval_loss is None else eval_loss,
            score=progress.best_score if is_best else progress.score,
            kept_step=progress.best_step if is_best else progress.step,
            kept_because=self._reason(is_best),
            tokens=self._tokens,
            seconds=self._seconds(),
            generation_seconds=self._generation_seconds,
        )

    def _do_step(self) -> None:
        """One optimizer step. On SIGTERM, or an error, all is as before it."""
        step = self._progress.step
        batches, self._next = self._next or self._batches(step), None
        labelled = max(sum(len(batch["rows"]) for batch in batches), 1)
        losses = []
        for batch in batches:
            if self._stop.received:
                self._optimizer.zero_grad()
                return
            loss = self._setup.packed_loss(batch)[0] / labelled
            self._scaler.scale(loss).backward()
            losses.append(loss.detach())
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._arguments.max_grad_norm or math.inf)
        if step + 1 < self._schedule.steps:
            self._next = self._batches(step + 1)
        *values, size = torch.stack([*losses, norm]).tolist()  # waits for the device
        self._check(values, size)
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.learning_rate(step)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        self._tokens += sum(batch["input_ids"].shape[1] for batch in batches)
        self._finish_step(sum(values))

    def _finish_step(self, loss: float) -> None:
        """Count a step that is done, and say and save what is due."""
        progress = self._progress
        progress.step += 1
        progress.loss_sum += loss
        progress.unlogged_loss += loss
        progress.unlogged_steps += 1
        self._generators = generator_states()
        last = progress.step == self._schedule.steps
        if progress.step == 1 or last or progress.step % self._arguments.logging_steps == 0:
            self._say_step()
        # The last step is saved before its evaluation, so that a failed merge needs no training again.
        if last or time.monotonic() - self._saved_at >= self._arguments.checkpoint_minutes * 60:
            self._save()

    def _check(self, losses: Sequence[float], norm: float) -> None:
        """Refuse a step whose loss or gradient is not finite.

        In fp16 a gradient that is not finite is normal now and then: the scaler leaves the step out.
        """
        finite = [math.isfinite(loss) for loss in losses]
        if all(finite) and (math.isfinite(norm) or self._scaler.is_enabled()):
            return
        step = self._progress.step
        bad = [numbers for numbers, fine in zip(self._schedule.batches(step), finite, strict=True) if not fine]
        packs = sorted(number for numbers in bad or self._schedule.batches(step) for number in numbers)
        hint = "lower training.learning_rate, or set training.compute_dtype: float32"
        if step:
            self._save()
            hint += f"; the adapter as it was before is in checkpoint-{step}"
        raise TrainingError(
            f"the {'gradient' if all(finite) else 'loss'} is not a finite number at step {step + 1}, "
            f"in {name_packs(self._setup.train, packs)} of the train split",
            hint,
        )

    def _evaluation_is_due(self) -> bool:
        step, every = self._progress.step, self._arguments.evaluate_every or self._schedule.steps_per_epoch
        return (
            step > 0 and (step % every == 0 or step == self._schedule.steps) and self._progress.evaluated_step != step
        )

    def _evaluate(self) -> None:
        """Evaluate the weights as they are. It draws no random numbers, and on SIGTERM it is given up."""
        loss = self._setup.packed_loss.mean_over(self._test_batches(), lambda: self._stop.received)
        if loss is None:
            return
        score, by, began = None, "", time.monotonic()
        if self._setup.scorer is not None:
            by = self._arguments.evaluate
            if (score := self._setup.scorer.score(lambda: self._stop.received)) is None:
                return
            self._generation_seconds += time.monotonic() - began
        self._metrics.emit(EvalEvent(self._progress.step, loss, score, by, time.monotonic() - began if by else 0.0))
        if self._progress.evaluated(loss, score) and self._arguments.keep == "best":
            self._best.keep(self._setup.model, self._progress.step)

    def _reason(self, is_best: bool) -> str:
        """Why the artifact gets these weights."""
        progress, by = self._progress, self._arguments.evaluate
        if is_best or (self._arguments.keep == "best" and progress.best_step == progress.step):
            what = "lowest test loss" if by == "loss" else f"highest {by}"
            return f"{what} of {progress.evaluations} evaluations"
        return "last step"

    def _seconds(self) -> float:
        """Seconds of training and test loss since this start."""
        return time.monotonic() - self._started - self._generation_seconds

    def _learns_no_more(self) -> bool:
        """Whether no evaluation has been better for as long as the arguments have patience."""
        patience = self._arguments.early_stopping_patience
        return 0 < patience <= self._progress.worse_evaluations

    def _takes_best(self) -> bool:
        """Whether the artifact gets other weights than the last ones."""
        progress = self._progress
        return self._arguments.keep == "best" and not self._stop.received and progress.best_step != progress.step

    def _batches(self, step: int) -> list[Batch]:
        return [self._collate(self._setup.train, numbers) for numbers in self._schedule.batches(step)]

    def _collate(self, packs: "Dataset", numbers: Sequence[int]) -> Batch:
        """Some packs as one batch on the device."""
        return on_device(collate([packs[number] for number in numbers], self._arguments.loss_on), self._device)

    def _test_batches(self) -> Iterator[Batch]:
        count, size = len(self._setup.test), self._schedule.batch_size
        for start in range(0, count, size):
            yield self._collate(self._setup.test, range(start, min(start + size, count)))

    def _say_step(self) -> None:
        progress, steps = self._progress, self._schedule.steps
        seconds = self._seconds()
        self._metrics.emit(
            StepEvent(
                step=progress.step,
                steps=steps,
                epoch=progress.step / self._schedule.steps_per_epoch,
                loss=progress.unlogged_loss / progress.unlogged_steps,
                learning_rate=self._schedule.learning_rate(progress.step - 1),
                tokens_per_second=self._tokens / seconds,
                eta_seconds=(steps - progress.step)
                * (seconds + self._generation_seconds)
                / (progress.step - self._first_step),
            )
        )
        progress.unlogged_loss, progress.unlogged_steps = 0.0, 0

    def _save(self) -> None:
        """Save the state after the last whole step, if there was one."""
        self._saved_at = time.monotonic()
        if self._progress.step:
            self._checkpoints.save(
                self._progress.step,
                lambda folder: save_state(
                    folder, self._setup.model, self._optimizer, self._scaler, self._progress, self._generators
                ),
            )


@contextmanager
def _explained(plan: Plan) -> Iterator[None]:
    """Say what would help if the device runs out of memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of GPU memory: {str(error).splitlines()[0]} The estimate was {plan.memory}, "
            f"with {plan.free / 2**30:.2f} GiB free before loading",
            "lower data.max_length or training.per_device_batch_size, or set training.gradient_checkpointing: true",
        ) from error
