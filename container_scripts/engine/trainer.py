"""The training loop: AdamW on the adapter, one packed row per forward pass, and a state that can be resumed exactly.

One optimizer step, with N = tokens that have a label in all batches of the step:

    for each batch:   loss = sum of cross-entropy / N;   loss.backward()      gradients add up in float32
    add up the gradients of all processes, if there are several (distributed.py)
    clip the gradients to max_grad_norm;   AdamW with the step's learning rate

So the step's loss is the mean over its labelled tokens, however they are spread over batches and processes. The step's
losses are read back (the only wait for the device in a step) while the next batches are already made and on their way,
and before the weights change: a loss that is not finite never reaches the adapter.

Stopping. SIGTERM is looked at before every forward pass, of training and of evaluation. A step that was begun is
dropped by all processes, the first one saves the state after the last whole step, and they end. Resuming from it gives
the same weights, bit for bit on a CPU, as if it had never stopped: the order of packs, dropout and the learning rate
follow from the step (schedule.py), the rest is in the checkpoint (train_state.py), and evaluation draws no random
numbers. With another number of processes sums are added up in another order, which changes their last digits.

Time. Generating summaries for an evaluation (scorer.py) is counted by itself, and left out of tokens per second.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from engine.batches import Batch
from engine.checkpoint import Checkpoints
from engine.evaluation import evaluate
from engine.failure import PeerLostError, TrainingError, explain_lack_of_memory
from engine.gradients import Gradients
from engine.metrics import Metrics
from engine.packs import name_packs
from engine.schedule import plan_steps
from engine.setup import Setup
from engine.stopping import StopSignal
from engine.train_state import Progress, put_adapter, put_state, read_state, save_evaluation, save_state
from engine.work_split import StepBatches
from shared.events import DoneEvent, EvalEvent, StepEvent, WarningEvent


def train_adapter(
    setup: Setup, metrics: Metrics, stop: StopSignal, checkpoints: Checkpoints, resume_from: Path | None
) -> DoneEvent:
    """Train the adapter in place, evaluating after every epoch, or as often as the arguments say, and at the end.

    Of the figures that it returns, losses and tokens are of all steps, and the others of what was done since this
    start: `tokens_per_second` is 0 where no step was left. `seconds` are of training and test loss.

    Args:
        metrics: gets a `step` event after each logged step, and an `eval` event after each evaluation.
        stop: says when to end.
        checkpoints: where to save.
        resume_from: a whole checkpoint of `checkpoints`, or None. Only the first process reads it.

    Raises:
        SystemExit: SIGTERM came, to this process or another. The state after the last whole step is saved.
        PeerLostError: another process has ended, and the collective says so. The state after the last whole step is
            saved. A dead process of the same machine leaves NCCL waiting: then launch.py ends this one instead.
        TrainingError: the loss or its gradient is not finite, or the device ran out of memory.
        OSError: a checkpoint cannot be written.
    """
    counted = resume_from if setup.group.is_first else None
    with stop.deferred(), explain_lack_of_memory(setup.plan), checkpoints.counting_failures(counted):
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
        self._group, self._stopping = setup.group, False
        self._parameters = [parameter for parameter in setup.model.parameters() if parameter.requires_grad]
        device = self._parameters[0].device
        self._schedule = plan_steps(arguments, len(setup.train))
        self._batches = StepBatches(setup.train, self._schedule, arguments.loss_on, device, setup.group)
        self._gradients = Gradients(self._parameters, self._schedule.accumulation)
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=arguments.learning_rate, weight_decay=arguments.weight_decay, fused=True
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=setup.dtype is torch.float16)
        self._scaler.scale(torch.zeros((), device=device))  # a step may have no pass for this process
        self._progress = Progress(packs_at_once=arguments.per_device_batch_size)
        self._next: dict[int, Batch] | None = None  # this process's batches of the next step, once they are made
        self._tokens, self._first_step, self._generation_seconds = 0, 0, 0.0
        self._evaluations, self._evaluation_seconds = 0, 0.0
        self._started = self._saved_at = time.monotonic()
        self._group.copy_from_first([parameter.data for parameter in self._parameters])

    def resume(self, checkpoint: Path) -> None:
        """Take over the state of a whole checkpoint, which the first process reads."""
        state = self._group.from_first(lambda: read_state(checkpoint))
        put_state(state, self._setup.model, self._optimizer, self._scaler)
        self._progress = replace(state.progress, packs_at_once=self._progress.packs_at_once)
        self._first_step = self._progress.step

    def run(self) -> DoneEvent:
        """Do what is left to do: steps, evaluations, checkpoints."""
        self._setup.model.train()
        try:
            self._work()
        except PeerLostError:
            self._save()
            raise
        self._save()  # all that is done, also where it was stopped, or ended before its last step
        progress = self._progress
        is_best = self._takes_best() and self._put_best()
        eval_loss = progress.best_loss if is_best else progress.eval_loss
        score, seconds = progress.best_score if is_best else progress.score, self._seconds()
        return DoneEvent(
            train_loss=progress.loss_sum / progress.step if progress.step else None,
            eval_loss=math.nan if eval_loss is None else eval_loss,
            score=score,
            scored_by="" if score is None else self._arguments.evaluate,
            kept_step=progress.best_step if is_best else progress.step,
            kept_because=self._reason(is_best),
            tokens=progress.tokens,
            tokens_per_second=self._tokens / seconds,
            seconds=seconds,
            generation_seconds=self._generation_seconds,
            evaluation_seconds=self._evaluation_seconds,
            evaluations=self._evaluations,
        )

    def _work(self) -> None:
        """Train and evaluate until all is done, or any process was asked to stop. All processes do the same."""
        patience = self._arguments.early_stopping_patience
        while not self._stopping:
            if self._evaluation_is_due():
                self._evaluate()
            elif self._progress.step < self._schedule.steps and not self._progress.learns_no_more(patience):
                self._do_step()
            else:
                break

    def _do_step(self) -> None:
        """One optimizer step. On SIGTERM, or an error, all is as before it."""
        step, gradients = self._progress.step, self._gradients
        gradients.clear()
        self._do_passes(step)
        self._group.add_up(gradients.buffer)
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._arguments.max_grad_norm or math.inf)
        if step + 1 < self._schedule.steps and not self._stop.received:
            self._next = self._batches.own(step + 1)
        *losses, stopped, size = self._group.read(torch.cat([gradients.told, norm[None]]))
        if stopped:
            self._stop_all()
            return
        self._check(losses, size)
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.learning_rate(step)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._tokens += self._batches.tokens(step)
        self._progress.tokens += self._batches.tokens(step)
        self._finish_step(sum(losses))

    def _do_passes(self, step: int) -> None:
        """This process's forward and backward passes of a step; on SIGTERM some of them."""
        batches, self._next = self._batches.own(step) if self._next is None else self._next, None
        labelled = max(self._batches.labels(step), 1)
        for number, batch in batches.items():
            self._schedule.draw_for(step, number)
            for part in self._setup.packed_loss.passes(batch):
                if self._stop.received:
                    break
                loss = self._setup.packed_loss.loss(part) / labelled
                self._scaler.scale(loss).backward()
                self._gradients.tell(number, loss)
        if self._stop.received:
            self._gradients.tell_of_stop()

    def _finish_step(self, loss: float) -> None:
        """Count a step that is done, and say and save what is due."""
        progress = self._progress
        progress.step += 1
        progress.loss_sum += loss
        progress.unlogged_loss += loss
        progress.unlogged_steps += 1
        last = progress.step == self._schedule.steps
        if progress.step == 1 or last or progress.step % self._arguments.logging_steps == 0:
            self._say_step()
        # The last step is saved before its evaluation, so that a failed merge needs no training again.
        if last or time.monotonic() - self._saved_at >= self._arguments.checkpoint_minutes * 60:
            self._save()

    def _check(self, losses: Sequence[float], norm: float) -> None:
        """Refuse a step whose loss or gradient is not finite.

        In fp16 the scaler leaves a step with such a gradient out, and halves its scale. That is normal down to 1.
        """
        finite = [math.isfinite(loss) for loss in losses]
        if all(finite) and (math.isfinite(norm) or self._scaler.get_scale() > 1):  # it is 1 without fp16
            return
        step = self._progress.step
        passes = self._schedule.batches(step)
        bad = [numbers for numbers, fine in zip(passes, finite, strict=False) if not fine]
        packs = sorted(number for numbers in bad or passes for number in numbers)
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
        is_at_an_end = step % every == 0 or step == self._schedule.steps
        return step > 0 and is_at_an_end and self._progress.evaluated_step != step

    def _evaluate(self) -> None:
        """Evaluate the weights as they are. It draws no random numbers, and on SIGTERM it is given up."""
        setup, progress, by = self._setup, self._progress, self._arguments.evaluate if self._setup.scorer else ""
        found = evaluate(setup, self._schedule.batch_size, lambda: self._stop.received, self._metrics.emit)
        if found is None:
            self._stop_all()
            return
        self._generation_seconds += found.generation_seconds
        self._evaluation_seconds += found.loss_seconds
        self._evaluations += 1
        self._metrics.emit(EvalEvent(progress.step, found.loss, found.score, by, found.generation_seconds))
        if progress.evaluated(found.loss, found.score) and self._arguments.keep == "best":
            self._save()
        if checkpoint := self._checkpoints.of(progress.step):
            save_evaluation(checkpoint, progress)

    def _stop_all(self) -> None:
        """Any process was asked to stop, so this one is too."""
        self._stopping = self._stop.received = True

    def _reason(self, is_best: bool) -> str:
        """Why the artifact gets these weights."""
        progress, by = self._progress, self._arguments.evaluate
        if is_best or (self._arguments.keep == "best" and progress.best_step == progress.step):
            what = "lowest test loss" if by == "loss" else f"highest {by}"
            return f"{what} of {progress.evaluations} evaluation{'s' if progress.evaluations > 1 else ''}"
        return "last step"

    def _seconds(self) -> float:
        """Seconds of training and test loss since this start."""
        return time.monotonic() - self._started - self._generation_seconds

    def _takes_best(self) -> bool:
        """Whether the artifact gets other weights than the last ones."""
        progress = self._progress
        return self._arguments.keep == "best" and not self._stop.received and progress.best_step != progress.step

    def _put_best(self) -> bool:
        """Give the model the adapter of the best evaluation; False if its checkpoint is not whole."""
        checkpoint = self._checkpoints.whole(self._progress.best_step) if self._group.is_first else None
        if checkpoint:
            put_adapter(checkpoint, self._setup.model)
        elif self._group.is_first:
            lost = f"the weights of the best evaluation, at step {self._progress.best_step}, are gone or damaged"
            self._metrics.emit(WarningEvent(f"{lost}: those of the last step are kept"))
        return checkpoint is not None

    def _say_step(self) -> None:
        progress, steps, seconds = self._progress, self._schedule.steps, self._seconds()
        left = (steps - progress.step) / (progress.step - self._first_step)
        said = StepEvent(
            step=progress.step,
            steps=steps,
            epoch=progress.step / self._schedule.steps_per_epoch,
            loss=progress.unlogged_loss / progress.unlogged_steps,
            learning_rate=self._schedule.learning_rate(progress.step - 1),
            tokens_per_second=self._tokens / seconds,
            eta_seconds=left * (seconds + self._generation_seconds),
        )
        self._metrics.emit(said)
        progress.unlogged_loss, progress.unlogged_steps = 0.0, 0

    def _save(self) -> None:
        """Save the state after the last whole step, if there was one."""
        self._saved_at = time.monotonic()
        if self._progress.step and self._group.is_first:
            state = self._setup.model, self._optimizer, self._scaler, self._progress
            best = self._progress.best_step if self._arguments.keep == "best" else 0
            self._checkpoints.save(self._progress.step, lambda folder: save_state(folder, *state), best)
