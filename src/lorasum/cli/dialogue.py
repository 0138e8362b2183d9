"""The dialogue of --text, --file or stdin."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lorasum.cli.options import check_stdin_is_free
from lorasum.context import RunContext
from lorasum.data.chats.chat import Chat
from lorasum.data.chats.exports import read_bytes, read_path
from lorasum.data.chats.written import with_plain_breaks
from lorasum.errors import DataError, LorasumError
from lorasum.formatting import counted
from lorasum.system.files import STDIN, or_stdin
from lorasum.system.paths import doc

_ONE = {"notices": "notice", "empty files": "empty file"}


def given_dialogue(text: str | None, file: Path | None, run: RunContext) -> str:
    """The dialogue that a user gave, whatever form it has; what is left out of an export is said.

    Raises:
        DataError: it cannot be read, is JSON without a chat, or nobody wrote anything in it.
        LorasumError: nothing was given, or stdin is the config.
    """
    how = run.config.data.messages
    read: Callable[[], Chat]
    file = None if file is None or or_stdin(file) == STDIN else file
    if text is None and file is None:
        check_stdin_is_free("the dialogue")
    if text is not None:
        place, read = "--text", partial(read_bytes, os.fsencode(text), how)
    elif file is not None:
        place, read = str(file), partial(read_path, file, how)
    elif sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise LorasumError("nothing to summarise", "give --text, --file or --sample, or pipe a dialogue in")
    else:
        place, read = "stdin", lambda: read_bytes(sys.stdin.buffer.read(), how)
    try:
        chat = read()
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 text, at byte {error.start}", "convert it to UTF-8") from None
    except OSError as error:
        raise DataError(f"{place}: cannot read it: {error.strerror}", "check the path given to --file") from None
    except ValueError as error:
        raise DataError(f"{place}: {error}", f"{doc('chats')} lists the forms of chats that are read") from None
    left_out = ", ".join(
        f"{count} {_ONE.get(kind, kind) if count == 1 else kind}" for kind, count in chat.left_out.items()
    )
    if chat.form and not chat.dialogue:
        raise DataError(
            f"{place}: no messages with text in this {chat.form} ({left_out or 'no messages'})",
            "give a file with at least one message",
        )
    if chat.form:
        lines = counted(chat.dialogue.count("\n") + 1, "line")
        run.reporter.step(f"{place}: {chat.form}, {lines}" + (f"; left out: {left_out}" if left_out else ""))
    return with_plain_breaks(chat.dialogue)
