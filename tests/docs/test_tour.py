"""The tour: each command of docs/tour.md prints what stands below it, with a real training and endpoint."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tour
from forks import Zygote

pytestmark = pytest.mark.slow

_LORASUM = "import os\nos.chdir(os.environ['HOME'])\nfrom lorasum.cli import main\nmain()\n"


@pytest.fixture
def run(tmp_path: Path, clients: Zygote, tiny_tokenizer_dir: Path) -> Iterator[Callable[[str], str]]:
    """Runs a command of the page in a home that has chats and a toy model, and returns what it prints."""
    home = tmp_path / "ana"
    home.mkdir()
    shutil.copy(tour.CHATS, home)
    tour.write_toy(home / "toy", tiny_tokenizer_dir)
    script = tmp_path / "lorasum.py"
    script.write_text(_LORASUM)

    def lorasum(*arguments: str) -> str:
        ended = clients.start([*arguments], {"HOME": str(home)}, {}, str(script)).wait()
        assert ended.code == 0, ended.stderr
        return ended.stderr + ended.stdout

    def run(command: str) -> str:
        program, *arguments = shlex.split(command)
        if program == "lorasum":
            said = lorasum(*arguments)
        else:
            said = subprocess.run(command, shell=True, cwd=home, capture_output=True, text=True, check=True).stdout
        return "".join(f"{line.rstrip()}\n" for line in said.replace(str(home), tour.HOME).splitlines())

    yield run
    lorasum("teardown", "--all", "--yes")
    others = [path for path in (home / ".lorasum").rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o077]
    assert others == [], "all that lorasum writes is for its owner alone"


def test_each_command_of_the_tour_prints_what_the_page_shows(run: Callable[[str], str]) -> None:
    page = tour.PAGE.read_text(encoding="utf-8")
    now = tour.with_outputs(page, run)
    if tour.WRITE in os.environ:
        tour.PAGE.write_text(now, encoding="utf-8")
    else:
        assert tour.steady(now) == tour.steady(page), "if that is meant, run python tests/docs/tour.py"


def test_what_differs_from_run_to_run_is_hidden_and_nothing_else() -> None:
    assert tour.steady("trained chats-0a1b2c3d in 4.1 s at 12,000 tokens/s\n") == tour.steady(
        "trained chats-ffff0000 in 1 min 2 s at 9 tokens/s\n"
    )
    assert tour.steady("· step 3/9 · 12.0 s left\ndone\n") == "done\n"
    assert tour.steady("24 dialogues") != tour.steady("25 dialogues")
