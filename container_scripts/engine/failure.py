"""What a training job says when it cannot go on."""

from pathlib import Path

_LONGEST = 1024  # SageMaker's FailureReason


class TrainingError(Exception):
    """A failure the user can act on: one line of what happened, one hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def write_failure(output: Path, error: BaseException) -> None:
    """Leave the reason where SageMaker and the local backend look for it: `failure`, at most 1,024 characters."""
    if isinstance(error, TrainingError):
        text = f"{error.message}\nhint: {error.hint}" if error.hint else error.message
    elif isinstance(error, OSError) and error.errno == 28:
        text = f"no space left on the disk: {error.filename or error}\nhint: free some disk, then train again"
    else:
        first = (str(error).strip().splitlines() or [""])[0]
        text = f"{type(error).__name__}: {first}"
    output.mkdir(parents=True, exist_ok=True)
    (output / "failure").write_text(text[:_LONGEST], encoding="utf-8")
