"""One look at a base model before anything is paid for: can it be trained, merged and served as it is?

The container imports this file as `base_look`, and the client imports the same file as `lorasum.base_look`. It needs
the standard library only, and reads small files and the headers of safetensors files: milliseconds for any model.

Which files are the model is decided here for all: those that are loaded are those that the adapter is merged into.
"""

import json
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_SMALL_FILES: Final = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "README.md")
_CONTEXT: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "context_length")
_STRETCHED: Final = ("yarn", "linear", "dynamic")  # by `factor`; others, such as llama3, name the stretched length
_FLOATS: Final = ("F64", "F32", "F16", "BF16")
_PARTS: Final = ("text_config", "vision_config", "audio_config", "thinker_config")  # of models of more than text
_LONGEST_HEADER: Final = 100_000_000  # bytes: the limit of the safetensors library
_NAMED: Final = 3  # tensors that a message names


class TrainingError(Exception):
    """A training that cannot be, or cannot go on: one line of what is wrong, and one of what the user can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header of its file describes it."""

    file: Path
    dtype: str
    """As safetensors spells it, such as BF16."""
    shape: tuple[int, ...]


def download_description(model_id: str, revision: str | None) -> Path:
    """The folder of a hub model, with its config.json, tokenizer and other small files.

    Raises:
        Exception: whatever huggingface_hub raises where it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model_id, revision=revision, allow_patterns=[*_SMALL_FILES]))


def download_base(model_id: str, revision: str | None) -> Path:
    """The folder of a hub model: what is small, and the weights that transformers loads, without other copies of them.

    Raises:
        Exception: whatever huggingface_hub raises where it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    folder = download_description(model_id, revision)
    shards = set(_weight_map(folder).values()) if (folder / INDEX).is_file() else set()
    return Path(snapshot_download(model_id, revision=revision, allow_patterns=[*_SMALL_FILES, WEIGHTS, *shards]))


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
            _unquantized_hint({}, _card(folder)),
        )
    return tensors


def look_at_description(folder: Path, known: Collection[str] | None = None) -> None:
    """look_at_config of a folder, whose weights need not be there yet."""
    look_at_config(read_config(folder), str(folder), known, _card(folder))


def _card(folder: Path) -> str:
    readme = folder / "README.md"
    return readme.read_text("utf-8", errors="replace") if readme.is_file() else ""


def look_at_config(config: Mapping[str, Any], name: str, known: Collection[str] | None = None, card: str = "") -> None:
    """See that a model is unquantized, has no encoder, and needs no code of its own.

    Args:
        config: its config.json.
        name: what to call the model.
        known: the model types that transformers has a class for; None for any.
        card: its README.md, which may name the unquantized model.

    Raises:
        TrainingError: it is not so.
    """
    kind = str(config.get("model_type", ""))
    quantization = config.get("quantization_config") or config.get("compression_config")
    if quantization:
        method = str(quantization.get("quant_method") or "")
        if not method and quantization.get("load_in_4bit"):
            method = "4 bit"
        raise TrainingError(
            f"{name} is quantized{f' ({method})' if method else ''}: an adapter cannot be merged into its weights",
            _unquantized_hint(config, card),
        )
    if config.get("is_encoder_decoder"):
        raise TrainingError(
            f"{name} ({kind}) has an encoder and a decoder, and lorasum trains models that have a decoder only",
            "choose a causal language model, such as Qwen3, Llama 3 or SmolLM2",
        )
    if known is not None and kind not in known:
        raise _not_known(config, name, kind)


