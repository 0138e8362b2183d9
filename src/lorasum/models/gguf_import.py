"""Converts a GGUF file to safetensors, so that it can be trained like any other model."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorasum.errors import ModelError
from lorasum.models.quiet import quiet_transformers
from lorasum.reporting import Reporter
from lorasum.system.files import first_line

_ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_ROPE_KEYS = (".rope.scaling.type", ".rope.scaling.factor")
_NO_SCALING = ("none", 1.0, 1)


def convert_gguf(gguf: Path, folder: Path, report: Reporter) -> None:
    """Write the model in `gguf` to `folder` as bf16 safetensors with its tokenizer. About 30 s for 135 M parameters.

    Raises:
        ModelError: torch or gguf is not installed, the file cannot be read, or something would be lost.
        OSError: `folder` cannot be written.
    """
    for library in ("torch", "gguf"):
        if importlib.util.find_spec(library) is None:
            raise ModelError(f"converting a GGUF file needs {library}", "pip install 'lorasum[local]'")

    def stage(done: float, what: str = "") -> None:
        report.progress(f"converting {gguf.stem}", done, 4, what)

    with quiet_transformers():
        stage(0, "loading libraries")
        model, tokenizer = _load(gguf, stage)
        stage(3, "saving")
        _save(model, tokenizer, folder)
    stage(4)
    report.step(f"converted {gguf.stem} to safetensors in {folder.parent}")


def _load(gguf: Path, stage: Callable[[float, str], None]) -> tuple[Any, Any]:
    """The model in float32, and its tokenizer.

    Raises:
        ModelError: the file cannot be read, or says something that transformers does not read from GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        stage(0.5, "reading the tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        stage(1, "reading the model's description")
        scaling = rope_scaling(gguf)
        with _gguf_progress(lambda share: stage(2 + share, "dequantising")):
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except Exception as error:  # the library documents none
        raise ModelError(f"{gguf.name} cannot be read: {first_line(error)}", "choose another model") from error
    rope = getattr(model.config, "rope_parameters", None) or {}
    if scaling and rope.get("rope_type", "default") == "default":
        raise ModelError(
            f"{gguf.name} scales its rotary positions ({scaling}), which transformers does not read from GGUF: "
            "every answer would be wrong",
            "take the same model as safetensors from the hub: model.id: owner/name",
        )
    return model, tokenizer


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write both as `from_pretrained` reads them, the weights in bfloat16.

    Raises:
        OSError: it cannot be written.
    """
    import torch

    # transformers refuses to save a model that was loaded from GGUF, unless these two are cleared.
    model.hf_quantizer = None
    del model.config.quantization_config
    vars(model.config).pop("_model_name_or_path", None)  # the GGUF file's title, which is not a path
    try:
        tokenizer.save_pretrained(folder)
        model.to(torch.bfloat16).save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the Rust libraries raise their own when the disk is full
        raise OSError(first_line(error)) from error


@contextmanager
def _gguf_progress(tensors_done: Callable[[float], None]) -> Iterator[None]:
    """Replace transformers' progress bar over GGUF tensors by calls of `tensors_done` with the share done (0 to 1)."""
    from transformers import modeling_gguf_pytorch_utils as module

    def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        tensors = list(tensors)
        for index, tensor in enumerate(tensors):
            tensors_done(index / len(tensors))
            yield tensor

    original = module.tqdm
    module.tqdm = counted
    try:
        yield
    finally:
        module.tqdm = original


def rope_scaling(gguf: Path) -> str:
    """What in a GGUF file says that rotary positions are scaled, such as rope_freqs.weight; empty if nothing does.

    Raises:
        Exception: the file cannot be read; gguf's reader raises what it stumbles over.
    """
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    for tensor in reader.tensors:
        if tensor.name in _ROPE_TENSORS and not (tensor.data == 1).all():
            return str(tensor.name)
    for name, field in reader.fields.items():
        if name.endswith(_ROPE_KEYS) and field.contents() not in _NO_SCALING:
            return f"{name} = {field.contents()}"
    return ""
