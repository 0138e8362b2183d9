"""Reads configs of axolotl and LLaMA-Factory: keys whose meaning is exactly one of ours. The rest is named. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError

from lorasum.config.key_paths import put
from lorasum.config.schema import Config

Tool = Literal["axolotl", "LLaMA-Factory"]

_SHARED: Final[Mapping[str, str]] = {
    "learning_rate": "training.learning_rate",
    "warmup_ratio": "training.warmup_ratio",
    "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm",
    "max_steps": "training.max_steps",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "eval_steps": "training.evaluate_every",
    "logging_steps": "training.logging_steps",
    "gradient_checkpointing": "training.gradient_checkpointing",
    "seed": "training.seed",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
}
KEYS: Final[Mapping[Tool, Mapping[str, str]]] = {
    "axolotl": {
        **_SHARED,
        "base_model": "model.id",
        "revision_of_model": "model.revision",
        "sequence_len": "data.max_length",
        "val_set_size": "data.test_fraction",
        "lora_r": "lora.r",
        "lora_target_modules": "lora.targets",
        "peft_use_rslora": "lora.rslora",
        "peft_use_dora": "lora.dora",
        "num_epochs": "training.epochs",
        "lr_scheduler": "training.scheduler",
        "micro_batch_size": "training.per_device_batch_size",
        "early_stopping_patience": "training.early_stopping_patience",
    },
    "LLaMA-Factory": {
        **_SHARED,
        "model_name_or_path": "model.id",
        "cutoff_len": "data.max_length",
        "val_size": "data.test_fraction",
        "lora_rank": "lora.r",
        "lora_target": "lora.targets",
        "use_rslora": "lora.rslora",
        "use_dora": "lora.dora",
        "num_train_epochs": "training.epochs",
        "lr_scheduler_type": "training.scheduler",
        "per_device_train_batch_size": "training.per_device_batch_size",
        "report_to": "training.report_to",
    },
}
"""Our key of each key of theirs, where the value means the same."""
_TOLD_BY_VALUE: Final[Mapping[tuple[str, object], tuple[str, object]]] = {
    ("load_in_8bit", True): ("quantization", "int8"),
    ("load_in_4bit", True): ("quantization", "nf4"),
    ("quantization_bit", 8): ("quantization", "int8"),
    ("quantization_bit", 4): ("quantization", "nf4"),
    ("lora_target_linear", True): ("lora.targets", "all-linear"),
    ("lora_target", "all"): ("lora.targets", "all-linear"),
    ("train_on_inputs", False): ("training.loss_on", "completion"),
    ("train_on_inputs", True): ("training.loss_on", "all"),
    ("train_on_prompt", True): ("training.loss_on", "all"),
}
THEIRS: Final = {
    key: ours
    for keys in (*KEYS.values(), {key: ours for (key, _), (ours, _) in _TOLD_BY_VALUE.items()})
    for key, ours in keys.items()
    if not ours.endswith(f".{key}")
}
"""Our key of each key of theirs, where it is another word."""
_SAID_ANYWAY: Final = (
    ("load_in_8bit", False),
    ("load_in_4bit", False),
    ("adapter", "lora"),
    ("adapter", "qlora"),
    ("sample_packing", True),
    ("packing", True),
    ("report_to", "none"),
    ("stage", "sft"),
    ("do_train", True),
    ("finetuning_type", "lora"),
)
"""What lorasum does in any case."""
_LISTS: Final = ("lora.targets", "training.report_to")
"""Keys of ours that take a list, where theirs take names with commas between."""
_BATCH: Final = frozenset({"micro_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps"})
"""Keys that count packs here. In a config that does not pack they count dialogues, of which a pack holds several."""


@dataclass(frozen=True, slots=True)
class Translated:
    """A config of ours, and the keys of theirs that have no exact counterpart, each with its value."""

    tool: Tool
    config: Mapping[str, Any]
    left: tuple[str, ...]

    @property
    def says_where_the_chats_are(self) -> bool:
        """Whether our config names the rows to train on, and those to test on."""
        data = self.config.get("data", {})
        return "dataset" in data or ("train" in data and "test_fraction" in data)


def translated(theirs: Mapping[str, Any], name: str) -> Translated | None:
    """Turn another tool's config into ours; None if it is of neither tool.

    Args:
        name: of the run.
    """
    tool: Tool | None = (
        "axolotl" if "base_model" in theirs else "LLaMA-Factory" if "model_name_or_path" in theirs else None
    )
    if tool is None:
        return None
    ours: dict[str, Any] = {"name": name}
    left: list[str] = []
    packs = theirs.get("sample_packing") is True or theirs.get("packing") is True
    for key, value in theirs.items():
        plain = value if isinstance(value, str | bool | int) else None
        if (key, plain) in _SAID_ANYWAY or value in (None, "") or key == "datasets":
            continue
        place, ours_value = _TOLD_BY_VALUE.get((key, plain), (KEYS[tool].get(key), value))
        if place in _LISTS and isinstance(ours_value, str) and ours_value != "all-linear":
            ours_value = [one.strip() for one in ours_value.split(",")]
        if key in _BATCH and not packs:
            left.append(f"{key}: {value} (it counts dialogues there, and here packs of several dialogues)")
        elif place is None:
            left.append(f"{key}: {value}")
        else:
            put(ours, tuple(place.split(".")), ours_value)
    return Translated(tool, ours, (*left, *_data(ours, theirs), *_refused(ours)))


def _data(ours: dict[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Take over where the rows are, if there is one place; what is left of it."""
    sets = theirs.get("datasets")
    first = sets[0] if isinstance(sets, list) and sets and isinstance(sets[0], Mapping) else {}
    path = first.get("path")
    if not isinstance(path, str):
        return []
    is_file = "." in path.rpartition("/")[2] and path.rpartition(".")[2] in ("json", "jsonl", "csv", "parquet", "arrow")
    put(ours, ("data", "train" if is_file else "dataset"), path)
    rest = [f"datasets[{place}]: {one}" for place, one in enumerate(sets or ()) if place]
    return [*(f"datasets[0].{key}: {value}" for key, value in first.items() if key != "path"), *rest]


def _refused(ours: dict[str, Any]) -> list[str]:
    """Take out what our config does not allow, such as another scheduler. Each is named with the reason."""
    refused: list[str] = []
    while (error := _first_error(ours)) is not None:
        (section, key, *_), reason = error
        value = ours[section].pop(key)
        refused.append(f"{section}.{key}: {value} ({reason.removeprefix('Value error, ')})")
    return refused


def _first_error(ours: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """Place and reason of the first value that is not allowed. What is missing is for the user to say."""
    data = dict(ours.get("data", {}))
    if not {"dataset", "train"} & data.keys():
        data["dataset"] = "to/choose"
    elif "train" in data:
        data.setdefault("test_fraction", 0.1)
    try:
        Config.model_validate({"model": {"id": "to/choose"}, **ours, "data": data})
    except ValidationError as error:
        for one in error.errors():
            section, key = (*map(str, one["loc"]), "", "")[:2]
            if key and key in ours.get(section, {}):
                return (section, key), str(one["msg"])
    return None
