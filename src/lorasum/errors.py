"""Errors a user can act on: one line that says what happened, one hint, one exit code."""

from typing import Final

LATER: Final = 5
"""Exit code of what is not possible just now: the same command may do it later. A script sees that it can try again."""


class LorasumError(Exception):
    """Base of every error lorasum raises on purpose; the CLI prints it as two lines and exits with `exit_code`.

    Args:
        message: what happened, in one line, naming the file, line, field or resource.
        hint: what to do about it, in one line; empty only where there is nothing to do. A traceback ends with it.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")


class ConfigError(LorasumError):
    """The YAML file or a --set override is wrong. `problems` holds one line per wrong field."""

    def __init__(self, message: str, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        for problem in problems:
            self.add_note(problem)
        super().__init__(message, hint)
        self.problems = problems


class DataError(LorasumError):
    """A dataset or one of its rows cannot be used."""


class ModelError(LorasumError):
    """A base model cannot be found, read or converted."""


class HubOutageError(ModelError, DataError):
    """The Hugging Face hub cannot be reached, or answers nobody for now."""

    exit_code = LATER


class BackendError(LorasumError):
    """A backend could not do what was asked: a job failed, an endpoint did not start, a port is taken."""


class OutageError(BackendError):
    """A service cannot be reached, or answers nobody for now. What runs there goes on, and it may be asked again."""

    exit_code = LATER


class UnseenError(OutageError):
    """It is not known whether a paid resource was started. The same command finds it."""


class NoAnswerError(BackendError):
    """An endpoint gave no answer this time: it took too long, broke off, or had a fault. It may be asked again."""


class RefusedError(BackendError):
    """An endpoint refused one request because of its content. It still answers others."""


class InterruptedRunError(LorasumError):
    """The user interrupted a verb. The message says what became of it, such as the step at which the training
    stopped."""

    exit_code = 130


class OverdueError(LorasumError):
    """Something may cost money without need, such as an endpoint whose time is over, or what a damaged ledger recorded.
    Cron sees it by the exit code of `status`."""

    exit_code = 3


class ScoreError(LorasumError):
    """A figure of `evaluate` is below what `--fail-under` asks for. CI sees it by the exit code."""

    exit_code = 4
