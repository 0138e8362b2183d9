"""One frozen base model for all training processes of a machine: its codes lie once, in main memory that they share.

    main memory      | layer 0 q | layer 0 k | layer 0 v | ... | layer 79 down |      codes: once, for all processes
                           |           |           |
    each process     scales, biases, norms, embeddings, head, adapter, activations
      on a CPU       reads the codes where they are
      on a GPU       two places for the codes of a product, which are copied there for it (weight_prefetch.py)

Codes are what a linear layer, or a stack of experts, holds its weight as (weight_storage.py). They are frozen, so
nobody waits for anybody: processes may be at different layers, stop, or be killed, and what is computed is what each
would compute with codes of its own. Each GPU receives the codes twice in a pass that trains, forward and backward, and
once more for layers that are recomputed; of experts only those that a token goes to. Those that it has room for stay on
it (`resident`).

    Llama 70B, int8, 4 GPUs of 24 GB:   68 GB in main memory; on each GPU 4.2 GB of embeddings and head, 0.5 GB of
                                        places for codes, and the rest for activations and for codes that stay

Loading. transformers quantizes one weight after the other. As soon as it has set one, its codes are written to their
place, by the process whose turn it is, and let go: no process ever holds the base. All quantize all of it, as they do
without sharing, because each needs the scales. What is written is what would be held, so the bits are the same.

The shared memory is a file that lies in no folder (Linux' memfd_create), so it ends with the last process that has it,
however that ends, and no limit of /dev/shm holds for it. PyTorch's FSDP2 was weighed: docs/design-notes.md.
"""

import logging
import mmap
import os
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch

from engine.distributed import ALONE, Group
from engine.failure import TrainingError
from engine.process_memory import give_back
from engine.weight_prefetch import Fetcher
from engine.weight_storage import codes_of, keep_codes

_log = logging.getLogger(__name__)
_ALIGNED = 64  # bytes: a place may begin with a value of any type
_COMPARED = 64  # bytes of each weight, the last to be written, by which a process sees that it has its own codes
CAN_SHARE = hasattr(os, "memfd_create")


