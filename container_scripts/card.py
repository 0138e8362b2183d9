"""The model card of an artifact, in the Hub's format: README.md with YAML metadata at its head.

It says what the training knows. `lorasum push` adds the scores, where there are any.
"""

import re
from collections.abc import Mapping
from typing import Final

from shared.records import ArtifactRecord

CARD_FILE: Final = "README.md"

_HUB_ID = re.compile(r"[\w-]+/[\w.-]+")
_LOADED: Final[Mapping[bool, str]] = {
    False: "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    'model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")',
    True: "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
    'model = AutoPeftModelForCausalLM.from_pretrained(".", dtype="auto")',
}


def card_text(record: ArtifactRecord, is_adapter: bool) -> str:
    """The card of an artifact's folder.

    Args:
        is_adapter: whether the folder holds the adapter alone.
    """
    import yaml

    base = f"`{record.base_model}`" + (f" at `{record.base_revision}`" if record.base_revision else "")
    what = "a LoRA adapter for it" if is_adapter else "with a LoRA adapter merged into its weights"
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(record).items())
    return f"""---
{yaml.safe_dump(_metadata(record, is_adapter), sort_keys=False, allow_unicode=True)}---

# {record.run}

Summarises chat dialogues. It is {base}, {what}, trained with lorasum.

## Use

The prompt is the one that it was trained with; another one gives other summaries.

```python
{_usage(record, is_adapter)}
```

## Training

| | |
|---|---|
{rows}

## Limits

It can write names, numbers and times that the dialogue does not have. Have a person read what matters.
"""


def _usage(record: ArtifactRecord, is_adapter: bool) -> str:
    """Code that loads the model and summarises a dialogue."""
    longest = int(record.generation.get("max_new_tokens", 128))
    tokenizer = record.base_model if is_adapter and _HUB_ID.fullmatch(record.base_model) else "."
    return f"""{_LOADED[is_adapter]}
tokenizer = AutoTokenizer.from_pretrained({tokenizer!r})
prompt = {record.template or ""!r}.replace("{{dialogue}}", "Ana: lunch at 12?\\nBen: make it 1")
inputs = tokenizer(prompt, return_tensors="pt")
written = model.generate(**inputs, max_new_tokens={longest}, eos_token_id={record.eos_token_id})
print(tokenizer.decode(written[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))"""


def _facts(record: ArtifactRecord) -> dict[str, str]:
    """What the card tells of the training."""
    done = record.training
    losses = {"test split": done.eval_loss, "training": done.train_loss}
    return {
        "tokens trained on": f"{done.tokens:,}",
        "weights of step": f"{done.kept_step:,}",
        **{f"loss, {name}": f"{value:.3f}" for name, value in losses.items() if value is not None},
        "dataset, by its fingerprint": record.dataset_fingerprint,
        **record.versions,
    }


def _metadata(record: ArtifactRecord, is_adapter: bool) -> dict[str, object]:
    """What the Hub sorts models by. A base model that is not a hub id is left out: the Hub would refuse it."""
    known: dict[str, object] = {
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lorasum", "lora", "summarization", "dialogue"],
    }
    if _HUB_ID.fullmatch(record.base_model):
        known |= {"base_model": record.base_model, "base_model_relation": "adapter" if is_adapter else "finetune"}
    return known
