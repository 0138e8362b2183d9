"""What a person sees of a result. `training.py`, `serving.py` and `overview.py` have a function for each record."""

from functools import singledispatch

from rich.console import RenderableType


@singledispatch
def body(result: object) -> RenderableType:
    """What a person sees of a verb's result."""
    raise TypeError(f"nothing shows a {type(result).__name__}")