class SharedBase:
    """The codes of one machine's base model.

    Args:
        weights: names of the parameters whose codes are shared.
        device: of this process.
        group: the processes. Those of one machine share; all of them make a SharedBase, and call `share`.
        resident: bytes of codes that stay on the device: the first ones that fit.
        fetches: whether products need the codes on the device; by default where that is no CPU.
    """

    def __init__(
        self,
        weights: Collection[str],
        device: torch.device,
        group: Group = ALONE,
        resident: int = 0,
        fetches: bool | None = None,
    ) -> None:
        self._weights = frozenset(weights)
        self._device, self._group, self._resident = device, group, resident
        self._fetches = device.type != "cpu" if fetches is None else fetches
        self._places: dict[str, tuple[int, torch.Size, torch.dtype]] = {}
        self._ends: list[torch.Tensor] = []
        self._bytes = 0
        own = os.memfd_create("base model") if group.local_rank == 0 else None
        path = group.from_all(f"/proc/{os.getpid()}/fd/{own}")[group.rank - group.local_rank]
        self._file = os.open(path, os.O_RDWR) if own is None else own

    @contextmanager
    def loading(self) -> Iterator[None]:
        """In this block, models that transformers loads have their codes moved here, one by one."""
        from transformers import core_model_loading, modeling_utils

        set_parameter, warm_up = core_model_loading.set_param_for_module, modeling_utils.caching_allocator_warmup
        asynchronous = os.environ.get("HF_DEACTIVATE_ASYNC_LOAD")

        def set_and_move(model: Any, name: str, *more: Any) -> None:
            set_parameter(model, name, *more)
            if name in self._weights:
                self._move(name, model.get_parameter(name))

        core_model_loading.set_param_for_module = set_and_move
        modeling_utils.caching_allocator_warmup = lambda *_: None  # it would reserve the whole base on the device
        os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # its threads would read the whole base ahead
        try:
            yield
        finally:
            core_model_loading.set_param_for_module, modeling_utils.caching_allocator_warmup = set_parameter, warm_up
            os.environ.pop("HF_DEACTIVATE_ASYNC_LOAD")
            if asynchronous is not None:
                os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = asynchronous

    def _move(self, name: str, weight: Any) -> None:
        """Write a weight's codes to the next place, if it is this process's turn, and let them go."""
        codes = codes_of(weight)
        if codes.nbytes <= self._resident:
            self._resident -= codes.nbytes
            return
        if len(self._places) % self._group.local_size == self._group.local_rank:
            for number, part in enumerate(codes):
                _write(self._file, _bytes_of(part).cpu().numpy().data, self._bytes + number * part.nbytes)
        self._ends.append(_end(codes))
        self._places[name] = (self._bytes, codes.shape, codes.dtype)
        self._bytes += -(-codes.nbytes // _ALIGNED) * _ALIGNED
        keep_codes(weight, codes.new_empty((*codes.shape[:-1], 0)))
        give_back()  # glibc would keep blocks of all layers, which are as large as the base

    def share(self, model: Any) -> int:
        """Give the weights of a model that was loaded in `loading` the shared codes. Returns how many have them.

        It waits until all processes have written theirs.

        Raises:
            TrainingError: what another one has written is not what this one would have.
            PeerLostError: a process has ended.
        """
        codes = self._mapped()
        if not all(torch.equal(_end(held), end) for held, end in zip(codes.values(), self._ends, strict=True)):
            raise TrainingError(
                "the processes of this machine do not have the same base model to share",
                "start the job again, or set training.engine.base: whole",
            )
        fetcher = Fetcher(list(codes.values()), self._device) if self._fetches and codes else None
        for number, (name, held) in enumerate(codes.items()):
            weight = model.get_parameter(name)
            keep_codes(weight, held)
            if fetcher:
                weight.fetch = partial(fetcher.fetch, number)
        return len(codes)

    def _mapped(self) -> dict[str, torch.Tensor]:
        """The codes of all weights as they lie in main memory, once all processes have written theirs."""
        self._group.from_all(None)
        os.truncate(self._file, max(self._bytes, mmap.PAGESIZE))  # to the same length by all: what is last is padding
        mapped = mmap.mmap(self._file, 0)
        os.close(self._file)
        _pin(mapped, self._device)
        whole = torch.frombuffer(mapped, dtype=torch.uint8)
        return {
            name: whole[start : start + shape.numel() * dtype.itemsize].view(dtype).view(shape)
            for name, (start, shape, dtype) in self._places.items()
        }


def _bytes_of(codes: torch.Tensor) -> torch.Tensor:
    return codes.contiguous().flatten().view(torch.uint8)


def _end(codes: torch.Tensor) -> torch.Tensor:
    """The bytes that are written last."""
    return _bytes_of(codes[-1])[-_COMPARED:].cpu().clone()


def _write(file: int, data: memoryview, place: int) -> None:
    while data:  # Linux writes 2 GiB at once at most
        written = os.pwrite(file, data, place)
        data, place = data[written:], place + written


def _pin(mapped: mmap.mmap, device: torch.device) -> None:
    """Tell CUDA that this memory stays where it is, so that a GPU reads it at full speed, beside its computing."""
    if device.type != "cuda":
        return
    runtime: Any = torch.cuda.cudart()
    address = torch.frombuffer(mapped, dtype=torch.uint8).data_ptr()
    if error := int(runtime.cudaHostRegister(address, len(mapped), 0)):
        _log.warning("the shared base model cannot be pinned (CUDA error %d): copies to the GPU are slower", error)
        with suppress(RuntimeError):  # CUDA keeps the error, and the next kernel would report it as its own
            torch.zeros(1, device=device)
        return
    weakref.finalize(mapped, runtime.cudaHostUnregister, address).atexit = False
