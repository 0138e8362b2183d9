"""A GPU that is not there: tensors that say `cuda:0`, and are computed for real on the CPU.

Every tensor is an ordinary one of the CPU. Whether it is "on the GPU" is noted on its storage, so views, parameters,
what autograd saves and bitsandbytes' own classes all tell it. A dispatch mode sees each operation that PyTorch runs: it
refuses tensors on two devices as CUDA would, computes, and notes where the result is.

    with pretend_gpu() as gpu:
        model = load_base(folder, arguments, torch.bfloat16, torch.device("cuda", 0))
        ...
        gpu.waits            what made the processor wait for the GPU, and where in our code, counted
        gpu.peak             most bytes that tensors held on it at once

Where each of several processes has a GPU of its own, `pretend_gpu(index=1, count=2)` is the second one's: CUDA means
another one until `torch.cuda.set_device`, and whatever would lie on that is refused, because a process has no business
there. What the processes add up goes through gloo instead of NCCL.

It shows tensors on a wrong device, branches on the device's type, dtypes that CUDA's kernels refuse (those of
KERNELS_TAKE), waits, and the bytes of tensors. It does not show what a kernel computes on a GPU, which one is chosen,
its workspace, its speed, the order of streams, nor fragmentation. Other threads are not seen: transformers is told to
load in this one.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

import loading
import pretend_torch
from pretend_cuda import instead_of_cuda
from pretend_torch import CPU, GPU, Generator, instead_of_torch

__all__ = ["GPU", "KERNELS_TAKE", "PretendGpu", "pretend_gpu"]

_TORCH, _SCRIPTS = (str(Path(file).parent) for file in (torch.__file__, loading.__file__))
_HALF, _HALVES = (torch.float16,), (torch.float16, torch.bfloat16)
_FLOATS = (*_HALVES, torch.float32)

KERNELS_TAKE: dict[str, tuple[int, tuple[torch.dtype, ...]]] = {
    "bitsandbytes::int8_vectorwise_quant": (0, _HALF),
    "bitsandbytes::int8_double_quant": (0, _HALF),
    "bitsandbytes::int8_linear_matmul": (0, (torch.int8,)),
    "bitsandbytes::quantize_4bit": (0, _FLOATS),
    "bitsandbytes::quantize_blockwise": (0, _FLOATS),
    "aten::mm": (0, _FLOATS),
    "aten::bmm": (0, _FLOATS),
    "aten::addmm": (1, _FLOATS),
    "aten::addmm_": (1, _FLOATS),
}
"""The dtypes that CUDA's kernels take for one of their arguments, where a CPU's take more."""

_NCCL = (*_FLOATS, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool)
_WAITS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::equal",
    "aten::masked_select",
    "aten::bincount",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::repeat_interleave",
}
_COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from"}
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_SCALARS_TOO = {"aten::cat", "aten::stack"}
"""Operations that do not take a scalar from the CPU either."""


class Held:
    """Bytes of a storage, as long as it lives: it is one of its attributes."""

    def __init__(self, gpu: "PretendGpu", size: int) -> None:
        self.gpu, self.size = gpu, size
        gpu.held += size
        gpu.peak = max(gpu.peak, gpu.held)

    def __del__(self) -> None:
        self.gpu.held -= self.size


class PretendGpu(TorchDispatchMode):
    """The GPU while it is pretended.

    Attributes:
        device: it.
        count: how many GPUs its machine has.
        current: the index of the one that CUDA means where none is named.
        groups: of NCCL, that are not ended.
        waits: how often the processor waited for it, by operation and the line of our code that asked for it.
        whole_matrices: attentions whose scores CUDA would compute as whole matrices, for want of a kernel.
        held: bytes of the tensors that are on it.
        peak: the most that they were.
        computing: whether an operation is under way, which takes all tensors for the CPU's.
        moving: whether our code, and not PyTorch's, asks for a copy on a device.
        in_formula: whether a function of PyTorch is under way that makes tensors beside those that it is given.
        lately: whether the last operation was of tensors that are on it.
        pins: whether main memory can be pinned for it.
        last_error: of a call of CUDA's runtime: the next kernel reports it as its own.
    """

    def __init__(self, capability: tuple[int, int], index: int = 0, count: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capability = capability
        self.device, self.count, self.current = torch.device("cuda", index), count, 0
        self.groups: list[Any] = []
        self.waits: Counter[str] = Counter()
        self.whole_matrices: Counter[str] = Counter()
        self.held = self.peak = 0
        self.computing = 0
        self.moving = self.in_formula = self.lately = False
        self.pins, self.last_error = True, ""

    def has(self, tensor: Any) -> bool:
        """Whether a tensor is on it."""
        if self.computing or isinstance(tensor, FakeTensor):
            return False
        try:
            return hasattr(tensor.untyped_storage(), "pretended")
        except (NotImplementedError, RuntimeError):  # sparse tensors, and such without memory
            return False

    def meant(self, device: torch.device) -> torch.device:
        """The device with its index. Another process's GPU is refused: CUDA would take its memory, and say nothing."""
        if device.type != "cuda":
            return device
        index = self.current if device.index is None else device.index
        if index >= self.count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        if index != self.device.index:
            raise RuntimeError(f"cuda:{index} is another process's, and this one's is {self.device}")
        return self.device

    def take(self, tensor: torch.Tensor) -> None:
        """Note that a tensor's memory is on it."""
        storage: Any = tensor.untyped_storage()
        if not hasattr(storage, "pretended") and not tensor.is_meta:
            storage.pretended = Held(self, storage.nbytes())

    def wait(self, what: str) -> None:
        """Note that the processor waits for it, and where."""
        self.waits[" < ".join([what.removeprefix("aten::"), *_places()])] += 1

    def compute_whole_matrix(self) -> None:
        """Note an attention that it has no kernel for, and where."""
        self.whole_matrices[" < ".join(_places())] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        asked = kwargs.get("device")
        without_values = any(t.is_meta for t in tensors) if asked is None else asked.type == "meta"
        if without_values or any(isinstance(t, FakeTensor) for t in tensors):
            return func(*args, **kwargs)
        if asked is not None:
            self.meant(asked)
        here = [t for t in tensors if self.has(t)]
        self.lately = bool(here) if tensors else self.lately
        name = func._schema.name
        if asked == CPU and (not self.moving if name == "aten::_to_copy" else self.in_formula or _in_formula()):
            # PyTorch's own code asks for the device of what it has.
            there = bool(here) or (name != "aten::_to_copy" and (self.in_formula or self.lately))
        else:
            there = bool(here) if asked is None else asked.type == "cuda"
        if there and self.last_error:
            error, self.last_error = self.last_error, ""
            raise RuntimeError(f"CUDA error: {error}")
        if here:
            self._check(func, name, args, kwargs, here, tensors)
        self._count_waits(name, args, kwargs, here, tensors, there)
        _check_generator(kwargs.get("generator"), there)
        if asked is not None:
            kwargs["device"] = CPU
        if kwargs.pop("pin_memory", None):
            kwargs["pin_memory"] = False
        self.computing += 1
        try:
            if name == "aten::histc":  # a CPU counts no integers
                args = (args[0].float(), *args[1:])
            out = func(*args, **kwargs)
        finally:
            self.computing -= 1
        if there and name != "aten::copy_":
            before = {t.untyped_storage()._cdata for t in tensors}
            for tensor in _tensors([out]):
                if tensor.untyped_storage()._cdata not in before:
                    self.take(tensor)
        return out

    def _check(self, func: Any, name: str, args: Any, kwargs: Any, here: list[Any], tensors: list[Any]) -> None:
        """Refuse what CUDA refuses."""
        if name.startswith("c10d::") and not all(t.is_contiguous() and t.dtype in _NCCL for t in here):
            raise ValueError(f"{name}: NCCL takes contiguous tensors, of {_NCCL}")
        if name in KERNELS_TAKE:
            place, dtypes = KERNELS_TAKE[name]
            if args[place].dtype not in dtypes:
                raise RuntimeError(f"{name} takes no {args[place].dtype} on CUDA")
            if name.startswith("bitsandbytes::int8") and not args[place].is_contiguous():
                raise RuntimeError(f"{name} reads memory in order on CUDA, and its argument lies otherwise")
        if name in _COPIES or len(here) == len(tensors):
            return
        elsewhere = [t for t in tensors if not self.has(t)]
        if name in _INDEXED and self.has(args[0]):
            indices = set(map(id, _tensors([args[1]])))
            elsewhere = [t for t in elsewhere if id(t) not in indices]
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info and argument.alias_info.is_write
        ]
        scalars = name not in _SCALARS_TOO
        if any(t.ndim or not scalars or any(t is one for one in _tensors(written)) for t in elsewhere):
            shapes = [f"{tuple(t.shape)} on {t.device}" for t in tensors]
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {', '.join(shapes)}")

    def _count_waits(self, name: str, args: Any, kwargs: Any, here: list[Any], tensors: list[Any], there: bool) -> None:
        if name in _COPIES:
            source, target = (args[0], there) if name == "aten::_to_copy" else (args[1], self.has(args[0]))
            between = self.has(source) != target
            asynchronous = kwargs.get("non_blocking", args[2] if name == "aten::copy_" and len(args) > 2 else False)
            if between and not asynchronous:
                self.wait(f"{name} to {'cuda' if target else 'cpu'}")
        elif not here:
            return
        elif name in _INDEXED and any(t.dtype in (torch.bool, torch.uint8) for t in _tensors([args[1]])):
            self.wait(f"{name} by a mask")
        elif name in _INDEXED and self.has(args[0]) and not all(map(self.has, _tensors([args[1]]))):
            self.wait(f"{name} by places on the cpu")
        elif name in _WAITS and not (name == "aten::repeat_interleave" and isinstance(args[1], int)):
            self.wait(name)


