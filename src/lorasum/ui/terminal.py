"""Makes text safe to print: a chat, a file name or a model's answer must not control the terminal.

Control characters clear lines, rename the window or change what was printed before. Bidirectional overrides show text
in another order. Each such character is replaced by a visible sign: ESC becomes `␛`.
"""

import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_PIPE_WIDTH = 120  # columns, if the output is not a terminal
_ACTED_ON = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line end
    "\u2028\u2029"  # line ends of their own
    "\u202a-\u202e\u2066-\u2069"  # bidirectional embeddings, overrides and isolates
    "\ud800-\udfff]"  # halves of characters, which no encoding can write
)
_DEL = 0x7F
_WORD = re.compile(r"\S+\s*")
_PICTURES = 0x2400  # Unicode has a picture of each of the first 32 characters from here on


def visible(text: str) -> str:
    """`text` with a visible sign in place of each character that controls a terminal. Line ends and tabs stay."""
    return _ACTED_ON.sub(lambda match: _sign(ord(match[0])), text)


def one_line(text: str) -> str:
    """`visible(text)` with line ends replaced too, so that no text can look like a line of lorasum's own."""
    return visible(text).replace("\n", "␊")


def whole_words(text: Text, width: int) -> list[Text]:
    """The lines of `text`, broken between words. A word longer than a line stays whole, and so does text that may not
    be wrapped, such as a command: to be copied."""
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        if text.no_wrap:
            lines.append(line)
            continue
        breaks, used = [], 0
        for word in _WORD.finditer(line.plain):
            if used and used + cell_len(word[0].rstrip()) > width:
                breaks.append(word.start())
                used = 0
            used += cell_len(word[0])
        lines += line.divide(breaks)
    for line in lines:
        line.rstrip()
    return lines


class _Terminal(Console):
    """A Console that replaces control characters in text. The control codes of rich itself pass.

    Text that may overflow the terminal is broken between words, and never in a word, as rich would do.

    When nobody reads stderr any more it prints nothing more, and the command goes on, to clean up for example. If
    stderr is a file on a full disk, what does not go there is lost.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            if not self.stderr:
                raise

    def on_broken_pipe(self) -> None:
        """Called by rich when the reader has left. Rich's own method would end the process."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # else Python fails at exit

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        options = options or self.options
        if (
            isinstance(renderable, Text)
            and options.overflow == "ignore"
            and not (options.no_wrap or renderable.no_wrap)
        ):
            renderable = Text("\n").join(whole_words(renderable, options.max_width))
            renderable.no_wrap = True
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console(stderr: bool = False) -> Console:
    """A console that makes control characters visible and leaves text alone: no markup, emoji codes or highlights."""
    out = _Terminal(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not (sys.stderr if stderr else sys.stdout).isatty():
        out.width = max(out.width, _PIPE_WIDTH)
    return out


def _sign(code: int) -> str:
    if code < 0x20:
        return chr(_PICTURES + code)
    return "␡" if code == _DEL else f"<U+{code:04X}>"
