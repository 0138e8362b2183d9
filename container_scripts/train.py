"""Training entry point: LoRA on a frozen, quantized base; leaves an adapter, a merged model and what serves them.

Run by SageMaker's training toolkit, or by lorasum's local backend in the same way: hyperparameters as flags, folders in
SM_* variables. Prints one JSON object a line on stdout; everything else goes to stderr.
"""

import json
import logging
import os
import shutil
import sys
import time
import traceback
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.arguments import Arguments, Folders, parse_arguments, read_folders
from engine.failure import TrainingError, write_failure
from engine.metrics import Metrics

_VERSIONS = ("torch", "transformers", "peft", "bitsandbytes", "datasets")


def main() -> int:
    """Parse, train, and leave the reason in `failure` if it fails. Returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = parse_arguments(sys.argv[1:])
    folders = read_folders(os.environ)
    try:
        return train(arguments, folders)
    except Exception as error:
        write_failure(folders.output, error)
        if isinstance(error, TrainingError):
            print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        traceback.print_exc()
        return 1


def train(arguments: Arguments, folders: Folders) -> int:
    """The whole job, step by step. Returns 0, or the status of a process stopped by SIGTERM."""
    from engine.checkpoint import STOPPED, Checkpoints, StopSignal, step_of

    stop = StopSignal()

    import torch
    import transformers

    from engine import memory
    from engine import model as models
    from engine.batches import load_split
    from engine.merge import merge
    from engine.trainer import fit, total_steps

    started = time.monotonic()
    transformers.utils.logging.disable_progress_bar()
    metrics = Metrics(folders.output_data)
    manifest = json.loads((folders.dataset / "manifest.json").read_text(encoding="utf-8"))
    packs, test_packs = load_split(folders.dataset, "train"), load_split(folders.dataset, "test")
    resume_from = Checkpoints(arguments.checkpoint_dir, arguments, manifest["fingerprint"]).claim()

    base = models.fetch_base(arguments, folders.base_model)
    device = models.pick_device()
    dtype, reason = models.pick_dtype(arguments.compute_dtype, device)
    targets = models.resolve_targets(memory.skeleton(base), arguments.lora_targets)
    lengths = packs.select_columns(["example_lengths", "prompt_lengths"])  # not every token of the dataset
    plan = memory.plan_memory(base, arguments, targets, lengths, dtype, memory.free_bytes(device))
    arguments = plan.arguments
    transformers.set_seed(arguments.seed)
    model = models.load_base(base, arguments, dtype, device)
    memory.recompute_layers(model, plan.recomputed_layers)
    parameters = sum(p.numel() for p in model.parameters())
    model = models.add_adapter(model, arguments, targets)

    tokens = manifest["splits"]["train"]["tokens"]
    step_packs = arguments.per_device_batch_size * arguments.gradient_accumulation_steps
    metrics.emit(
        "start",
        device=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        compute_dtype=str(dtype).removeprefix("torch."),
        dtype_reason=reason,
        quantization=arguments.quantization,
        parameters=parameters,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        lora_targets=targets,
        packs=len(packs),
        tokens=tokens,
        tokens_per_step=round(tokens / len(packs) * min(step_packs, len(packs))),
        steps=total_steps(arguments, len(packs)),
        epochs=arguments.epochs,
        loss_on=arguments.loss_on,
        packs_at_once=arguments.per_device_batch_size,
        layers=plan.layers,
        recomputed_layers=plan.recomputed_layers,
        memory_bytes=plan.memory.total,
        memory_parts=asdict(plan.memory),
        memory_free_bytes=plan.free,
        resumed_from_step=step_of(resume_from) if resume_from else 0,
    )

    outcome = fit(model, packs, test_packs, plan, metrics, stop, dtype, resume_from)
    if outcome.stopped:
        return STOPPED

    # The adapter is what the GPU time bought: it is on disk before anything else can fail.
    adapter = save_adapter(model, folders.model)
    metrics.emit("saved", path="adapter")
    del model
    merging = time.monotonic()
    merge_dtype = None if arguments.merge_dtype == "auto" else getattr(torch, arguments.merge_dtype)
    merged = merge(base, adapter, folders.model, merge_dtype)
    metrics.emit("merged", shards=merged.shards, bytes=merged.total_bytes, seconds=time.monotonic() - merging)

    done = {
        "train_loss": outcome.train_loss,
        "eval_loss": outcome.eval_loss,
        "tokens": outcome.tokens,
        "tokens_per_second": outcome.tokens / outcome.seconds,
        "seconds": time.monotonic() - started,
    }
    save_companions(base, folders.model, arguments, merge_dtype)
    save_code(adapter)
    for folder in (adapter, folders.model):
        save_manifest(folder, arguments, manifest, done)
    metrics.emit("done", **done)
    return 0


def save_adapter(model: Any, output: Path) -> Path:
    """Write the adapter in PEFT's format; it appears under its name only when whole."""
    half_made, adapter = output / "adapter.part", output / "adapter"
    for folder in (half_made, adapter):
        shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(half_made)
    half_made.rename(adapter)
    return adapter


def save_companions(base: Path, output: Path, arguments: Arguments, dtype: Any) -> None:
    """What a server needs beside the weights: config, tokenizer, generation defaults, and the inference code."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    config = AutoConfig.from_pretrained(base)
    if dtype is not None:
        config.dtype = dtype
    config.save_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(output)
    GenerationConfig(
        max_new_tokens=arguments.max_new_tokens,
        do_sample=arguments.temperature > 0,
        temperature=arguments.temperature or None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    ).save_pretrained(output)
    save_code(output)


def save_code(output: Path) -> None:
    """Write code/, with which a model folder, or an adapter's, serves itself."""
    code = output / "code"
    code.mkdir(exist_ok=True)
    here = Path(__file__).parent
    for name in ("inference.py", "hub_token.py", "requirements.txt"):
        shutil.copyfile(here / name, code / name)


def save_manifest(output: Path, arguments: Arguments, dataset: dict[str, Any], done: dict[str, Any]) -> None:
    """Write lorasum.json, last and at once: its presence says that the artifact is whole."""
    text = json.dumps(
        {
            "format": 1,
            "run": arguments.run_name,
            "base_model": arguments.model_id,
            "base_revision": arguments.model_revision or None,
            "template": dataset["template"],
            "eos_token_id": dataset["eos_token_id"],
            "dataset_fingerprint": dataset["fingerprint"],
            "generation": {"max_new_tokens": arguments.max_new_tokens, "temperature": arguments.temperature},
            "training": done,
            "versions": {name: version(name) for name in _VERSIONS},
        },
        indent=2,
    )
    half_made = output / "lorasum.json.part"
    half_made.write_text(text, encoding="utf-8")
    half_made.replace(output / "lorasum.json")


if __name__ == "__main__":
    sys.exit(main())
