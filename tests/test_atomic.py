"""A folder is there whole or not at all."""

import threading
from pathlib import Path

import pytest

from lorasum.atomic import maker_lock, new_folder
from lorasum.errors import DataError, LorasumError


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


def test_what_a_killed_attempt_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / ".abc.partial"
    left.mkdir()
    (left / "half").touch()
    with new_folder(tmp_path / "abc") as folder:
        assert not list(folder.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]


def test_failing_to_write_is_one_line_and_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LorasumError, match=r"cannot write .*: Not a directory") as caught,
        new_folder(tmp_path / "file/abc"),
    ):
        pass
    assert "LORASUM_HOME" in caught.value.hint


def test_second_maker_is_told_to_wait_and_goes_on_after_the_first(tmp_path: Path) -> None:
    target, order, waiting = tmp_path / "data" / "abc", [], threading.Event()

    def second() -> None:
        with maker_lock(target, waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with maker_lock(target, lambda: pytest.fail("nobody else holds it")):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
