"""Where `lorasum` begins and ends: the one place where an error becomes a message and an exit code."""

import errno
import io
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from typing import Annotated

import typer
import typer.core
import typer.main

from lorasum import __version__
from lorasum.cli import overview, serving, sharing, streams, training
from lorasum.cli.arguments import as_meant
from lorasum.cli.interrupts import INTERRUPTED, interrupts
from lorasum.cli.options import Verbose, settings
from lorasum.errors import LorasumError
from lorasum.system import paths
from lorasum.ui import render

app = typer.Typer(pretty_exceptions_enable=False, pretty_exceptions_show_locals=False)
for verbs in (training, serving, sharing, overview):  # the order of the help
    app.add_typer(verbs.app)

_COMPLETES = "_LORASUM_COMPLETE"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def _print_version(value: bool) -> None:
    if value:
        render.text(f"lorasum {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Start with: lorasum init chats.csv, or: lorasum init --example quickstart",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def lorasum(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Verbose = False,
) -> None:
    """From chat logs to a fine-tuned summariser behind an endpoint, with nothing left running."""


def main() -> None:
    """Run the command line and exit.

    0 done, 1 unexpected or refused by the user, 2 something to put right, 3 something is billed without need, 4 a score
    is too low, 5 not now, 130 interrupted (after Ctrl-C by that signal), 141 the reader of stdout is gone.
    """
    streams.open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an emoji in a summary must not fail in a C locale
    code = INTERRUPTED  # if a signal comes in one of the last steps, in which nothing else hears of it
    with suppress(KeyboardInterrupt):
        interrupts.install()
        ended = _ended(sys.argv[1:] or ["--help"])
        interrupts.uninstall()
        code = ended or (INTERRUPTED if interrupts.heard else 0)
    interrupts.uninstall()
    if interrupts.heard or code == INTERRUPTED:
        interrupts.end(code)  # Python would wait for what a library has left at work, such as a download
    sys.exit(code)


def _ended(arguments: list[str]) -> int:
    """Run one command, and have all that it printed leave this process. Returns the exit code."""
    try:
        code = _exit_code(arguments)
    except OSError:  # stderr cannot be written either: the error cannot be shown
        code = LorasumError.exit_code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # it was reported above, unless the reader left; Python would report it again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _exit_code(arguments: list[str]) -> int:
    """Run one command, print its error if it fails, and return the exit code. Typer's own handler is not used."""
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup), "there are several verbs"  # noqa: S101
    if os.environ.get(_COMPLETES):  # the shell asks what could follow
        command.main(arguments, prog_name="lorasum", complete_var=_COMPLETES)
    try:
        with command.make_context("lorasum", as_meant(arguments, _verbs(command))) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        render.say("nothing was started, and nothing deleted")
        return 1
    except typer.TyperException as error:  # usage
        render.error(LorasumError(error.format_message(), _usage(error, arguments, command.commands)))
        return error.exit_code
    except LorasumError as error:
        render.error(error, settings.verbose)
        return error.exit_code
    except KeyboardInterrupt:
        render.say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # as in `lorasum status | head -1`
        return 141
    except SystemExit as end:  # as in `lorasum --help | head -1`, by rich
        if isinstance(end.__context__, BrokenPipeError):
            return 141
        raise
    except Exception as error:
        return _unexpected(error)


def _usage(error: typer.TyperException, arguments: list[str], verbs: Collection[str]) -> str:
    """What to do about wrong usage."""
    context = getattr(error, "ctx", None)  # an option without its argument has none
    verb = next((f"lorasum {one}" for one in arguments if one in verbs), "lorasum")
    where = context.command_path if context else verb
    lacks_config = getattr(getattr(error, "param", None), "name", None) == "config"
    give = f"name the YAML file of the run, such as {where} run.yaml; " if lacks_config else ""
    if named := next((one for one in arguments if one in paths.runs()), ""):
        whole = {"lorasum teardown": ", or --all", "lorasum status": ", or nothing for all runs"}.get(where, "")
        give = f"{named} is a run: name its YAML file{whole}; "
    return f"{give}see {where} --help"


def _verbs(group: typer.core.TyperGroup, above: str = "") -> dict[str, set[str]]:
    """Each verb, such as `train`, `config` and `config show`, with its options that take a value."""
    found = {}
    for name, one in group.commands.items():
        options = [option for option in one.params if isinstance(option, typer.core.TyperOption) and not option.is_flag]
        found[f"{above}{name}"] = {spelt for option in options for spelt in option.opts}
        if isinstance(one, typer.core.TyperGroup):
            found |= _verbs(one, f"{above}{name} ")
    return found


def _unexpected(error: Exception) -> int:
    if isinstance(error, OSError) and (problem := _of_the_disk(error)):
        render.error(problem, settings.verbose)
        return problem.exit_code
    render.unexpected(error, settings.verbose)
    return 1


def _of_the_disk(error: OSError) -> LorasumError | None:
    """The error of a disk that is full or a file that is forbidden, whoever met it; None if it is a bug."""
    reason = os.strerror(error.errno or 0)
    if error.filename is not None and error.errno in (*_FULL, *_REFUSED):
        hint = (
            "check its permissions, its owner and the disk; LORASUM_HOME names another folder for lorasum's own files"
        )
        return LorasumError(f"cannot use {error.filename}: {reason}", hint)
    if error.filename is None and error.errno in _FULL:  # a stream
        return LorasumError(f"cannot write what was to be printed: {reason}", "free some disk space")
    return None
