"""What a person sees of a result. `training.py`, `serving.py` and `overview.py` have a function for each record."""

from dataclasses import fields, is_dataclass
from functools import singledispatch

from rich.console import RenderableType

from lorasum.ui.pieces import Facts


@singledispatch
def body(result: object) -> RenderableType:
    """What a person sees of a verb's result: its fields, if none of the modules has a function for its record."""
    if not is_dataclass(result):
        raise TypeError(f"nothing shows a {type(result).__name__}")
    return Facts({one.name.replace("_", " "): str(getattr(result, one.name)) for one in fields(result)})
