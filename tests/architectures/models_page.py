"""The families in docs/models.md: a table of those that differ from the fast way somewhere, and a list of the others.

Run this file to write both again.
"""

from collections.abc import Iterator
from pathlib import Path

from families import FAMILIES, Family

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
_ROUTES = {"packed": ("yes", "lorasum's"), "own": ("yes", "the model's"), "single": ("no", "the model's")}
_HEADS = {"labels": "lorasum's", "rows": "the model's", "all": "the model's, for all tokens"}
_SERVED = {"batched": "together", "alone": "one by one"}
_FAST = ("packed", "labels", "batched")
_HEADER = "| family | model_type | packs | attention | head | prompts |\n|---|---|---|---|---|---|\n"


def rows() -> Iterator[str]:
    """One row of the table for each family that differs from the fast way, in the order of their names."""
    for family in _sorted(is_fast=False):
        cells = (*_ROUTES[family.route], _HEADS[family.head], _SERVED[family.served])
        yield f"| {shown(family)} | `{family.kind}` | {' | '.join(cells)} |\n"


def others() -> str:
    """The families that take the fast way in all columns."""
    names = [f"{shown(family)} (`{family.kind}`)" for family in _sorted(is_fast=True)]
    return f"{len(names)} more take the fast way in all columns: {', '.join(names)}."


def _sorted(is_fast: bool) -> list[Family]:
    chosen = [one for one in FAMILIES if ((one.route, one.head, one.served) == _FAST) == is_fast]
    return sorted(chosen, key=lambda family: shown(family).lower())


def shown(family: Family) -> str:
    """The name of a family as people know it."""
    return family.name or family.kind


def page() -> str:
    """The text of docs/models.md: what is written there, with this table and list."""
    beginning, _, rest = PAGE.read_text(encoding="utf-8").partition(_HEADER)
    _, end, ending = rest.partition("\n## ")
    return f"{beginning}{_HEADER}{''.join(rows())}\n{others()}\n{end}{ending}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
