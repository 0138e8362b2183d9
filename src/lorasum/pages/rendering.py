"""Turns a template of `templates/` and its values into a page. Every value is escaped, unless it is markup already."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from markupsafe import Markup

from lorasum import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")


class TableRow(NamedTuple):
    """A row of a table: its name, then its values. `style` is a class of the style sheet."""

    cells: tuple[str, ...]
    style: Literal["", "chosen", "differs"] = ""


def render(template: str, title: str, **values: object) -> str:
    """The page as text: one file that loads nothing else.

    Raises:
        jinja2.UndefinedError: the template needs a value that was not given.
    """
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704  our own file
    return _environment().get_template(template).render(title=title, style=style, version=__version__, **values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(_TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
