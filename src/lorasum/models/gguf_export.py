"""Writes a merged model as a GGUF file, which llama.cpp and what is built on it can run. No weight is rounded.

Only what is known to be written right is written: the architectures and tokenizers below, without stretched positions.
Names and layouts are those of llama.cpp's convert_hf_to_gguf.py. Tensors are written one at a time, so a model needs
no more memory than its largest one.
"""

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorasum.errors import ModelError
from lorasum.models.gguf_architecture import CONVERTER, architecture_of
from lorasum.shared.names import RECORD_FILE
from lorasum.shared.records import ArtifactRecord, from_json
from lorasum.system.files import USER_FILE_MODE, new_file

if TYPE_CHECKING:
    import torch

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Final[Mapping[str, str]] = {_LLAMA3: "llama-bpe", _LLAMA3.replace("{1,3}", ""): "qwen2"}
"""GGUF's name of how a byte-level tokenizer splits text, by its regular expression."""
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # GGUF's types of tokens


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    architecture: str
    tensors: int


def export_gguf(model: Path, file: Path, name: str) -> Exported:
    """Write the model of a folder to `file`, which is there whole or not at all.

    Args:
        model: folder of a merged model, as transformers saves it.
        name: what the file calls the model.

    Raises:
        ModelError: torch or gguf is not installed, or the model is of a kind that is not written.
        OSError: it cannot be read, or the file cannot be written.
    """
    for library in ("torch", "gguf"):
        if importlib.util.find_spec(library) is None:
            raise ModelError(f"writing a GGUF file needs {library}", "pip install 'lorasum[local]'")
    from gguf import GGUFWriter

    stored = (model / "config.json").read_bytes()
    config, architecture = json.loads(stored), architecture_of(stored)
    vocabulary = _Vocabulary.of(model, config)
    with new_file(file, "wb", USER_FILE_MODE) as target:
        writer = GGUFWriter(target.name, architecture)
        _add_settings(writer, config, name)
        vocabulary.add_to(writer)
        tensors = dict(_tensors(model, config, architecture))
        for title, tensor in tensors.items():
            writer.add_tensor_info(title, tensor.shape, tensor.dtype, tensor.nbytes, tensor.raw_dtype)
        writer.write_header_to_file(Path(target.name))
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        # Space for all of them, because numpy, which writes them, does not say why it could not.
        head = Path(target.name).stat().st_size
        os.posix_fallocate(target.fileno(), head, sum(tensor.nbytes for tensor in tensors.values()))
        for tensor in tensors.values():
            writer.write_tensor_data(tensor.read())
        writer.close()
    return Exported(architecture, len(tensors))


def _add_settings(writer: Any, config: Mapping[str, Any], name: str) -> None:
    """The model's description, under the names of GGUF's specification."""
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    writer.add_name(name)
    writer.add_type("model")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """A byte-level tokenizer, as GGUF describes it."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    split: str
    special: Mapping[str, int]
    adds_bos: bool
    chat_template: str

    @classmethod
    def of(cls, model: Path, config: Mapping[str, Any]) -> "_Vocabulary":
        """Read the folder's tokenizer.json.

        Raises:
            ModelError: it is not a byte-level BPE that splits text in a way that GGUF has a name for.
        """
        path = model / "tokenizer.json"
        if not path.is_file():
            raise ModelError("the model has no tokenizer.json, which is what is written as GGUF here", CONVERTER)
        stored = json.loads(path.read_text(encoding="utf-8"))
        split = _split(stored)
        added = {one["id"]: one for one in stored["added_tokens"]}
        texts = {number: token for token, number in stored["model"]["vocab"].items()}
        texts |= {number: one["content"] for number, one in added.items()}
        size = max(config["vocab_size"], max(texts) + 1)

        def kind(number: int) -> int:
            if number in added:
                return _CONTROL if added[number]["special"] else _USER_DEFINED
            return _NORMAL if number in texts else _UNUSED

        merges = [one if isinstance(one, str) else " ".join(one) for one in stored["model"]["merges"]]
        template = model / "chat_template.jinja"
        ids = {name: config.get(f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")} | _ends(model)
        return cls(
            tokens=[texts.get(number, f"[PAD{number}]") for number in range(size)],
            types=[kind(number) for number in range(size)],
            merges=merges,
            split=split,
            special={name: number for name, number in ids.items() if isinstance(number, int)},
            adds_bos=_adds(stored, texts.get(ids["bos"]) if isinstance(ids["bos"], int) else None),
            chat_template=template.read_text(encoding="utf-8") if template.is_file() else "",
        )

    def add_to(self, writer: Any) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.split)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        writer.add_add_bos_token(self.adds_bos)
        for name, number in self.special.items():
            getattr(writer, f"add_{name}_token_id")(number)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def _split(stored: Mapping[str, Any]) -> str:
    """GGUF's name of how a tokenizer splits text before it merges bytes."""
    bpe, before = stored["model"], stored.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    kinds = [step.get("type") for step in steps]
    normalizer = (stored.get("normalizer") or {}).get("type")
    plain = bpe.get("type") == "BPE" and not bpe.get("byte_fallback") and normalizer in (None, "NFC")
    if plain and kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not steps[0].get("add_prefix_space"):
        return "gpt-2"
    if plain and kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if plain and kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        name = _SPLITS.get(steps[0].get("pattern", {}).get("Regex", ""))
        if name:
            return name
    raise ModelError("this model's tokenizer is of a kind that is not written as GGUF here", CONVERTER)


