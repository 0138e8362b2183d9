"""The project's own modules as syntax trees, for the pages and the tests that read them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def _trees(folder: Path) -> dict[Path, ast.Module]:
    """Each module below a folder, by its path. The client's `shared` is a link to the container's."""
    paths = sorted({*folder.rglob("*.py"), *folder.glob("lorasum/shared/*.py")})
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


# Parsed once, and when tests are collected: none has threads yet. Where two threads parse at once, or one prints a
# traceback, Python 3.11 may end either with a SystemError (python/cpython#106905).
CLIENT: Final = _trees(ROOT / "src")
CONTAINER: Final = _trees(ROOT / "container_scripts")


def both_sides() -> Iterator[tuple[str, ast.Module]]:
    """Each module once, such as `lorasum/ledger/ledger.py` of the client and `train.py` of the container."""
    for folder, side in ((ROOT / "src", CLIENT), (ROOT / "container_scripts", CONTAINER)):
        own = {path: tree for path, tree in side.items() if not path.parent.is_symlink()}
        yield from ((path.relative_to(folder).as_posix(), tree) for path, tree in own.items())
