"""How many tokens a base model reads at once."""

import json
from collections.abc import Mapping

from lorasum import base_look
from lorasum.model_source import ModelRef, model_file


def context_length(model: ModelRef) -> int | None:
    """Tokens of the longest text that the model was made for; None if its config.json sets no limit.

    Raises:
        ModelError: the hub does not have the model, or cannot be reached.
    """
    file = model_file(model, "config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        return None  # loading the model says what is wrong with it
    return base_look.context_length(config) if isinstance(config, Mapping) else None
