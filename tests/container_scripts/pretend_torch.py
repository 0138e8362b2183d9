"""What of torch is C code that takes all tensors for the CPU's, for pretend_gpu.py: here it is told where they are."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.utils._device import _device_constructors

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_own_grouped: Any = torch._C._group_tensors_by_device_and_dtype


class Generator(torch.Generator):
    """A generator of a device, that draws on the CPU."""

    on_gpu: ClassVar[set[int]] = set()
    gpu: ClassVar[Any] = None

    _cdata: int  # of the generator itself: PyTorch shows operations another object of it

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        if cls.gpu.meant(torch.device(device)).type == "cuda":
            cls.on_gpu.add(made._cdata)
        return made

    def __del__(self) -> None:
        self.on_gpu.discard(self._cdata)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.gpu.device if self._cdata in self.on_gpu else CPU


def _methods(gpu: Any) -> dict[str, Any]:
    """What of torch.Tensor is PyTorch's C code, which takes all tensors for the CPU's."""
    base: Any = torch._C.TensorBase
    own = {name: getattr(torch.Tensor, name) for name in ("to", "tolist", "numpy", "__array__", "is_pinned")}

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        copy = kwargs.pop("copy", False)
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        kwargs = {k: v.device if k == "other" else v for k, v in kwargs.items()}
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
        device = device and gpu.meant(device)
        if device is None or device.type == self.device.type or gpu.computing:
            more = {} if layout is None else {"memory_format": layout}
            return own["to"](self, dtype=dtype or self.dtype, non_blocking=non_blocking, copy=copy, **more)
        gpu.moving, layout = True, layout or torch.preserve_format
        try:
            return torch.ops.aten._to_copy(
                self,
                dtype=dtype,
                device=device,
                non_blocking=non_blocking,
                memory_format=layout or torch.preserve_format,
            )
        finally:
            gpu.moving = False

    def waiting(self: Any) -> Any:
        if gpu.has(self):
            gpu.wait("tolist")
        return own["tolist"](self)

    def read(name: str) -> Callable[..., Any]:
        def method(self: Any) -> Any:
            if gpu.has(self):
                gpu.wait(name)  # here, because no dispatch mode sees it in inference mode
            gpu.computing += 1
            try:
                return getattr(base, name)(self)
            finally:
                gpu.computing -= 1

        return method

    def refused(name: str) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            if gpu.has(self):
                raise TypeError(f"can't convert {gpu.device} device type tensor to numpy. Use Tensor.cpu() first")
            return own[name](self, *args, **kwargs)

        return method

    def pin_memory(self: Any, *_: Any) -> Any:
        if gpu.has(self):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        pinned: Any = self.clone()
        pinned.untyped_storage().pinned = True
        return pinned

    return {
        **{name: read(name) for name in ("item", "__bool__", "__int__", "__float__", "__index__")},
        "device": property(lambda self: gpu.device if gpu.has(self) else base.device.__get__(self)),
        "is_cuda": property(gpu.has),
        "is_cpu": property(lambda self: not gpu.has(self) and base.is_cpu.__get__(self)),
        "get_device": lambda self: gpu.device.index if gpu.has(self) else -1,
        "to": to,
        "cpu": lambda self, memory_format=torch.preserve_format: to(self, CPU, memory_format=memory_format),
        "cuda": lambda self, device=None, non_blocking=False: to(
            self, torch.device("cuda", device), non_blocking=non_blocking
        ),
        "tolist": waiting,
        "numpy": refused("numpy"),
        "__array__": refused("__array__"),
        "pin_memory": pin_memory,
        "is_pinned": lambda self, *_: hasattr(self.untyped_storage(), "pinned"),
        "record_stream": lambda self, stream: None,
    }


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    """PyTorch's own, by the devices that tensors say they are on."""
    found = _own_grouped(lists, with_indices)
    return {(lists_of[0][0].device, key[1]): (lists_of, at) for key, (lists_of, at) in found.items()}


def _made_and_copied(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch.tensor and its like: they copy what they make to the device, where no dispatch mode sees it."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if device is None:
            return make(data, *args, **kwargs)
        if torch.device(device).type == "meta":
            return make(data, *args, device=device, **kwargs)
        return make(data, *args, **kwargs).to(device)

    return made


def _composite(gpu: Any, own: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function that makes tensors of its own, such as a mask, on the device of its first."""

    def function(first: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        before, gpu.in_formula = gpu.in_formula, gpu.has(first)
        try:
            return own(first, *more, **named)
        finally:
            gpu.in_formula = before

    return function


class Attention(NamedTuple):
    """The arguments of an attention."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    enable_gqa: bool = False


def _is_flash(gpu: Any, of: Attention) -> bool:
    """Whether FlashAttention takes it, by the rules in PyTorch's sdp_utils.cpp."""
    width, halves = of.query.shape[-1], (torch.float16, torch.bfloat16)
    fits = width == of.value.shape[-1] and width <= 256 and of.attn_mask is None and of.query.dtype in halves
    small = gpu.capability in ((8, 6), (8, 9), (12, 0), (12, 1)) and of.query.requires_grad
    return fits and gpu.capability >= (8, 0) and not (small and (192 < width <= 224 or (width > 192 and of.dropout_p)))


def _counted(gpu: Any, attention: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Count the calls for which CUDA has neither of its two kernels, and computes scores as whole matrices."""

    def counted(*arguments: Any, scale: float | None = None, **named: Any) -> torch.Tensor:
        of = Attention(*arguments, **named)
        newer = gpu.capability >= (8, 0) or of.query.dtype != torch.bfloat16
        if gpu.has(of.query) and not (newer and of.query.shape[-3] == of.key.shape[-3]) and not _is_flash(gpu, of):
            gpu.compute_whole_matrix()
        return attention(*arguments, scale=scale, **named)

    return counted


@contextmanager
def instead_of_torch(gpu: Any) -> Iterator[None]:
    """In this block torch's functions and tensors know of it; `gpu` is a pretend_gpu.PretendGpu."""
    own_clone: Any = torch.UntypedStorage.clone

    def clone(self: Any) -> Any:
        copied: Any = own_clone(self)
        if hasattr(self, "pretended"):
            copied.pretended = type(self.pretended)(gpu, copied.nbytes())
        return copied

    _device_constructors()  # PyTorch keeps the set of these functions: now it is that of its own
    with ExitStack() as stack:
        for name, method in _methods(gpu).items():
            stack.enter_context(patch.object(torch.Tensor, name, method, create=True))
        for name in ("tensor", "as_tensor", "asarray"):
            stack.enter_context(patch.object(torch, name, _made_and_copied(getattr(torch, name))))
        stack.enter_context(patch.object(torch.UntypedStorage, "clone", clone))
        stack.enter_context(patch.object(Generator, "gpu", gpu))
        stack.enter_context(patch.object(torch, "Generator", Generator))
        attention = _composite(gpu, functional.scaled_dot_product_attention)
        stack.enter_context(patch.object(functional, "scaled_dot_product_attention", _counted(gpu, attention)))
        stack.enter_context(patch.object(functional, "one_hot", _composite(gpu, functional.one_hot)))
        stack.enter_context(patch.object(torch.backends.cuda, "SDPAParams", Attention))
        stack.enter_context(patch.object(torch.backends.cuda, "can_use_flash_attention", partial(_is_flash, gpu)))
        stack.enter_context(patch.object(torch._C, "_group_tensors_by_device_and_dtype", _grouped))
        stack.enter_context(patch.dict(os.environ, HF_DEACTIVATE_ASYNC_LOAD="1"))
        yield