def _adds(stored: Mapping[str, Any], token: str | None) -> bool:
    """Whether the tokenizer puts `token` in front of a text."""
    after = stored.get("post_processor") or {}
    for step in after.get("processors", [after]):
        first = (step.get("single") or [{}])[0]
        if token is not None and (first.get("SpecialToken") or {}).get("id") == token:
            return True
    return False


def _ends(model: Path) -> dict[str, int]:
    """The token that ends a summary, by the artifact's record; it may end a turn instead of a text."""
    record = model / RECORD_FILE
    known = from_json(ArtifactRecord, record.read_bytes()).eos_token_id if record.is_file() else None
    return {} if known is None else {"eos": known}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor in its shard, and how GGUF stores it: matrices as they are, vectors in float32 as llama.cpp has them."""

    shard: Path
    key: str
    shape: tuple[int, ...]
    stored_as: str
    heads: int
    """Of a query or key projection whose rows llama.cpp orders otherwise; 0 for other tensors."""

    @property
    def raw_dtype(self) -> Any:
        from gguf import GGMLQuantizationType as Types

        return {"float32": Types.F32, "float16": Types.F16, "bfloat16": Types.BF16}[self.stored_as]

    @property
    def dtype(self) -> Any:
        import numpy as np

        return np.dtype({"float32": "float32", "float16": "float16", "bfloat16": "uint16"}[self.stored_as])

    @property
    def nbytes(self) -> int:
        count: int = self.dtype.itemsize
        for size in self.shape:
            count *= size
        return count

    def read(self) -> Any:
        """The values as a numpy array; bfloat16 as the bytes that it has."""
        import torch
        from safetensors import safe_open

        with safe_open(self.shard, framework="pt") as opened:
            values: torch.Tensor = opened.get_tensor(self.key)
        if self.heads:
            values = _interleaved(values, self.heads)
        values = values.to(getattr(torch, self.stored_as)).contiguous()
        return (values.view(torch.uint8) if self.stored_as == "bfloat16" else values).numpy()


def _tensors(model: Path, config: Mapping[str, Any], architecture: str) -> Iterator[tuple[str, _Tensor]]:
    """GGUF's name of each tensor, and where it is.

    Raises:
        ModelError: a tensor has no name there.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import safe_open

    kind = next(one for one in MODEL_ARCH if MODEL_ARCH_NAMES[one] == architecture)
    names = get_tensor_name_map(kind, config["num_hidden_layers"])
    types = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    heads = {"q_proj": config["num_attention_heads"]}
    heads["k_proj"] = config.get("num_key_value_heads") or heads["q_proj"]
    for shard in sorted(model.glob("*.safetensors")):
        with safe_open(shard, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118  it is not a mapping
                if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                title = names.get_name(key, try_suffixes=(".weight", ".bias"))
                described = opened.get_slice(key)
                if title is None or described.get_dtype() not in types:
                    raise ModelError(f"GGUF has no place for {key} of type {described.get_dtype()}", CONVERTER)
                shape = tuple(described.get_shape())
                turned = heads.get(key.split(".")[-2], 0) if architecture == "llama" else 0
                stored_as = "float32" if len(shape) == 1 else types[described.get_dtype()]
                yield title, _Tensor(shard, key, shape, stored_as, turned)


def _interleaved(values: "torch.Tensor", heads: int) -> "torch.Tensor":
    """Rows of a projection in llama.cpp's order: its rotary positions turn neighbours, transformers' the two halves."""
    rows = values.shape[0]
    return values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).transpose(1, 2).reshape(values.shape)
