"""One look at a base model's files before anything is paid for: can it be trained, merged and served as it is?

It reads small files and the headers of safetensors files: milliseconds for any model. Which files are the model is
decided here for all: those that are loaded are those that the adapter is merged into.
"""

import json
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .base_config import look_at_description, read_card, read_json, some, unquantized_hint
from .errors import TrainingError

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_FLOATS: Final = ("F64", "F32", "F16", "BF16")
_LONGEST_HEADER: Final = 100_000_000  # bytes: the limit of the safetensors library


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header of its file describes it."""

    file: Path
    dtype: str
    """As safetensors spells it, such as BF16."""
    shape: tuple[int, ...]


def look_at_folder(folder: Path, known: Collection[str] | None = None) -> dict[str, StoredTensor]:
    """See that a folder holds one whole model of a kind that can be trained; return its tensors by their names.

    Args:
        folder: holds config.json and *.safetensors.
        known: the model types that transformers has a class for; None for any.

    Raises:
        TrainingError: it does not.
    """
    if (folder / "adapter_config.json").is_file():
        raise TrainingError(
            f"{folder} holds an adapter (adapter_config.json) beside the model, and transformers would load both",
            "merge that adapter into its model first, or move its two files to a folder of their own",
        )
    look_at_description(folder, known)
    tensors = {name: tensor for file in weight_files(folder) for name, tensor in read_header(file).items()}
    _compare_with_index(folder, tensors)
    codes = sorted(name for name, tensor in tensors.items() if _is_quantized(name, tensor))
    if codes:
        raise TrainingError(
            f"{folder} is quantized: {some(codes)} {'is' if len(codes) == 1 else 'are'} {tensors[codes[0]].dtype}",
            unquantized_hint({}, read_card(folder)),
        )
    return tensors


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the model's weights: those that transformers loads, in the order of their names.

    Raises:
        TrainingError: there are none, or those of two models, or one is missing.
    """
    single, index = folder / WEIGHTS, folder / INDEX
    if not index.is_file():
        if not single.is_file():
            others = sorted(path.name for path in folder.glob("*.safetensors"))
            raise TrainingError(
                f"{folder} holds no {WEIGHTS} and no {INDEX}" + (f", only {some(others)}" if others else ""),
                "load the model with transformers once, and save it with save_pretrained",
            )
        return (single,)
    shards = sorted(set(weight_map(folder).values()))
    if single.is_file() and WEIGHTS not in shards:
        raise TrainingError(
            f"{folder} holds two models: {WEIGHTS}, and {len(shards)} files that {INDEX} lists",
            "delete one of them: transformers loads the first, whatever the index says",
        )
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise TrainingError(f"{folder} lacks {some(missing)}", "download the model whole")
    return tuple(folder / name for name in shards)


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, by name. Reads its header only.

    Raises:
        TrainingError: the file is not a safetensors file, or ends too early.
    """
    damaged = TrainingError(f"{file} ends too early or is damaged", "delete it and download it again")
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= _LONGEST_HEADER:
            raise damaged
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            tensors = {n: StoredTensor(file, e["dtype"], tuple(e["shape"])) for n, e in header.items()}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise damaged from error
    if file.stat().st_size < 8 + length + end:
        raise damaged
    return tensors


def _is_quantized(name: str, tensor: StoredTensor) -> bool:
    """Whether a tensor holds codes of weights. Masks and counters, such as GPT-2's attn.bias, are not weights."""
    return tensor.dtype not in _FLOATS and len(tensor.shape) > 1 and "weight" in name.rpartition(".")[2]


def _compare_with_index(folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
    if not (folder / INDEX).is_file():
        return
    listed = set(weight_map(folder))
    missing, surplus = sorted(listed - set(tensors)), sorted(set(tensors) - listed)
    if missing:
        raise TrainingError(f"{folder} lacks tensors that {INDEX} lists: {some(missing)}", "download the model whole")
    if surplus:
        raise TrainingError(
            f"the files of {folder} hold tensors that {INDEX} does not list: {some(surplus)}",
            "files of two models are mixed there: download the model into an empty folder",
        )


def weight_map(folder: Path) -> dict[str, str]:
    """The file of each tensor, by its name, as the index of a model in several files says it."""
    index = folder / INDEX
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise TrainingError(f"{index} lists no files", "download the model again")
    return found
