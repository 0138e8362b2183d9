"""Merge the adapter into the base weights, one tensor at a time: W + (alpha / r) * B A.

W (O, I), A (r, I) and B (O, r) are multiplied and added in float32 and cast to the output dtype once. W is the
unquantized base weight. Tensors are read from the base's safetensors files and written into the merged files: the base
is never loaded as a model, and memory holds one changed tensor, whatever the size of a file. Which tensor of the files
belongs to which layer of the model is transformers' rule (base_tensors.py).
"""

import json
import math
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open

from base_look import INDEX, weight_files
from engine.base_tensors import locate, stored_tensors
from engine.failure import TrainingError
from engine.fake_pass import skeleton
from engine.linear import weight_of

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_FLOATS = ("F64", "F32", "F16", "BF16")
_PIECE = 1 << 24  # bytes copied at a time
Buffer = bytes | memoryview
_CODES_APART = 0.7  # relative: NF4 is 0.1 from what it was made of, int8 0.01; another matrix of that size 1.4
_ADAPTER_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Update:
    """The low-rank update of one weight: scale * B A, both factors float32."""

    a: torch.Tensor
    """(r, in_features)"""
    b: torch.Tensor
    """(out_features, r)"""
    scale: float
    transposed: bool = False
    """Whether the base stores (in_features, out_features), as GPT-2's Conv1D does."""

    def apply(self, weight: torch.Tensor) -> torch.Tensor:
        """`weight`, of any float dtype, with the update added: the same shape, float32."""
        delta = (self.b @ self.a).mul_(self.scale)
        return delta.T.add_(weight.float()) if self.transposed else delta.add_(weight.float())


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written: the number of safetensors files, and the bytes of their tensors."""

    shards: int
    total_bytes: int


def read_updates(adapter: Path) -> dict[str, Update]:
    """The updates of a PEFT adapter folder, by the path of their layer in the model.

    Raises:
        TrainingError: the adapter has something that this merge cannot do (DoRA, biases, rank or alpha patterns).
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    unknown = [k for k in ("use_dora", "rank_pattern", "alpha_pattern") if config.get(k)]
    if unknown or config.get("bias", "none") != "none":
        raise TrainingError(f"cannot merge an adapter with {', '.join(unknown) or 'biases'}", "merge it with PEFT")
    r = config["r"]
    scale = config["lora_alpha"] / (math.sqrt(r) if config.get("use_rslora") else r)
    updates = {}
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  not a dict
            module, found, _ = key.removeprefix(_ADAPTER_PREFIX).partition(".lora_A.")
            if found:
                b = file.get_tensor(key.replace(".lora_A.", ".lora_B.")).float()
                updates[module] = Update(file.get_tensor(key).float(), b, scale)
    return updates


def merge(base: Path, adapter: Path, output: Path, dtype: torch.dtype | None = None) -> Merged:
    """Write the merged model's safetensors files, and their index, into `output`. The files are named as in `base`.

    Args:
        base: folder with the base model's config.json, and its *.safetensors in any float dtype, not quantized.
        adapter: PEFT adapter folder.
        output: an existing folder. A file gets its final name only when it is complete.
        dtype: dtype of the merged floating-point tensors; None keeps that of each base tensor.

    Raises:
        TrainingError: an update has no weight in the base, an update is not finite (the merged model would be broken),
            all updates are zero (the merged model would be the base), or a value is too large for `dtype`.
        OSError: the disk is full.
    """
    updates = read_updates(adapter)
    if not all(update.b.isfinite().all() and update.a.isfinite().all() for update in updates.values()):
        raise TrainingError("the adapter holds values that are not finite", "train with a lower learning rate")
    if not any(update.b.any() for update in updates.values()):
        raise TrainingError("the adapter changes nothing: all its updates are zero", "train for more steps")
    stored = stored_tensors(base)
    weights = locate(skeleton(base), stored, list(updates))
    by_tensor = {weights[m].name: replace(u, transposed=weights[m].transposed) for m, u in updates.items()}
    files = weight_files(base)
    total = sum(_merge_shard(file, output / file.name, by_tensor, dtype) for file in files)
    if (base / INDEX).is_file():
        weight_map = {name: tensor.file.name for name, tensor in sorted(stored.items())}
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
        (output / INDEX).write_text(text, encoding="utf-8")
    return Merged(len(files), total)


def try_merge(base: Path, model: Any) -> None:
    """See that every layer with an adapter can be merged later, before anything is spent on training it.

    Each has to have one tensor of the right shape in the base's files. The first one's is read and compared with the
    weight that was loaded: a transposed or another model's weight would be as far from it as it is large.

    Args:
        base: the folder that `model` was loaded from.
        model: a PEFT model.

    Raises:
        TrainingError: a layer cannot be merged.
    """
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    weights = locate(skeleton(base), stored_tensors(base), list(layers))
    for name, layer in layers.items():
        expected = (layer.out_features, layer.in_features)
        shape = weights[name].stored.shape
        if shape != (expected[::-1] if weights[name].transposed else expected):
            raise TrainingError(
                f"{weights[name].name} is {shape} in the base's files, and {expected} in the model",
                "leave this layer out of lora.targets",
            )
    name, layer = next(iter(layers.items()))
    with safe_open(weights[name].stored.file, framework="pt") as file:
        tensor = file.get_tensor(weights[name].name).float()
    tensor = tensor.T if weights[name].transposed else tensor
    loaded = weight_of(layer.get_base_layer(), torch.float32).cpu()
    if not (loaded - tensor).norm() <= _CODES_APART * tensor.norm():
        raise TrainingError(
            f"{weights[name].name} in the base's files is not the weight that was loaded for {name}",
            "a merge would spoil it: leave this layer out of lora.targets, or serve with deploy.serve: adapter",
        )


