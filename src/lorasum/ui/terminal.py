"""The edge to the terminal: whatever a chat, a file name or a model says, the terminal shows it and does not obey it.

A terminal acts on control characters: they clear lines, retitle the window, change what was printed before.
Bidirectional overrides show text in another order than it has. Each is replaced by a sign that can be seen: ESC by `␛`.
"""

import os
import re
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_PIPE_WIDTH = 120  # columns, where no terminal says how wide it is
_ACTED_ON = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line end
    "\u2028\u2029"  # line ends of their own
    "\u202a-\u202e\u2066-\u2069"  # bidirectional embeddings, overrides and isolates
    "\ud800-\udfff]"  # halves of characters, which no encoding can write
)
_DEL = 0x7F
_PICTURES = 0x2400  # Unicode has a picture of each of the first 32 characters from here on


def visible(text: str) -> str:
    """`text` with a sign in the place of every character that a terminal would act on. Line ends and tabs stay."""
    return _ACTED_ON.sub(lambda found: _sign(ord(found[0])), text)


def one_line(text: str) -> str:
    """`visible(text)` with line ends as signs too, so that no text can look like a line of ours."""
    return visible(text).replace("\n", "␊")


class _Terminal(Console):
    """A Console through which no character gets that a terminal acts on, but those that rich itself makes.

    Where nobody reads stderr any more it goes quiet: what is being done, and cleaned up, goes on.
    """

    def on_broken_pipe(self) -> None:
        """Called by rich where a reader has left; its own would end the process."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # else Python fails on it at exit

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console(stderr: bool = False) -> Console:
    """A console that prints text as it is, made visible: no markup, no emoji codes, no guessed highlights."""
    out = _Terminal(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not (sys.stderr if stderr else sys.stdout).isatty():
        out.width = max(out.width, _PIPE_WIDTH)
    return out


def _sign(code: int) -> str:
    if code < 0x20:
        return chr(_PICTURES + code)
    return "␡" if code == _DEL else f"<U+{code:04X}>"
