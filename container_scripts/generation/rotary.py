"""Rotary embeddings whose frequencies depend on how long a row is: transformers' `longrope` and `dynamic`.

They choose frequencies by the largest position of a row, so a short row beside a long one would get the long one's.
"""

from typing import Any


def frequency_limit(model: Any) -> int | None:
    """How many tokens a row may have before its frequencies change; None if they never do, 0 if that is not known.

    Args:
        model: a transformers causal language model.
    """
    for module in model.modules():
        kind, limit = getattr(module, "rope_type", None), getattr(module, "original_max_seq_len", None)
        kinds = kind.values() if isinstance(kind, dict) else [kind]
        if any(isinstance(k, str) and (k == "longrope" or "dynamic" in k) for k in kinds):
            text = model.config.get_text_config()
            rope = getattr(text, "rope_parameters", None) or {}
            before = getattr(text, "original_max_position_embeddings", None)
            return rope.get("original_max_position_embeddings") or before or limit or 0
    return None
