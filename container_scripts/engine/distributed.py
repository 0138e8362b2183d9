"""Several processes that train one adapter together: who they are, and what they tell each other.

Each process has a device of its own, and there the frozen base model, quantized, a copy of the adapter, and one of its
optimizer. What of the base a device has no room for, the processes of a machine share (host_weights.py). One optimizer
step, with N = tokens that have a label in all packs of the step:

    process p:   loss = sum of cross-entropy over its share of the step (work_split.py) / N;   gradients g_p of it
    together:    g = sum of g_p over all processes       one all-reduce of one buffer (gradients.py)
    process p:   clip g, AdamW: the same numbers in every process, so that the copies stay equal

This is what one process does with the same packs, but for the order in which numbers are added up. The buffer also
holds the loss of every forward pass, and whether a process was asked to stop: so all processes see the same losses,
and stop after the same step.

An all-reduce of n bytes sends 2 n (p - 1) / p bytes from each of p processes (Patarasuk and Yuan 2009). Example: rank 8
on query_key_value of BLOOMZ-7B1 has 3.9 million parameters, 15.7 MB. torch's DistributedDataParallel would send them
during the backward pass, which does not pay at this size; it wraps the model, and it cannot carry the losses.

Tensors on GPUs go through NCCL, everything else through gloo. NCCL's end waits for all processes of a machine, so they
end it together after the training, before the first one merges. If one is killed, gloo tells the others at once. NCCL's
kernel goes on waiting for it, by its sources, and Python hears no signal meanwhile: launch.py kills them, and the steps
since the last checkpoint are lost.

The processes find each other as torchrun's do: by the variables RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, and
MASTER_ADDR with MASTER_PORT or, on one machine, a file (names.RENDEZVOUS). launch.py sets them.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from engine.failure import PeerLostError, TrainingError
from gpu import first_line
from shared.names import RENDEZVOUS

_PATIENCE = timedelta(hours=1)  # for a process that downloads its base model longer than the others
_GPU_PATIENCE = timedelta(minutes=10)  # for one that computes the same step: all machines are paid for meanwhile
_OWN_FAULTS = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))  # before PyTorch 2.8
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of one training, as one of them sees them. By default it is alone."""

    rank: int = 0
    """Number of this process, from 0. The first one writes all files."""
    size: int = 1
    """How many processes there are."""
    local_rank: int = 0
    """Number of this process on its machine."""
    local_size: int = 1
    """How many there are on its machine."""
    gpus: distributed.ProcessGroup | None = None
    """NCCL, for tensors on GPUs."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its sum over all processes, with one all-reduce.

        Args:
            tensor: of the same shape and dtype in all processes.

        Raises:
            PeerLostError: a process has ended.
        """
        if self.size > 1:
            with _explained(RuntimeError):
                distributed.all_reduce(tensor, group=self.gpus)

    def read(self, tensor: torch.Tensor) -> list[float]:
        """The values of a tensor of one dimension. On a GPU this waits for what it is computed from.

        Raises:
            PeerLostError: it depends on another process, which has ended.
        """
        with _explained(distributed.DistError):
            values: list[float] = tensor.tolist()
        return values

    def copy_from_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give the tensors the values that they have in the first process, once all processes have come here.

        Raises:
            PeerLostError: a process has ended.
        """
        if self.size > 1:
            self.from_all(None)  # through gloo, which is more patient
            with _explained(RuntimeError):
                for tensor in tensors:
                    distributed.broadcast(tensor, src=0, group=self.gpus)

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What `make` returns in the first process; only there it is called.

        Raises:
            PeerLostError: a process has ended.
        """
        if self.size == 1:
            return make()
        made = [make() if self.is_first else None]
        with _explained(RuntimeError):
            distributed.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def from_all(self, value: Value) -> list[Value]:
        """The values of all processes, by rank.

        Raises:
            PeerLostError: a process has ended.
        """
        if self.size == 1:
            return [value]
        values: list[Value | None] = [None] * self.size
        with _explained(RuntimeError):
            distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def leave_gpus(self) -> None:
        """End NCCL, once no tensor is to be sent. All processes do it at the same time, for it waits for them.

        Raises:
            PeerLostError: a process has ended.
        """
        if self.gpus is not None:
            with _explained(RuntimeError), _ended_by_sigterm():
                distributed.destroy_process_group(self.gpus)

    def end_together(self) -> None:
        """Leave the group. Processes of other machines first wait until the first one calls this, or has ended.

        A service could take a machine that ends for the end of the job.
        """
        if self.size > self.local_size and (self.is_first or self.rank >= self.local_size):
            with suppress(PeerLostError), _ended_by_sigterm():
                self.from_first(lambda: None)
        if distributed.is_initialized():
            distributed.destroy_process_group()


ALONE = Group()


def join(environ: Mapping[str, str]) -> Group:
    """The group that the variables name; this process alone if they name none.

    Raises:
        TrainingError: there are more processes than GPUs.
        PeerLostError: another process has ended.
    """
    size = int(environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ALONE
    rank = int(environ["RANK"])
    group = Group(rank, size, int(environ.get("LOCAL_RANK", rank)), int(environ.get("LOCAL_WORLD_SIZE", size)))
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        if (gpus := torch.cuda.device_count()) < group.local_size:
            raise TrainingError(
                f"{group.local_size} processes were started on a machine with {gpus} GPU{'s' if gpus > 1 else ''}",
                f"start at most {gpus}: local.processes",
            )
        torch.cuda.set_device(group.local_rank)
    with _explained(RuntimeError), _ended_by_sigterm():
        distributed.init_process_group(
            "gloo", environ.get(RENDEZVOUS, "env://"), rank=group.rank, world_size=size, timeout=_PATIENCE
        )
        return replace(group, gpus=distributed.new_group(backend="nccl", timeout=_GPU_PATIENCE)) if on_gpus else group


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """In this block SIGTERM ends the process at once: Python hears no signal while it waits for other processes."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _explained(kind: type[RuntimeError]) -> Iterator[None]:
    """Say what an error of a connection means. A fault of this process's own GPU is none."""
    try:
        yield
    except _OWN_FAULTS:
        raise
    except kind as error:
        reason = first_line(error)
        raise PeerLostError(f"another process of the training has ended: {reason}") from error
