"""Guesses which key an unknown one was meant to be: the nearest by its letters, or ours for another tool's word."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel

from lorasum.config.foreign import THEIRS
from lorasum.config.schema import Config

_LONGEST = 60  # characters of a key that are compared: longer ones are not misspellings, and take seconds

SYNONYMS: Mapping[str, str] = THEIRS | {
    key: meant
    for meant, keys in {
        "model.id": "model_name model_id pretrained_model base_model_id checkpoint",
        "model.revision": "commit model_revision base_model_revision",
        "data.dataset": "datasets dataset_name dataset_id hub_dataset",
        "data.train": "train_file train_files training_files train_path",
        "data.test": "test_file test_files validation eval validation_file eval_dataset test_datasets",
        "data.test_fraction": "test_size eval_fraction validation_split holdout",
        "data.format": "chat_template prompt_format",
        "data.system": "system_prompt default_system system_message",
        "data.template": "prompt prompt_template",
        "data.max_length": "max_seq_length max_seq_len seq_length sequence_length model_max_length context_length "
        "block_size",
        "data.columns": "column_mapping fields",
        "lora.r": "rank",
        "lora.alpha": "scale scaling",
        "lora.targets": "target_modules modules",
        "quantization": "bits quantize bnb quant",
        "training.learning_rate": "lr",
        "training.max_steps": "steps iterations iters max_iters",
        "training.per_device_batch_size": "train_batch_size mbs",
        "training.gradient_accumulation_steps": "grad_accum grad_accumulation accumulation accumulate_grad_batches",
        "training.gradient_checkpointing": "activation_checkpointing recompute use_gradient_checkpointing",
        "training.warmup_ratio": "warmup warmup_steps warm_up",
        "training.max_grad_norm": "grad_clip gradient_clipping clip_grad_norm",
        "training.compute_dtype": "dtype bf16 fp16 torch_dtype precision mixed_precision",
        "training.loss_on": "completion_only_loss mask_prompt",
        "training.report_to": "wandb_project mlflow_tracking_uri",
        "training.evaluate_every": "evaluation_steps eval_strategy evaluation_strategy",
        "training.checkpoint_minutes": "save_steps save_strategy checkpoint_steps",
        "training.keep": "load_best_model_at_end",
        "training.early_stopping_patience": "patience early_stopping",
        "training.seed": "random_seed",
        "training.engine.attention": "attn_implementation flash_attention flash_attn",
        "training.engine.base": "fsdp fsdp2 deepspeed offload cpu_offload offload_params zero3",
        "sagemaker.training_instance_type": "instance instance_type train_instance gpu machine",
        "sagemaker.endpoint_instance_type": "inference_instance_type endpoint_instance serving_instance",
        "sagemaker.role": "execution_role iam_role role_arn",
        "sagemaker.bucket": "s3_bucket output_bucket",
        "sagemaker.spot": "use_spot use_spot_instances managed_spot",
        "sagemaker.max_runtime_hours": "max_run max_runtime timeout_hours",
        "sagemaker.hub_token_secret": "hf_token token hub_token huggingface_token",
        "predict.max_new_tokens": "max_tokens predict.max_length max_output_tokens",
    }.items()
    for key in keys.split()
}
"""What other tools and SageMaker's SDK call a key, and what it is called here, beside the words of `init --from`."""


def suggestion(path: list[str]) -> str:
    """The key that was probably meant: another tool's word for it, the nearest of the same section, else of any
    section; else the keys that are valid here. At the top `seed` is no typo of `sweep`: any section comes first."""
    word = path[-1][:_LONGEST]
    if meant := SYNONYMS.get(".".join(path)) or SYNONYMS.get(word.lower()):
        return f"did you mean {meant}?"
    names = sorted(_keys(Config), key=lambda name: name.count("."))
    here = [name for name in names if name.rpartition(".")[0] == ".".join(path[:-1])]
    tries = [(here, 0.6), (names, 0.85)]
    for candidates, cutoff in tries if path[1:] else reversed(tries):
        by_key = {name.rpartition(".")[2]: name for name in reversed(candidates)}
        if near := get_close_matches(word, by_key, n=1, cutoff=cutoff):
            return f"did you mean {by_key[near[0]]}?"
    return f"valid here: {', '.join(name.rpartition('.')[2] for name in here)}"


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also where the field may be empty; None for a plain value."""
    kinds = get_args(annotation) or (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every valid key, dotted, sections before what they hold."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if section := section_of(field.annotation):
            yield from _keys(section, f"{prefix}{name}.")
