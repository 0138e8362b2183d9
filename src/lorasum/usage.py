"""How an artifact is used without lorasum: the lines that load it in transformers, vLLM and llama.cpp."""

import shlex
from collections.abc import Mapping

_FETCHED = "model"  # the folder that an artifact of S3 is copied to


def loading_lines(artifact: str) -> Mapping[str, str]:
    """The line that loads an artifact, by what loads it.

    Args:
        artifact: its folder or S3 address; empty gives no lines.
    """
    if not artifact:
        return {}
    remote = artifact.startswith("s3://")
    folder = _FETCHED if remote else artifact
    fetched = {"a copy of S3": f"aws s3 cp --recursive {shlex.quote(artifact)} {_FETCHED}"} if remote else {}
    return {
        **fetched,
        "transformers": f'AutoModelForCausalLM.from_pretrained("{folder}")',
        "vLLM": f"vllm serve {shlex.quote(folder)}",
        "llama.cpp": "lorasum export -c FILE --gguf model.gguf && llama-server -m model.gguf",
    }
