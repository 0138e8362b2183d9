"""The table of docs/models.md, made from the families of the sweep. Run this file to write it anew."""

from collections.abc import Iterator
from pathlib import Path

from families import FAMILIES, Family

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
_ROUTES = {"packed": ("yes", "lorasum's"), "own": ("yes", "the model's"), "single": ("no", "the model's")}
_HEADS = {"labels": "lorasum's", "rows": "the model's", "all": "the model's, for all tokens"}
_SERVED = {"batched": "together", "alone": "one by one"}
_HEADER = "| family | model_type | packs | attention | head | prompts |\n|---|---|---|---|---|---|\n"


def rows() -> Iterator[str]:
    """One row of the table for each family, in the order of their names."""
    for family in sorted(FAMILIES, key=lambda family: shown(family).lower()):
        cells = (*_ROUTES[family.route], _HEADS[family.head], _SERVED[family.served])
        yield f"| {shown(family)} | `{family.kind}` | {' | '.join(cells)} |\n"


def shown(family: Family) -> str:
    """The name of a family as people know it."""
    return family.name or family.kind


def page() -> str:
    """The text of docs/models.md: what is written there, with this table."""
    beginning, _, rest = PAGE.read_text(encoding="utf-8").partition(_HEADER)
    _, end, ending = rest.partition("\n## ")
    return beginning + _HEADER + "".join(rows()) + end + ending


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