def _check_generator(generator: Any, there: bool) -> None:
    if generator is not None and (generator._cdata in Generator.on_gpu) != there:
        wanted, found = ("cuda", "cpu") if there else ("cpu", "cuda")
        raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")


def _places() -> list[str]:
    """Who asks for something: the first line outside of PyTorch, and our own."""
    frame: Any = sys._getframe(2)
    while frame and frame.f_code.co_filename.startswith((_TORCH, __file__, pretend_torch.__file__)):
        frame = frame.f_back
    places = [_place(frame)]
    while frame and not frame.f_code.co_filename.startswith(_SCRIPTS):
        frame = frame.f_back
    return list(dict.fromkeys([*places, _place(frame)] if frame else places))


def _place(frame: Any) -> str:
    file = Path(frame.f_code.co_filename)
    return f"{file.parent.name}/{file.name}:{frame.f_lineno}"


def _in_formula() -> bool:
    """Whether PyTorch's own backward formula asks for a tensor: it takes the device of a gradient, that is the CPU."""
    frame: Any = sys._getframe(2)
    while frame and frame.f_code.co_filename.endswith(("torch/_compile.py", "eval_frame.py")):
        frame = frame.f_back
    return bool(frame) and frame.f_code.co_name == "_engine_run_backward"


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


@contextmanager
def pretend_gpu(
    capability: tuple[int, int] = (8, 6), memory: int = 24 << 30, index: int = 0, count: int = 1
) -> Iterator[PretendGpu]:
    """In this block there is a GPU of this compute capability, with so many bytes free: one of `count`."""
    gpu = PretendGpu(capability, index, count)
    with instead_of_torch(gpu), instead_of_cuda(gpu, memory), gpu:
        yield gpu
