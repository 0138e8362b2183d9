"""Why a job failed, as text that survives SageMaker's words around it."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: one line of what happened, and one of what to do, which may be empty."""

    message: str
    hint: str = ""


_HINT: Final = "\nhint: "
_FAILURE_LIMIT: Final = 1024  # characters of SageMaker's FailureReason, its own words included
_PLATFORM_PREFIX: Final = "AlgorithmError: "
_PLATFORM_SUFFIX: Final = re.compile(r", exit code: -?\d+\s*$")
_OURS: Final = _FAILURE_LIMIT - len(_PLATFORM_PREFIX) - len(", exit code: 255")


def failure_text(failure: Failure) -> str:
    """The content of the `failure` file. Where both lines together are too long, the message is cut for the hint."""
    message, hint = _one_line(failure.message), _one_line(failure.hint)
    end = (_HINT + hint)[: max(_OURS // 2, _OURS - len(message))] if hint else ""
    return message[: _OURS - len(end)] + end


def read_failure(text: str) -> Failure:
    """What a `failure` file says, or SageMaker's FailureReason, which puts words of its own around it."""
    ours = _PLATFORM_SUFFIX.sub("", text).removeprefix(_PLATFORM_PREFIX.rstrip())
    message, _, hint = ours.partition(_HINT)
    return Failure(_one_line(message), _one_line(hint))


def _one_line(text: str) -> str:
    return " ".join(text.split())
