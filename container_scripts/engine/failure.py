"""What a training job says when it cannot go on."""

import errno
import os
from pathlib import Path

from shared.errors import TrainingError
from shared.failure import Failure, failure_text
from shared.names import FAILURE_FILE

__all__ = ["MergeRefusedError", "PeerLostError", "TrainingError", "write_failure"]


class MergeRefusedError(TrainingError):
    """The merged model is of no use. The adapter is, so the job leaves that alone."""


class PeerLostError(ConnectionError):
    """Another process of the training has ended, and its own message says why."""


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
        return Failure(f"no space left on the disk: {error.filename or error}", "free some disk, then train again")
    first = (str(error).strip().splitlines() or [""])[0]
    return Failure(f"{type(error).__name__}: {first}")
