"""What an interrupt leaves taken between two steps is given back before anything is cleaned up."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Dataset
from lorasum.lock import run_lock
from lorasum.system.signals import deferred_signals, release_frames

ROW = Dataset(run="chats", name="12345678", backend="local", path="/data")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path))


def interrupted_after_entering(block: Callable[[], AbstractContextManager[object]]) -> None:
    """As contextlib's own `__enter__`: the block is entered, and who asked for it does not know yet."""
    entered = block()
    entered.__enter__()
    raise KeyboardInterrupt


def test_the_lock_of_a_run_is_given_back() -> None:
    try:
        interrupted_after_entering(lambda: run_lock("chats", None, lambda: None))
    except KeyboardInterrupt:
        release_frames()
        with run_lock("chats", 0, lambda: None):
            return
    pytest.fail("it was not interrupted")


def test_a_transaction_of_the_ledger_is_rolled_back() -> None:
    ledger = Ledger()
    ledger.intend(ROW)
    try:
        interrupted_after_entering(lambda: ledger._connect(write=True))
    except KeyboardInterrupt:
        release_frames()
        assert ledger.save(ROW).run == "chats"  # else it would wait for 30 s, and fail


def test_without_an_error_nothing_is_let_go() -> None:
    with run_lock("chats", 0, lambda: None):
        release_frames()
        with pytest.raises(Exception, match="another lorasum process"), run_lock("chats", 0, lambda: None):
            pass


def test_a_signal_that_is_held_back_counts_at_the_end() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with deferred_signals():
            signal.raise_signal(signal.SIGINT)
            done.append("imported")
        done.append("went on")
    assert done == ["imported"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so_when_it_is_held_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with deferred_signals():
        signal.raise_signal(signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, before) is signal.SIG_IGN
