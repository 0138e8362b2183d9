"""How many tokens a model reads at once, by its config.json."""

import json
from collections.abc import Mapping
from typing import Any

from lorasum.model_source import ModelRef, model_file

_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
_BOUNDLESS = ("bloom", "mpt")  # ALiBi: positions are distances, and none is too great


def context_length(model: ModelRef) -> int | None:
    """Tokens of the longest text that the model was made for; None where its config sets no limit.

    Raises:
        ModelError: the hub does not have the model, or cannot be reached.
    """
    file = model_file(model, "config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        return None  # loading the model says what is wrong with it
    if not isinstance(config, Mapping) or config.get("model_type") in _BOUNDLESS or config.get("alibi"):
        return None
    inner = config.get("text_config")
    return _limit(inner if isinstance(inner, Mapping) else config)


def _limit(config: Mapping[str, Any]) -> int | None:
    limits: list[int] = [config[key] for key in _KEYS if isinstance(config.get(key), int) and config[key] > 0]
    if not limits:
        return None
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if isinstance(scaling, Mapping) and isinstance(scaling.get("factor"), int | float):
        before = scaling.get("original_max_position_embeddings") or limits[0]
        return max(limits[0], int(before * scaling["factor"]))
    return limits[0]
