"""Which models are written as GGUF, by their config.json alone: known before a weight is copied."""

import json
from collections.abc import Mapping
from typing import Final

from lorasum.errors import ModelError

ARCHITECTURES: Final[Mapping[str, str]] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""GGUF's name of an architecture, by transformers' model_type."""
CONVERTER: Final = "llama.cpp's convert_hf_to_gguf.py takes the artifact's folder, which is a plain transformers model"


def architecture_of(stored: bytes) -> str:
    """GGUF's name of the architecture of a model, by its config.json.

    Raises:
        ModelError: it is not one of those that are written right.
    """
    try:
        config = json.loads(stored)
        if not isinstance(config, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise ModelError(f"config.json of the model is damaged: {error}", "train again, or fetch it again") from error
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"a model of type {kind} cannot be written as GGUF here, only {known}", CONVERTER)
    scaling = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("rope_type", "default")
    biased = config.get("attention_bias") or config.get("mlp_bias")
    sliding = config.get("sliding_window") if config.get("use_sliding_window", kind == "mistral") else None
    for there, what in (
        (scaling != "default", f"stretched positions ({scaling})"),
        (biased, "biases in its layers"),
        (sliding, f"a sliding window of {sliding} tokens"),
        (config.get("quantization_config"), "quantized weights"),
    ):
        if there:
            raise ModelError(f"this model has {what}, which is not written as GGUF here", CONVERTER)
    return ARCHITECTURES[kind]
