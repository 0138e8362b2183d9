"""transformers' Trainer over packs: our loss, our evaluation, our events."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from contract import EXAMPLE_LENGTHS, EvalEvent, StepEvent
from engine.arguments import Arguments
from engine.attention import attend_within_examples
from engine.batches import IGNORED, Batch, collate, longest_example
from engine.checkpoint import CheckpointCallback, StopSignal, step_of
from engine.failure import TrainingError
from engine.loss import head_loss, is_plain_head
from engine.memory import Plan
from engine.metrics import Metrics

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training left behind besides the adapter in the model; tokens of this start only when it resumed."""

    train_loss: float | None
    """Mean of the logged losses; None when nothing was left to train."""
    eval_loss: float
    """Mean over the test split's labelled tokens; not a number when stopped early."""
    tokens: int
    seconds: float
    stopped: bool
    """True when SIGTERM ended it early; a checkpoint was saved."""


class PackedLoss:
    """Next-token loss of a batch of whole examples: body, then the head on labelled tokens only.

    Args:
        model: the PEFT model.
        longest: tokens of the longest example of either split.
        arguments: which parts of the engine to use.

    Raises:
        TrainingError: the model's own attention would let examples of a pack see each other, or the kernel that was
            asked for does not train on this device.
    """

    def __init__(self, model: Any, longest: int, arguments: Arguments | None = None) -> None:
        arguments = arguments or Arguments()
        causal = model.get_base_model()
        self._body = getattr(causal, causal.base_model_prefix)
        self._head = causal.get_output_embeddings()
        self._examples = None
        kernel = arguments.engine_attention
        if kernel == "flex" and self._head.weight.device.type == "cpu":
            raise TrainingError("FlexAttention trains on a GPU only", "set training.engine.attention to examples")
        if kernel != "transformers":
            self._examples = attend_within_examples(causal, longest, kernel)
        elif causal.config.get_text_config().model_type == "bloom":
            raise TrainingError(
                "BLOOM's own attention would let the examples of a pack see each other",
                "set training.engine.attention to examples",
            )
        self._own_head = arguments.engine_head == "labels" and is_plain_head(causal)
        self._causal = causal

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """The summed loss (float32 scalar) and the number of labelled tokens of one batch (see batches.collate)."""
        if self._examples is not None:
            self._examples.set(batch[EXAMPLE_LENGTHS], batch["position_ids"])
        inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
        if self._own_head:
            hidden = self._body(**inputs).last_hidden_state
            return head_loss(hidden, self._head, batch["labels"], batch["rows"]), len(batch["rows"])
        logits = self._causal(**inputs).logits[0, :-1].float()
        targets = batch["labels"][0, 1:]
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
        return loss, len(batch["rows"])


