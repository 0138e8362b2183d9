"""What of torch.cuda only a CUDA runtime has, for pretend_gpu.py: what it answers, and streams that run in order.

Streams and events do nothing, because all is computed at once in the order in which it is asked for. So a copy that a
real stream would make too early is not seen.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import distributed


class Stream:
    """A stream whose work is done as soon as it is asked for."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.waited_for: list[Any] = []

    def wait_stream(self, stream: Any) -> None:
        self.waited_for.append(stream)

    def wait_event(self, event: Any) -> None:
        self.waited_for.append(event)

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event: Any = None) -> Any:
        return event or Event()


class Event:
    """A mark in such a stream."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def record(self, stream: Any = None) -> None: ...

    def wait(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True


class Cudart:
    """The calls of the runtime that are made by hand."""

    def __init__(self, gpu: Any) -> None:
        self._gpu = gpu

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802  its own name
        if self._gpu.pins:
            return 0
        self._gpu.last_error = "out of memory"
        return 2

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        return 0


@contextmanager
def instead_of_cuda(gpu: Any, memory: int) -> Iterator[None]:
    """In this block torch.cuda answers for a pretended GPU.

    Args:
        gpu: pretend_gpu.PretendGpu.
        memory: its bytes that are free.
    """
    current = Stream()
    answers = _properties(gpu, memory) | _memory(gpu, memory) | _streams(gpu, current)
    accelerator = {
        "is_available": _says(True),
        "current_accelerator": _says(torch.device("cuda")),
        "device_count": _says(gpu.count),
        "current_device_index": lambda: gpu.current,
        "current_stream": _says(current),
    }
    with ExitStack() as stack:
        _forget_what_there_is()
        stack.callback(_forget_what_there_is)
        for module, functions in ((torch.cuda, answers), (torch.accelerator, accelerator)):
            for name, function in functions.items():
                stack.enter_context(patch.object(module, name, function, create=True))
        for name, function in _collectives(gpu).items():
            stack.enter_context(patch.object(distributed, name, function))
        yield


def _collectives(gpu: Any) -> dict[str, Any]:
    """Of torch.distributed: what lies on a GPU goes through NCCL's groups, and nothing else does. They are gloo's."""
    own = {name: getattr(distributed, name) for name in ("all_reduce", "broadcast")}
    new_group, destroy = distributed.new_group, distributed.destroy_process_group

    def checked(name: str) -> Any:
        def collective(tensor: torch.Tensor, *arguments: Any, group: Any = None, **named: Any) -> Any:
            if gpu.has(tensor) != (group in gpu.groups):
                raise RuntimeError(f"No backend type associated with device type {tensor.device.type}")
            return own[name](tensor, *arguments, group=group, **named)

        return collective

    def joined(backend: str, **named: Any) -> Any:
        gpu.meant(torch.device("cuda"))  # NCCL takes the current one
        made = new_group(backend="gloo", **named)
        if backend == "nccl":
            gpu.groups.append(made)
        return made

    def destroyed(group: Any = None) -> None:
        for ended in gpu.groups if group is None else [group]:
            distributed.barrier(ended)  # NCCL's end waits for the other processes of the machine
            gpu.groups.remove(ended)
        destroy(group)

    return {name: checked(name) for name in own} | {"new_group": joined, "destroy_process_group": destroyed}


def _forget_what_there_is() -> None:
    """Let libraries look again whether there is a GPU. bitsandbytes looks once, when it is imported: before."""
    with suppress(ImportError):  # serving has none
        import bitsandbytes  # noqa: F401

    for name in ("accelerate.utils.imports", "peft.import_utils", "transformers.utils.import_utils"):
        for function in vars(import_module(name)).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


def _says(value: Any) -> Any:
    return lambda *_, **__: value


def _properties(gpu: Any, memory: int) -> dict[str, Any]:
    major, minor = gpu.capability
    properties = SimpleNamespace(
        name="a pretended GPU", total_memory=max(memory, 24 << 30), major=major, minor=minor, multi_processor_count=80
    )
    answers = {
        "is_available": True,
        "is_initialized": True,
        "device_count": gpu.count,
        "get_device_capability": gpu.capability,
        "get_device_name": properties.name,
        "get_device_properties": properties,
        "is_bf16_supported": major >= 8,
        "is_current_stream_capturing": False,
        "get_rng_state": torch.ByteTensor(),
        "get_rng_state_all": [],
    }
    nothing = ("init", "_lazy_init", "empty_cache", "ipc_collect", "set_rng_state", "set_rng_state_all")
    answers |= dict.fromkeys((*nothing, "manual_seed", "manual_seed_all"))

    def set_device(device: Any) -> None:
        gpu.current = device if isinstance(device, int) else torch.device(device).index
        gpu.meant(torch.device("cuda"))

    said = {name: _says(value) for name, value in answers.items()}
    return {**said, "current_device": lambda: gpu.current, "set_device": set_device}


def _memory(gpu: Any, memory: int) -> dict[str, Any]:
    def reset() -> None:
        gpu.peak = gpu.held

    def of_own(answer: Callable[[], Any]) -> Callable[..., Any]:
        def of(device: Any = None) -> Any:
            gpu.meant(torch.device("cuda" if device is None else device))
            return answer()

        return of

    answers = {
        "mem_get_info": lambda: (memory - gpu.held, max(memory, 24 << 30)),
        "memory_allocated": lambda: gpu.held,
        "memory_reserved": lambda: gpu.held,
        "max_memory_reserved": lambda: gpu.peak,
        "reset_peak_memory_stats": reset,
        "synchronize": lambda: gpu.wait("synchronize"),
    }
    return {name: of_own(answer) for name, answer in answers.items()}


def _streams(gpu: Any, current: Stream) -> dict[str, Any]:
    return {
        "Stream": Stream,
        "Event": Event,
        "current_stream": _says(current),
        "default_stream": _says(current),
        "stream": lambda _: nullcontext(),
        "device": lambda _: nullcontext(),
        "cudart": lambda: Cudart(gpu),
    }
