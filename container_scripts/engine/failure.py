"""What a training job says when it cannot go on."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gpu import first_line, is_out_of_memory
from shared.errors import TrainingError
from shared.failure import Failure, failure_text
from shared.names import FAILURE_FILE

if TYPE_CHECKING:
    from engine.fitting import Plan

__all__ = ["MergeRefusedError", "PeerLostError", "TrainingError", "explain_lack_of_memory", "write_failure"]


class MergeRefusedError(TrainingError):
    """The merged model is of no use. The adapter is, so the job leaves that alone."""


class PeerLostError(ConnectionError):
    """Another process of the training has ended, and its own message says why."""


@contextmanager
def explain_lack_of_memory(plan: "Plan") -> Iterator[None]:
    """In this block, say what would help if memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory: {first_line(error)} The estimate was {plan.memory}, "
            f"with {plan.free / 2**30:.2f} GiB free before loading",
            "lower data.max_length or training.per_device_batch_size, or set training.gradient_checkpointing: true",
        ) from error


def write_failure(output: Path, error: BaseException) -> bool:
    """Leave the reason in `failure`, where SageMaker and the local backend look for it.

    Of several processes, the first one's reason stays. Returns whether this one was written.
    """
    output.mkdir(parents=True, exist_ok=True)
    try:
        with (output / FAILURE_FILE).open("x" if "RANK" in os.environ else "w", encoding="utf-8") as file:
            file.write(failure_text(_failure(error)))
    except FileExistsError:
        return False
    return True


def _failure(error: BaseException) -> Failure:
    if isinstance(error, TrainingError):
        return Failure(error.message, error.hint)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        full = error.filename2 or error.filename or error  # of a copy, the second one is written
        return Failure(f"no space left on the disk: {full}", "free some disk, then train again")
    first = (str(error).strip().splitlines() or [""])[0]
    return Failure(f"{type(error).__name__}: {first}")