def _merge_shard(source: Path, target: Path, updates: dict[str, Update], dtype: torch.dtype | None) -> int:
    """Merge one file; return the bytes of its tensors.

    Most tensors do not change (an embedding alone can have half a gigabyte), so their bytes are copied without loading
    them. The file is read and not mapped, so that its pages do not add up in this process's memory.
    """
    with source.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        stored = json.loads(file.read(length))
        metadata = stored.pop("__metadata__", {"format": "pt"})
        data = 8 + length
        size = max((tensor["data_offsets"][1] for tensor in stored.values()), default=0)
        if source.stat().st_size < data + size:
            raise _ends_too_early(source)
        floats = {tensor["dtype"] for tensor in stored.values()} & set(_FLOATS)
        if dtype is None or floats <= {_NAMES[dtype]}:
            _patch(file, target, data, {name: stored[name] for name in updates if name in stored}, updates)
            return int(size)
        return _rewrite(file, target, data, stored, metadata, updates, dtype)


def _patch(file: BinaryIO, target: Path, data: int, changed: Mapping[str, Any], updates: Mapping[str, Update]) -> None:
    """If no dtype changes: let the system copy the whole file, then overwrite the tensors that have an update."""
    with _rename_when_complete(target) as part:
        shutil.copyfile(file.name, part)
        with part.open("r+b") as copy:
            for name, tensor in changed.items():
                start, end = tensor["data_offsets"]
                file.seek(data + start)
                kind = _DTYPES[tensor["dtype"]]
                weight = _read(file, end - start, kind).view(tensor["shape"])
                copy.seek(data + start)
                copy.write(_bytes(_cast(updates[name].apply(weight), kind, name)))


def _rewrite(
    file: BinaryIO,
    target: Path,
    data: int,
    stored: Mapping[str, Any],
    metadata: Any,
    updates: Mapping[str, Update],
    dtype: torch.dtype,
) -> int:
    """If a dtype changes: write all tensors one after another, floating-point ones in `dtype`; return their bytes."""
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name in sorted(stored):
        start, end = stored[name]["data_offsets"]
        kind, size = stored[name]["dtype"], end - start
        if kind in _FLOATS:
            kind, size = _NAMES[dtype], math.prod(stored[name]["shape"]) * dtype.itemsize
        header[name] = stored[name] | {"dtype": kind, "data_offsets": [offset, offset + size]}
        offset += size

    def contents() -> Iterator[Buffer]:
        for name in sorted(stored):
            start, end = stored[name]["data_offsets"]
            file.seek(data + start)
            if name not in updates and header[name]["dtype"] == stored[name]["dtype"]:
                yield from _pieces(file, end - start)
            elif end > start:
                tensor = _read(file, end - start, _DTYPES[stored[name]["dtype"]]).view(stored[name]["shape"])
                merged = updates[name].apply(tensor) if name in updates else tensor
                yield _bytes(_cast(merged, _DTYPES[header[name]["dtype"]], name))

    _write_safetensors(target, header, contents)
    return offset


@contextmanager
def _rename_when_complete(target: Path) -> Iterator[Path]:
    """A path to write to. It is renamed to `target` if the block succeeds, and deleted if it fails."""
    part = target.with_suffix(".part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _cast(tensor: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """`tensor` in `dtype`.

    Raises:
        TrainingError: values are too large for float16. The merged model would answer with nothing or nonsense.
    """
    cast = tensor.to(dtype)
    if dtype is torch.float16 and bool((cast.isinf() & tensor.isfinite()).any()):
        largest = tensor[tensor.isfinite()].abs().max().item()
        raise TrainingError(
            f"{name} holds values up to {largest:,.0f}, and float16 ends at {torch.finfo(dtype).max:,.0f}",
            "set training.merge_dtype to bfloat16; training is not repeated",
        )
    return cast


def _bytes(tensor: torch.Tensor) -> Buffer:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _ends_too_early(file: str | Path) -> TrainingError:
    return TrainingError(f"{file} ends too early", "its download broke off: delete it and fetch it again")


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The next `size` bytes of a file, at most 16 MiB at a time."""
    while size:
        piece = file.read(min(size, _PIECE))
        if not piece:
            raise _ends_too_early(file.name)
        size -= len(piece)
        yield piece


def _read(file: BinaryIO, size: int, dtype: torch.dtype) -> torch.Tensor:
    """The next `size` bytes of a file as a flat tensor."""
    buffer = bytearray(size)
    if file.readinto(buffer) != size:  # type: ignore[attr-defined]
        raise _ends_too_early(file.name)
    return torch.frombuffer(buffer, dtype=dtype)


def _write_safetensors(target: Path, header: dict[str, Any], contents: Callable[[], Iterator[Buffer]]) -> None:
    """Write a safetensors file: the header's length in 8 bytes, the header as JSON, then the tensors' bytes."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the data starts at a multiple of eight
    with _rename_when_complete(target) as part, part.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for content in contents():
            file.write(content)
