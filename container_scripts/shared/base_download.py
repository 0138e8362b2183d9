"""Downloads of a base model from the hub: what describes it, or all that transformers loads."""

from pathlib import Path
from typing import Final

from .base_files import INDEX, WEIGHTS, weight_map

_SMALL_FILES: Final = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "README.md")


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
    shards = set(weight_map(folder).values()) if (folder / INDEX).is_file() else set()
    return Path(snapshot_download(model_id, revision=revision, allow_patterns=[*_SMALL_FILES, WEIGHTS, *shards]))
