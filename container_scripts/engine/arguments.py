"""What the training script is told: hyperparameters as flags, and folders as environment variables, as by SageMaker."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shared.names import SM_CHANNEL_MODEL, SM_CHANNEL_TRAINING, SM_MODEL_DIR, SM_OUTPUT_DATA_DIR, SM_OUTPUT_DIR
from shared.rouge import Rouge


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def _batch_size(text: str) -> int:
    if text != "auto" and (not text.isdigit() or text == "0"):
        raise argparse.ArgumentTypeError(f"expected a number of packs or auto, got {text!r}")
    return 0 if text == "auto" else int(text)


def _targets(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


_DECIDE_NO_STEP = {"checkpoint_dir", "engine_base", "merge_dtype", "logging_steps", "checkpoint_minutes", "temperature"}


@dataclass(frozen=True, slots=True)
class Arguments:
    """Hyperparameters of one training job. Each is a flag of the same name; SageMaker passes every value as text."""

    run_name: str = "run"
    """Name of the run. It is written into the artifact's record."""
    model_id: str = ""
    """Hub id of the base model. It is downloaded if there is no `model` channel."""
    model_revision: str = ""
    """Commit, tag or branch of the hub model."""
    quantization: str = "int8"
    """int8 | nf4 | none: how the frozen weights are stored in memory."""
    lora_r: int = 8
    """Rank of the adapter."""
    lora_alpha: int = 32
    """The update is scaled by lora_alpha / lora_r."""
    lora_dropout: float = 0.05
    """Probability that a value of the adapter's input is dropped, 0 to 1."""
    lora_targets: tuple[str, ...] = ("auto",)
    """Names of the modules, and of stacked experts, that get an adapter, separated by commas; auto: the attention
    projections; or all-linear."""
    lora_rslora: bool = False
    """The update is scaled by lora_alpha / sqrt(lora_r) instead."""
    lora_dora: bool = False
    """Each row of an adapted weight gets a trained length of its own (DoRA, Liu et al. 2024)."""
    epochs: float = 3.0
    """Passes over the training packs."""
    max_steps: int = -1
    """Optimizer steps. A positive number overrides `epochs`."""
    learning_rate: float = 2e-4
    """Peak learning rate of AdamW."""
    scheduler: str = "linear"
    """linear | cosine | constant: the learning rate after warm-up."""
    warmup_ratio: float = 0.03
    """Share of the optimizer steps in which the learning rate rises, 0 to 1."""
    weight_decay: float = 0.0
    """AdamW's decay of the adapter weights."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 turns clipping off."""
    per_device_batch_size: int = 1
    """Packs per forward pass. 0 (flag: auto): as many of `gradient_accumulation_steps` as fit into memory at once."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    gradient_checkpointing: str = "auto"
    """true | false | auto: recompute activations in the backward pass. auto: of as few layers as the memory allows."""
    loss_on: str = "completion"
    """completion | all: which tokens are learnt: the summary and EOS, or the prompt too."""
    compute_dtype: str = "auto"
    """auto | bfloat16 | float16 | float32: the dtype in which the frozen model computes."""
    merge_dtype: str = "auto"
    """auto | bfloat16 | float16 | float32: the dtype of the merged weights. auto: that of the base weights."""
    evaluate: str = "loss"
    """loss | rouge1 | rouge2 | rougeL | rougeLsum: what `keep` and `early_stopping_patience` go by: the loss on the
    test split, or the score of summaries that are generated of its dialogues."""
    evaluate_every: int = 0
    """Optimizer steps between two evaluations; 0: an epoch's."""
    evaluate_dialogues: int = 100
    """Most test dialogues to generate summaries of."""
    keep: str = "last"
    """last | best: the weights of the last step, or those of the best evaluation."""
    early_stopping_patience: int = 0
    """Stop after so many evaluations in a row that are not better than the best before; 0 never stops early."""
    seed: int = 42
    """Seed of the adapter's initial weights, of dropout and of the order of packs."""
    logging_steps: int = 1
    """Optimizer steps between two `step` events."""
    checkpoint_minutes: float = 10.0
    """Minutes of training between checkpoints."""
    checkpoint_dir: Path = Path("/opt/ml/checkpoints")
    """Folder of the checkpoints. SageMaker copies it to S3 while the job runs, and back when the job starts again."""
    engine_attention: str = "examples"
    """examples | flex | transformers: one call per example, FlexAttention, or the model's own attention."""
    engine_head: str = "labels"
    """labels | all: which tokens are multiplied with the head: those before a label, or all."""
    engine_linear: str = "dequantized"
    """dequantized | int8 | llm.int8: how int8 layers multiply in the forward pass."""
    engine_adapter: str = "fused"
    """fused | peft: layer and adapter computed in one step, or by PEFT's own forward."""
    engine_base: str = "auto"
    """auto | whole | shared: whether each process holds the base model's codes on its device, or those of a machine
    share them in main memory (host_weights.py). auto: whole if it fits."""
    max_new_tokens: int = 128
    """Longest summary in tokens, in evaluations by ROUGE and, through the artifact's record, at the endpoint."""
    temperature: float = 0.0
    """0 is greedy decoding. It is written into the artifact's record."""

    def fingerprint(self) -> str:
        """As JSON, all arguments that decide the steps. A checkpoint is resumed from only if they are the same.

        Defaults are left out: an argument that a later version adds changes nothing of a training without it.
        """
        left_out = {*_DECIDE_NO_STEP, "max_new_tokens"} if self.evaluate == "loss" else _DECIDE_NO_STEP
        values = {field: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        return json.dumps({f.name: value for f, value in values.items() if value != f.default}, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a container's input and output."""

    dataset: Path
    """The `training` channel: manifest.json, train/, test/."""
    base_model: Path | None
    """The `model` channel; None if the base model comes from the hub."""
    model: Path
    """Becomes the artifact: adapter, merged model, tokenizer."""
    output: Path
    """Gets the file `failure` if the job fails."""
    output_data: Path
    """Gets metrics.jsonl."""


_CHOICES = {
    "engine_attention": ("examples", "flex", "transformers"),
    "engine_head": ("labels", "all"),
    "engine_linear": ("dequantized", "int8", "llm.int8"),
    "engine_adapter": ("fused", "peft"),
    "engine_base": ("auto", "whole", "shared"),
    "gradient_checkpointing": ("true", "false", "auto"),
    "quantization": ("int8", "nf4", "none"),
    "scheduler": ("linear", "cosine", "constant"),
    "loss_on": ("completion", "all"),
    "evaluate": ("loss", *Rouge._fields),
    "keep": ("last", "best"),
    "compute_dtype": ("auto", "bfloat16", "float16", "float32"),
    "merge_dtype": ("auto", "bfloat16", "float16", "float32"),
}


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Read the flags.

    Raises:
        SystemExit: a flag is wrong or unknown: argparse has printed a message, and the status is 2.
    """
    parser = argparse.ArgumentParser(description="Fine-tune a causal language model with LoRA on packed examples.")
    parsers: dict[object, Any] = {bool: _flag, tuple[str, ...]: _targets}
    for field in fields(Arguments):
        parse = _batch_size if field.name == "per_device_batch_size" else parsers.get(field.type, field.type)
        parser.add_argument(f"--{field.name}", type=parse, default=field.default, choices=_CHOICES.get(field.name))
    return Arguments(**vars(parser.parse_args(argv)))


def read_folders(environ: Mapping[str, str]) -> Folders:
    """The folders in SageMaker's SM_* variables; for a variable that is not set, its fixed path under /opt/ml."""
    model_channel = environ.get(SM_CHANNEL_MODEL)
    return Folders(
        dataset=Path(environ.get(SM_CHANNEL_TRAINING, "/opt/ml/input/data/training")),
        base_model=Path(model_channel) if model_channel else None,
        model=Path(environ.get(SM_MODEL_DIR, "/opt/ml/model")),
        output=Path(environ.get(SM_OUTPUT_DIR, "/opt/ml/output")),
        output_data=Path(environ.get(SM_OUTPUT_DATA_DIR, "/opt/ml/output/data")),
    )
