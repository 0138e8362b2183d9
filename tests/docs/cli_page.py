"""docs/cli.md: what people wrote, and below it each verb with its options, made from the command line itself."""

from collections.abc import Iterator
from typing import Any, Final, get_args

import typer.main
from sources import ROOT

from lorasum.cli.entry import app

_PAGE: Final = ROOT / "docs" / "cli.md"
_MADE: Final = "## Each verb"
"""The heading from which on the page is made."""
_COMMON: Final = {"config", "overrides", "as_json", "quiet", "verbose"}
"""Options of nearly all verbs, which the page tells once."""


def command_line() -> str:
    """The page of all verbs and their options."""
    written = _PAGE.read_text(encoding="utf-8").partition(_MADE)[0]
    verbs = "\n".join(_verb(f"lorasum {name}", command) for name, command in _verbs(typer.main.get_command(app)))
    return f"{written}{_MADE}\n\nMade from the code (`python tests/docs/pages.py`).\n\n{verbs}"


def options() -> dict[str, set[str]]:
    """The options of each verb, such as `--config` and `-c` of `train`."""
    verbs = _verbs(typer.main.get_command(app))
    return {
        name: {spelt for one in command.params for spelt in (*one.opts, *one.secondary_opts)} for name, command in verbs
    }


def _verbs(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Each verb by its name, such as `train` and `config show`, in the order of the help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _verb(name: str, command: Any) -> str:
    """A verb's heading, sentence, own options, and examples."""
    rows = "\n".join(f"| {_spelt(one)} | {_said(one)} |" for one in command.params if one.name not in _COMMON)
    table = f"| option | |\n|---|---|\n{rows}\n\n" if rows else ""
    common = [f"`{one.opts[0]}`" for one in command.params if one.name in _COMMON]
    fewer = f"Of the common options it takes {', '.join(common)}.\n\n" if len(common) < len(_COMMON) else ""
    examples = command.epilog.replace("\n\n", "\n")
    return f"### `{name}`\n\n{' '.join(command.help.split())}\n\n{table}{fewer}```\n{examples}\n```\n"


def _spelt(option: Any) -> str:
    """An option as it is typed: `--follow`, `-f`, or `--output FILE`."""
    if option.param_type_name == "argument":
        return f"`{option.metavar}`"
    value = "" if option.is_flag else f" {option.metavar or _kind(option.type_descriptor.annotation)}"
    return ", ".join(f"`{spelt}{value}`" for spelt in (*option.opts, *option.secondary_opts))


def _kind(annotation: Any) -> str:
    """What an option without a name for its value takes: `local|sagemaker`, a number or a text."""
    choices = "\\|".join(map(str, get_args(annotation)))
    return choices or ("N" if annotation is int else "TEXT")


def _said(option: Any) -> str:
    return " ".join((option.help or "").split()).replace("|", "\\|")
