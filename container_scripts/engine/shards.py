"""Copies of safetensors files in which some tensors are changed, one tensor in memory at a time.

Most tensors do not change (an embedding alone can have half a gigabyte), so their bytes are copied without loading
them. A file is read and not mapped, so that its pages do not add up in this process's memory. A copy gets its name when
it is complete: a full disk leaves no half-made weights.
"""

import json
import math
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from engine.failure import MergeRefusedError, TrainingError
from shared.base_files import StoredTensor

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
Change = Callable[[torch.Tensor], torch.Tensor]
"""A stored tensor → the one that takes its place: the same shape, any float dtype."""


def bytes_in(stored: Iterable[StoredTensor], dtype: torch.dtype | None) -> int:
    """The bytes that tensors take in a copy, of which `dtype` is what it is in `rewrite`."""
    kinds = ((one.shape, dtype if dtype and one.dtype in _FLOATS else _DTYPES[one.dtype]) for one in stored)
    return sum(math.prod(shape) * kind.itemsize for shape, kind in kinds)


def rewrite(source: Path, target: Path, changes: Mapping[str, Change], dtype: torch.dtype | None) -> int:
    """Write a copy of a safetensors file, in which some tensors are changed; return the bytes of its tensors.

    Args:
        target: gets its name only when it is complete.
        changes: what makes a new tensor of the old one, by its name. Names that the file lacks are ignored.
        dtype: of the copy's floating-point tensors; None keeps that of each.

    Raises:
        TrainingError: the file ends too early.
        MergeRefusedError: a value is too large for the dtype of its tensor.
        OSError: the disk is full.
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
            _patch(file, target, data, {name: stored[name] for name in changes if name in stored}, changes)
            return int(size)
        return _rewrite(file, target, data, stored, metadata, changes, dtype)


def _patch(file: BinaryIO, target: Path, data: int, changed: Mapping[str, Any], changes: Mapping[str, Change]) -> None:
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
                copy.write(_bytes(_cast(changes[name](weight), kind, name)))


def _rewrite(
    file: BinaryIO,
    target: Path,
    data: int,
    stored: Mapping[str, Any],
    metadata: Any,
    changes: Mapping[str, Change],
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
            if name not in changes and header[name]["dtype"] == stored[name]["dtype"]:
                yield from _pieces(file, end - start)
            elif end > start:
                tensor = _read(file, end - start, _DTYPES[stored[name]["dtype"]]).view(stored[name]["shape"])
                merged = changes[name](tensor) if name in changes else tensor
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
        MergeRefusedError: values are too large for float16. The model would answer with nothing or nonsense.
    """
    cast = tensor.to(dtype)
    if dtype is torch.float16 and bool((cast.isinf() & tensor.isfinite()).any()):
        largest = tensor[tensor.isfinite()].abs().max().item()
        raise MergeRefusedError(
            f"{name} holds values up to {largest:,.0f}, and float16 ends at {torch.finfo(dtype).max:,.0f}",
            "set training.merge_dtype to bfloat16, which repeats no step, or deploy.serve to adapter",
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