def _not_known(config: Mapping[str, Any], name: str, kind: str) -> TrainingError:
    """Why transformers has no causal language model of this type."""
    if any(part in config for part in _PARTS):
        return TrainingError(
            f"{name} ({kind}) takes more than text, and transformers has no class for its text part alone",
            "choose a model that takes text only, such as Qwen3, Llama 3 or Mistral 7B",
        )
    if config.get("auto_map"):
        return TrainingError(
            f"{name} ({kind}) needs Python code from its own repository, which is never run here",
            "choose a model that transformers has a class for",
        )
    return TrainingError(
        f"this version of transformers has no causal language model of type {kind or '(none given)'}: {name}",
        "check model_type in its config.json, or choose another model",
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model's folder.

    Raises:
        TrainingError: there is none, or it is no JSON object.
    """
    return _read_json(folder / "config.json")


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
    shards = sorted(set(_weight_map(folder).values()))
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


def check_data_fits(config: Mapping[str, Any], longest: int, largest_id: int, eos_token_id: int | None = None) -> None:
    """See that the model has a position for every token of an example, and an embedding for every token id.

    Args:
        config: the model's config.json.
        longest: tokens of the longest example.
        largest_id: the largest token id in the data.
        eos_token_id: the token that ends a summary.

    Raises:
        TrainingError: it has not.
    """
    context, vocabulary = context_length(config), vocabulary_size(config)
    if context is not None and longest > context:
        raise TrainingError(
            f"the longest example has {longest:,} tokens, and the model's context is {context:,}",
            f"set data.max_length to {context} and data.too_long to drop, then prepare again",
        )
    if vocabulary is None:
        return
    if eos_token_id is not None and eos_token_id >= vocabulary:
        raise TrainingError(
            f"the tokenizer's EOS token has id {eos_token_id:,}, and the model's vocabulary ends at {vocabulary - 1:,}",
            "tokenizer and model do not belong together: take both from the same place",
        )
    if largest_id >= vocabulary:
        raise TrainingError(
            f"the data holds token id {largest_id:,}, and the model's vocabulary ends at {vocabulary - 1:,}",
            "the tokenizer has tokens that the model has no embedding for: take both from the same place",
        )


def context_length(config: Mapping[str, Any]) -> int | None:
    """Most tokens of prompt and completion together; None if the model sets no limit (as with ALiBi or a state).

    It is what transformers computes positions for. A sliding window is no limit: what is outside of it is masked.
    """
    kind = str(config.get("model_type"))
    if kind == "bloom" or config.get("alibi"):  # MPT has ALiBi too, but transformers makes it for max_seq_len only
        return None
    limit = whole_number(config, *_CONTEXT)
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    if not limit or not isinstance(scaling, Mapping) or kind.startswith("gemma3"):  # Gemma 3 has stretched it already
        return limit
    stretched = scaling.get("rope_type", scaling.get("type")) in _STRETCHED
    factor = scaling.get("factor")
    if stretched and isinstance(factor, int | float):
        return max(limit, int((whole_number(scaling, "original_max_position_embeddings") or limit) * factor))
    return limit


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """How many token ids the model has an embedding for, or None if its config does not say."""
    return whole_number(config, "vocab_size")


def some(names: Sequence[str]) -> str:
    """The first few of many names: `a, b, c and 4 more`."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def whole_number(config: Mapping[str, Any], *names: str) -> int | None:
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for name in names:
            value = part.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _is_quantized(name: str, tensor: StoredTensor) -> bool:
    """Whether a tensor holds codes of weights. Masks and counters, such as GPT-2's attn.bias, are not weights."""
    return tensor.dtype not in _FLOATS and len(tensor.shape) > 1 and "weight" in name.rpartition(".")[2]


def _compare_with_index(folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
    if not (folder / INDEX).is_file():
        return
    listed = set(_weight_map(folder))
    missing, surplus = sorted(listed - set(tensors)), sorted(set(tensors) - listed)
    if missing:
        raise TrainingError(f"{folder} lacks tensors that {INDEX} lists: {some(missing)}", "download the model whole")
    if surplus:
        raise TrainingError(
            f"the files of {folder} hold tensors that {INDEX} does not list: {some(surplus)}",
            "files of two models are mixed there: download the model into an empty folder",
        )


def _weight_map(folder: Path) -> dict[str, str]:
    index = folder / INDEX
    found = _read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise TrainingError(f"{index} lists no files", "download the model again")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise TrainingError(
            f"{path.parent} has no {path.name}", "download the model whole, or check model.id"
        ) from error
    except ValueError as error:
        raise TrainingError(
            f"{path} cannot be read: {str(error).splitlines()[0]}", "download the model again"
        ) from error
    if not isinstance(found, dict):
        raise TrainingError(f"{path} holds no JSON object", "download the model again")
    return found


def _unquantized_hint(config: Mapping[str, Any], card: str) -> str:
    """Names the model that was quantized, if config or model card do."""
    front = card.partition("---")[2].partition("\n---")[0] if card.startswith("---") else ""
    named = re.search(r"^base_model:\s*(?:-\s*)?[\"']?([\w.-]+/[\w.-]+)", front, re.MULTILINE)
    origin = named.group(1) if named else str(config.get("base_model_name_or_path") or "")
    model = f"model.id: {origin}" if origin else "its unquantized original"
    return f"take {model}; lorasum quantizes it while loading (quantization: int8 or nf4)"
