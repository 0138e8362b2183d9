"""The longest text a model reads, from the configs that models have."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorasum.model_context import context_length
from lorasum.model_source import ModelRef

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "llama", "max_position_embeddings": 8192}, 8192),
        ({"model_type": "gpt2", "n_positions": 1024, "n_ctx": 1024}, 1024),
        ({"model_type": "bloom", "seq_length": 2048}, None),
        ({"model_type": "mpt", "max_seq_len": 2048}, None),
        ({"model_type": "falcon", "alibi": True, "max_position_embeddings": 2048}, None),
        ({"model_type": "gemma3", "text_config": {"max_position_embeddings": 131072}}, 131072),
        ({"model_type": "mamba"}, None),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"factor": 8.0, "original_max_position_embeddings": 8192},
            },
            131072,
        ),
        ({"max_position_embeddings": -1}, None),
        ([], None),
    ],
)
def test_the_context_is_what_the_config_says(tmp_path: Path, config: Any, tokens: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_length(ModelRef("m", None, tmp_path)) == tokens


def test_a_config_that_cannot_be_read_sets_no_limit(tmp_path: Path) -> None:
    assert context_length(ModelRef("m", None, tmp_path)) is None
    (tmp_path / "config.json").write_text("{")
    assert context_length(ModelRef("m", None, tmp_path)) is None
