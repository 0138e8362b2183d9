"""What a base model's config.json says: whether it can be trained here, its context and its vocabulary."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .errors import TrainingError

_CONTEXT: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "context_length")
_STRETCHED: Final = ("yarn", "linear", "dynamic")  # by `factor`; others, such as llama3, name the stretched length
_PARTS: Final = ("text_config", "vision_config", "audio_config", "thinker_config")  # of models of more than text
_NAMED: Final = 3  # tensors that a message names


def look_at_description(folder: Path, known: Collection[str] | None = None) -> None:
    """look_at_config of a folder, whose weights need not be there yet."""
    look_at_config(read_config(folder), str(folder), known, read_card(folder))


def read_card(folder: Path) -> str:
    """README.md of a model's folder; empty if there is none."""
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
            unquantized_hint(config, card),
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
    return read_json(folder / "config.json")


def check_data_fits(config: Mapping[str, Any], longest: int, largest_id: int, eos_token_id: int) -> None:
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
    if eos_token_id >= vocabulary:
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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model's folder."""
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


def unquantized_hint(config: Mapping[str, Any], card: str) -> str:
    """Names the model that was quantized, if config or model card do."""
    front = card.partition("---")[2].partition("\n---")[0] if card.startswith("---") else ""
    named = re.search(r"^base_model:\s*(?:-\s*)?[\"']?([\w.-]+/[\w.-]+)", front, re.MULTILINE)
    origin = named.group(1) if named else str(config.get("base_model_name_or_path") or "")
    model = f"model.id: {origin}" if origin else "its unquantized original"
    return f"take {model}; lorasum quantizes it while loading (quantization: int8 or nf4)"
