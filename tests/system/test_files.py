"""Files and folders are there whole or not at all, and for their owner alone."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorasum.errors import DataError, LorasumError
from lorasum.lifecycle.answers import Answer, AnswerLog, answers_of
from lorasum.system.files import (
    USER_FILE_MODE,
    first_line,
    make_folder,
    maker_lock,
    new_file,
    new_folder,
    open_file,
    write_file,
)


def test_folder_appears_when_the_block_ends_and_replaces_a_broken_one(tmp_path: Path) -> None:
    target = tmp_path / "data" / "abc"
    target.mkdir(parents=True)
    (target / "old").touch()
    with new_folder(target) as folder:
        (folder / "new").write_text("x")
        assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["abc"]


@pytest.mark.parametrize("error", [DataError("bad row"), KeyboardInterrupt()])
def test_nothing_is_left_when_the_block_fails(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "data" / "abc") as folder:
            (folder / "half").write_text("x")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert not list(tmp_path.iterdir())


def test_files_of_a_killed_attempt_are_removed(tmp_path: Path) -> None:
    left = tmp_path / ".abc.partial"
    left.mkdir()
    (left / "half").touch()
    with new_folder(tmp_path / "abc") as folder:
        assert not list(folder.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_failing_to_write_is_one_line_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    folder = tmp_path / ("home" if is_ours else "mine")
    make_folder(folder)
    (folder / "file").touch()
    with (
        pytest.raises(LorasumError, match=r"cannot write .*: Not a directory") as caught,
        new_folder(folder / "file/abc"),
    ):
        pass
    assert ("LORASUM_HOME" in caught.value.hint) == is_ours, "what the user has named is not moved by it"


def test_a_second_maker_is_told_to_wait_for_the_first(tmp_path: Path) -> None:
    target, order, waiting = tmp_path / "data" / "abc", [], threading.Event()

    def second() -> None:
        with maker_lock(target, waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with maker_lock(target, lambda: pytest.fail("nobody else holds it")):
        thread.start()
        assert waiting.wait(100)
        order.append("first")
    thread.join(100)
    assert order == ["first", "second"]


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask of somebody who hides nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "kept.json"
    write_file(path, "first")

    def fail() -> None:
        with new_file(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "first"
    write_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert [left.name for left in path.parent.iterdir()] == ["kept.json"]


def test_the_next_write_removes_files_of_a_killed_one(tmp_path: Path) -> None:
    path = tmp_path / "kept[1].json"
    script = (
        "import os, sys; from pathlib import Path; from lorasum.system.files import new_file\n"
        "with new_file(Path(sys.argv[1])) as file:\n    file.write('half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert [left.suffix for left in tmp_path.iterdir()] == [".part"]
    with new_file(path) as mine:
        mine.write("a")
        write_file(path, "b")  # another writer that lives is left alone
    assert path.read_text() == "a"
    assert [left.name for left in tmp_path.iterdir()] == ["kept[1].json"]


def test_files_are_private_with_any_umask(tmp_path: Path, open_umask: None) -> None:
    home = tmp_path / "home"
    make_folder(home / "runs")
    write_file(home / "a.json", "x")
    with open_file(home / "b.log", "ab") as log:
        log.write(b"x")
    with new_folder(home / "runs" / "data") as folder:
        (folder / "shard").mkdir()
        (folder / "shard" / "packs").write_bytes(b"x")
    with maker_lock(home / "models" / "x", lambda: None):
        pass
    everything = [home, *home.rglob("*")]
    assert {mode(path) for path in everything if path.is_dir()} == {"drwx------"}
    assert {mode(path) for path in everything if path.is_file()} == {"-rw-------"}
    write_file(tmp_path / "answers.jsonl", "x", USER_FILE_MODE)
    assert mode(tmp_path / "answers.jsonl") == "-rw-rw-rw-", "the user's own file, and the user's umask"


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    make_folder(tmp_path / "shared" / "mine")
    assert (mode(tmp_path / "shared"), mode(tmp_path / "shared" / "mine")) == ("drwxr-xr-x", "drwx------")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a\nb"), "a"),
        (ValueError("\n a \nb"), "a"),
        (KeyboardInterrupt(), "interrupted"),
        (OSError(), "OSError"),
    ],
)
def test_an_error_has_one_first_line(error: BaseException, said: str) -> None:
    assert first_line(error) == said


@pytest.mark.parametrize(
    "damaged", [b"", b"{", b"[]", b"3", b'"row"', b"\xff\xfe", b"[" * 100_000, b'{"row": "1"}', b"{}"]
)
def test_answers_beside_a_damaged_line_are_known(tmp_path: Path, damaged: bytes) -> None:
    kept = tmp_path / "kept.jsonl"
    rows = [b'{"row": 0, "summary": "They meet."}', damaged, b'{"row": 2, "error": "no"}', b'{"row": 3, "summary": 4}']
    kept.write_bytes(b"\n".join(rows) + b'\n{"row": 4, "summ')
    with AnswerLog(kept, refused_count=False) as answers:
        assert [place for place in range(5) if place in answers] == [0]
    assert answers_of(kept) == {0: Answer("They meet."), 2: Answer(error="no")}
    assert not kept.read_bytes().endswith(b"summ"), "the next answer starts a line of its own"
