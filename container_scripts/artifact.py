"""The artifact of a training job: the adapter, the merged model, the files that serve them, and the record of it all.

model/adapter/        PEFT's two files, code/ and lorasum.json
model/*.safetensors   the merged weights; none where the merged model was refused, or not asked for
model/                config, tokenizer and generation defaults, written before the training
model/code/           the inference code
model/README.md       the model card; the adapter has its own
model/lorasum.json    the record, written last: an artifact that has it is whole
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from card import CARD_FILE, card_text
from engine.arguments import Arguments
from engine.failure import TrainingError
from engine.metrics import Metrics
from shared.base_files import INDEX
from shared.events import DoneEvent, MergedEvent
from shared.names import ADAPTER_FOLDER, CODE_FOLDER, RECORD_FILE, serving_files
from shared.records import ARTIFACT_FORMAT, ArtifactRecord, DatasetFacts, FileFacts, MergeCheck, record_text

if TYPE_CHECKING:
    import torch

_COMPANIONS = ("tokenizer.model", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""Files of a base model that other tools need, and that are not saved with its config and tokenizer."""
_VERSIONS = ("torch", "transformers", "peft", "bitsandbytes", "datasets")


@dataclass(frozen=True, slots=True)
class Left:
    """What a training has left of its model, beside the adapter.

    Attributes:
        check: of the merged model.
        digests: what is known of the files that hold weights.
        not_merged: as in DoneEvent.
    """

    check: MergeCheck = field(default_factory=MergeCheck)
    digests: Mapping[str, FileFacts] = field(default_factory=dict)
    not_merged: str = ""


def save_adapter(model: Any, output: Path, arguments: Arguments) -> Path:
    """Write the adapter in PEFT's format. Its folder gets its name only when it is whole.

    The adapter names the base model as the config does: the folder that the job loaded it from exists only there.
    """
    for settings in model.peft_config.values():
        settings.base_model_name_or_path = arguments.model_id or settings.base_model_name_or_path
        settings.revision = arguments.model_revision or None
    half_made, adapter = output / f"{ADAPTER_FOLDER}.part", output / ADAPTER_FOLDER
    for folder in (half_made, adapter):
        shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(half_made, save_embedding_layers=False)  # or it asks the hub how large they were
    for weights in half_made.glob("*.safetensors"):  # their library makes them with mode 0600, whatever the umask
        shutil.copymode(half_made / "adapter_config.json", weights)
    half_made.rename(adapter)
    return adapter


def save_merged(base: Path, adapter: Path, output: Path, arguments: Arguments, metrics: Metrics) -> None:
    """Merge the adapter into the unquantised base."""
    from engine.merge import merge

    began = time.monotonic()
    merged = merge(base, adapter, output, _merge_dtype(arguments))
    metrics.emit(MergedEvent(merged.shards, merged.total_bytes, time.monotonic() - began))


def check_room(base: Path, output: Path, arguments: Arguments) -> None:
    """See that the disk has room for the merged model, before anything is spent on training it.

    Raises:
        TrainingError: it has not.
    """
    from engine.base_tensors import stored_tensors
    from engine.shards import bytes_in

    there = sum(file.stat().st_size for file in output.glob("*.safetensors*"))  # of an earlier start: it is replaced
    needed = bytes_in(stored_tensors(base).values(), _merge_dtype(arguments))
    free = shutil.disk_usage(output).free + there
    if needed > free:
        raise TrainingError(
            f"the merged model takes {needed / 1e9:,.2f} GB, and {output} has room for {free / 1e9:,.2f} GB",
            "free some disk; or set deploy.serve: adapter, which needs no merged model",
        )


def remove_merged(output: Path) -> None:
    """Remove what there is of a merged model: nobody is to upload or to serve it."""
    for weights in (*output.glob("*.safetensors"), output / INDEX):
        weights.unlink(missing_ok=True)


def _merge_dtype(arguments: Arguments) -> "torch.dtype | None":
    """The type of the merged weights; None if they keep the base's own."""
    import torch

    asked = arguments.merge_dtype
    return None if asked == "auto" else getattr(torch, asked)


def save_companions(base: Path, output: Path, arguments: Arguments, end_id: int) -> None:
    """Write what a server needs beside the weights: config, tokenizer, generation defaults and the inference code.

    Args:
        end_id: token that ends a summary; the tokenizer's EOS ends it too.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    config = AutoConfig.from_pretrained(base)
    if dtype := _merge_dtype(arguments):
        config.dtype = dtype
    config.save_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(output)
    for name in _COMPANIONS:
        if (base / name).is_file():
            shutil.copyfile(base / name, output / name)
    GenerationConfig(
        max_new_tokens=arguments.max_new_tokens,
        do_sample=arguments.temperature > 0,
        temperature=arguments.temperature or None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[end_id, tokenizer.eos_token_id] if end_id != tokenizer.eos_token_id else end_id,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    ).save_pretrained(output)
    save_code(output)


def save_code(output: Path) -> None:
    """Write code/, the inference code with which a folder of a model or of an adapter is served."""
    for name, source in serving_files(Path(__file__).parent).items():
        target = output / CODE_FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def generation(arguments: Arguments) -> dict[str, float]:
    """How the model is asked by a request that says nothing of it."""
    return {"max_new_tokens": arguments.max_new_tokens, "temperature": arguments.temperature}


def save_record(
    output: Path, base: Path, arguments: Arguments, dataset: DatasetFacts, done: DoneEvent, left: Left
) -> None:
    """Write the model card, and last lorasum.json in one step, which names all files: an artifact with it is whole."""
    from engine.base_tensors import stored_tensors
    from engine.verify import file_facts

    is_adapter = output.name == ADAPTER_FOLDER
    record = ArtifactRecord(
        format=ARTIFACT_FORMAT,
        run=arguments.run_name,
        base_model=arguments.model_id,
        base_revision=arguments.model_revision or None,
        template=dataset.template,
        eos_token_id=dataset.eos_token_id,
        control_tokens=dataset.control_tokens,
        dataset_fingerprint=dataset.fingerprint,
        generation=generation(arguments),
        training=done,
        versions={name: version(name) for name in _VERSIONS},
        merge_check=left.check,
        parameters=sum(prod(tensor.shape) for tensor in stored_tensors(base).values()),
    )
    if is_adapter or not left.not_merged:
        (output / CARD_FILE).write_text(card_text(record, is_adapter), encoding="utf-8")
    record = replace(record, files=file_facts(output, known=None if is_adapter else left.digests))
    half_made = output / f"{RECORD_FILE}.part"
    half_made.write_text(record_text(record), encoding="utf-8")
    half_made.replace(output / RECORD_FILE)