class PackedTrainer(Trainer):  # type: ignore[misc]
    """Trainer whose loss and evaluation are PackedLoss's; both are means over labelled tokens."""

    control: TrainerControl

    def __init__(self, packed_loss: PackedLoss, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.packed_loss = packed_loss
        self.model_accepts_loss_kwargs = True  # the loss is divided by the labelled tokens of the whole step
        self.tokens = 0
        self.eval_loss = float("nan")
        self.evaluated_at = -1  # step

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        loss, count = self.packed_loss(inputs)
        self.tokens += inputs["input_ids"].shape[1]
        return loss / (count if num_items_in_batch is None else num_items_in_batch)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        self.model.eval()
        total = torch.zeros((), device=self.args.device)
        count = 0
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self.get_eval_dataloader():
                loss, tokens = self.packed_loss(self._prepare_inputs(batch))
                total += loss
                count += tokens
        self.model.train()
        self.eval_loss, self.evaluated_at = (total / max(count, 1)).item(), self.state.global_step
        metrics = {"eval_loss": self.eval_loss}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class MetricsCallback(TrainerCallback):  # type: ignore[misc]
    """Turns the Trainer's logs into `step` and `eval` events."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.trainer: PackedTrainer | None = None
        self._started = time.monotonic()
        self._first_step = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._started, self._first_step = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs or self.trainer is None:
            return
        seconds = time.monotonic() - self._started
        done = max(state.global_step - self._first_step, 1)
        self._metrics.emit(
            StepEvent(
                step=state.global_step,
                steps=state.max_steps,
                epoch=float(state.epoch or 0),
                loss=float(logs["loss"]),
                learning_rate=float(logs["learning_rate"]),
                tokens_per_second=self.trainer.tokens / seconds,
                eta_seconds=(state.max_steps - state.global_step) * seconds / done,
            )
        )

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> None:
        self._metrics.emit(EvalEvent(step=state.global_step, eval_loss=metrics["eval_loss"]))


def fit(
    model: Any,
    train: "Dataset",
    test: "Dataset",
    plan: Plan,
    metrics: Metrics,
    stop: StopSignal,
    dtype: torch.dtype,
    resume_from: Path | None,
) -> Outcome:
    """Train the adapter in place, evaluating after every epoch.

    Args:
        model: PEFT model on its device.
        train, test: packs (rows of the dataset).
        plan: the arguments, and what their training needs of the device's memory.
        dtype: compute type, in which the model is already; fp16 needs its gradients scaled.
        resume_from: a whole checkpoint, or None.

    Raises:
        TrainingError: the loss is not finite, or the device ran out of memory.
    """
    arguments = plan.arguments
    callback = MetricsCallback(metrics)
    trainer = PackedTrainer(
        packed_loss=PackedLoss(model, longest_example(train, test), arguments),
        model=model,
        args=_training_arguments(arguments, dtype, len(train)),
        train_dataset=train,
        eval_dataset=test,
        data_collator=partial(collate, loss_on=arguments.loss_on),
        callbacks=[callback, CheckpointCallback(arguments.checkpoint_minutes, stop)],
    )
    trainer.remove_callback(PrinterCallback)
    callback.trainer = trainer
    started = time.monotonic()
    if resume_from and step_of(resume_from) >= trainer.args.max_steps:  # only what comes after training is left to do
        _load_adapter(model, resume_from)
        finished = True
    else:
        with _interruptible(stop), _explained(plan):
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        finished = trainer.state.global_step >= trainer.args.max_steps
    if finished and trainer.evaluated_at != trainer.state.global_step:  # it ended inside an epoch, or had ended before
        trainer.evaluate()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    train_loss = sum(losses) / len(losses) if losses else None
    if train_loss is not None and train_loss != train_loss:
        raise TrainingError("the loss is not a number", "lower training.learning_rate or set compute_dtype: float32")
    return Outcome(train_loss, trainer.eval_loss, trainer.tokens, time.monotonic() - started, stopped=not finished)


def _load_adapter(model: Any, checkpoint: Path) -> None:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))


def _training_arguments(arguments: Arguments, dtype: torch.dtype, packs: int) -> TrainingArguments:
    on_cpu = not torch.cuda.is_available()
    steps = total_steps(arguments, packs)
    return TrainingArguments(
        output_dir=str(arguments.checkpoint_dir),
        max_steps=steps,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type=arguments.scheduler if arguments.scheduler != "constant" else "constant_with_warmup",
        warmup_steps=round(steps * arguments.warmup_ratio),
        weight_decay=arguments.weight_decay,
        max_grad_norm=arguments.max_grad_norm,
        per_device_train_batch_size=arguments.per_device_batch_size,
        per_device_eval_batch_size=arguments.per_device_batch_size,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        optim="adamw_torch_fused",
        fp16=dtype is torch.float16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        accelerator_config={"non_blocking": not on_cpu},  # batches travel while the step before is at work
        seed=arguments.seed,
        logging_steps=arguments.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="epoch",
        save_strategy="no",  # CheckpointCallback decides
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
    )


def steps_per_epoch(arguments: Arguments, packs: int) -> int:
    """Optimizer steps of one pass over `packs`."""
    batches = -(-packs // arguments.per_device_batch_size)
    return max(-(-batches // arguments.gradient_accumulation_steps), 1)


def total_steps(arguments: Arguments, packs: int) -> int:
    """Optimizer steps of the whole training."""
    if arguments.max_steps > 0:
        return arguments.max_steps
    return max(round(arguments.epochs * steps_per_epoch(arguments, packs)), 1)


@contextmanager
def _interruptible(stop: StopSignal) -> Iterator[None]:
    """While training, SIGTERM waits for the end of the step and a checkpoint."""
    stop.training = True
    try:
        yield
    finally:
        stop.training = False


@contextmanager
def _explained(plan: Plan) -> Iterator[None]:
    """Say what would help where the device runs out of memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of GPU memory: {str(error).splitlines()[0]} The estimate was {plan.memory}, "
            f"with {plan.free / 2**30:.2f} GiB free before loading",
            "lower data.max_length or training.per_device_batch_size, or set training.gradient_checkpointing: true",
        ) from error
