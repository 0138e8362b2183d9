"""The options that several verbs take, and what an option can be marked with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lorasum.errors import LorasumError


@dataclass(slots=True)
class Settings:
    """What `main` and its error handler must know, whichever verb runs.

    Attributes:
        verbose: set by `-v`, before the verb or after it.
        stdin: what is read from it, "the config" or "the rows"; else empty. Nobody can answer a question there.
    """

    verbose: bool = False
    stdin: str = ""


settings = Settings()


def check_stdin_is_free(wanted: str) -> None:
    """Refuse to read something from stdin after something else.

    Raises:
        LorasumError: it is taken.
    """
    if settings.stdin:
        raise LorasumError(f"stdin is {settings.stdin}, and cannot be {wanted} too", "give one of them another way")


def refuse_together(given: Mapping[str, object]) -> None:
    """Refuse options of which one at most can be given, where several are."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise LorasumError(f"{' and '.join(names)} do not go together", "give one of them")


@dataclass(frozen=True, slots=True)
class Sets:
    """Marks an option that is a short way to write `--set`: `Sets("deploy.expires_after={}")` for `--for 4h`."""

    override: str


def _be_verbose(value: bool) -> None:
    settings.verbose = settings.verbose or value


CONFIG = typer.Option(
    "--config", "-c", metavar="FILE", help="The YAML file of the run; - is stdin.", show_default=False, readable=False
)
"""Not `readable`, whose check typer would make: the error of what opens the file says more."""

ConfigFile = Annotated[Path, CONFIG]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key: training.epochs=1. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings, errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks and jobs' logs.", callback=_be_verbose)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to questions.")]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Requests at once.")]
