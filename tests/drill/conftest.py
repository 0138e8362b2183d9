"""The world that is drilled, and the table of what was tried."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Zygote
from world import World, make_world


class Tried(Counter[str]):
    """Counts by the name of the drill. LORASUM_DRILL_TABLE names a file that has them while drills go on."""

    def __setitem__(self, name: str, count: int) -> None:
        super().__setitem__(name, count)
        if table := os.environ.get("LORASUM_DRILL_TABLE"):
            Path(table).write_text(json.dumps(self, indent=2, sort_keys=True))


_TRIED = Tried()


@pytest.fixture(scope="module")  # its stubs take the place of real containers: not for other tests
def world(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, tiny_chats: Path, clients: Zygote
) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        yield from make_world(tmp_path_factory.mktemp("world"), tiny_model_dir, tiny_chats, clients, patch.setattr)


@pytest.fixture
def tried() -> Counter[str]:
    """Tests count here what they tried."""
    return _TRIED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TRIED:
        terminalreporter.section("drills: how often each was tried")
        for name, count in sorted(_TRIED.items()):
            terminalreporter.line(f"{name:<60} {count:>6,}")
