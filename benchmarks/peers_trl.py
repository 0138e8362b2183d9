"""One training by TRL's SFTTrainer, for peers.py: it runs in the environment of peers-requirements.txt, without ours.

    .peers/bin/python benchmarks/peers_trl.py job.json

Prints one line of JSON: when each optimizer step ended, the loss on the test examples, memory, CPU seconds; and how far
a batch's loss is from that of its examples alone, which says whether the setting is correct.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.measuring import peak, reset_peak  # noqa: E402


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    setting = job["setting"]
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    cuda = torch.cuda.is_available()
    dtype = getattr(torch, setting.get("dtype", "float32"))
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype, device_map={"": "cuda" if cuda else "cpu"})
    size = setting["batch"]
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=job["examples_per_step"] // size,
        max_steps=job["steps"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        max_length=None,
        train_sampling_strategy="sequential",  # the same examples in each step, which lorasum takes too
        shuffle_dataset=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not cuda,
        **setting["config"],
    )
    torch.manual_seed(0)
    trainer = SFTTrainer(
        model=_adapted(model, job),
        args=arguments,
        train_dataset=Dataset.from_list([_columns(example) for example in job["train"]]),
        processing_class=AutoTokenizer.from_pretrained(job["tokenizer"]),
        callbacks=[Clock()],
    )
    off = _batch_against_examples(trainer, job["train"], size)
    reset_peak()
    began = os.times()
    trainer.train()
    ended = os.times()
    result = {
        "step_ends": ends,
        "cpu_seconds": ended.user + ended.system - began.user - began.system,
        "peak_bytes": peak(),
        "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "test_loss": _test_loss(trainer.model, job["test"], setting),
        "batch_off_by": off,
    }
    print(json.dumps(result))


def _adapted(model: Any, job: dict[str, Any]) -> Any:
    """The model with the adapter that lorasum has too: the same seed draws the same values."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **job["lora"]))


def _columns(example: dict[str, Any]) -> dict[str, Any]:
    ids, prompt = example["ids"], example["prompt_length"]
    return {"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}


def _batch_against_examples(trainer: Any, examples: list[dict[str, Any]], size: int) -> float:
    """The relative difference of the first batch's loss from that of its examples one by one, by the trainer's code."""
    import torch

    wanted, tokens = 0.0, 0
    with torch.no_grad():
        for example in examples[:size]:
            labelled = len(example["ids"]) - example["prompt_length"]
            wanted += _loss(trainer, [example]) * labelled
            tokens += labelled
        whole = _loss(trainer, examples[:size])
    return abs(whole / (wanted / tokens) - 1)


def _loss(trainer: Any, examples: list[dict[str, Any]]) -> float:
    batch = trainer._prepare_inputs(trainer.data_collator([_columns(example) for example in examples]))
    return float(trainer.compute_loss(trainer.model, batch))


def _test_loss(model: Any, examples: list[dict[str, Any]], setting: dict[str, Any]) -> float:
    """The mean over the labelled tokens, one example at a time, by transformers' own loss."""
    import torch

    model.eval()
    total, tokens = 0.0, 0
    half = setting["config"].get("bf16", True)
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        for example in examples:
            columns = {name: torch.tensor([ids], device=model.device) for name, ids in _columns(example).items()}
            labelled = len(example["ids"]) - example["prompt_length"]
            total += float(model(**columns, use_cache=False).loss) * labelled
            tokens += labelled
    return total / tokens


if __name__ == "__main__":
    main()
