"""The ledger: nothing recorded is lost, whoever else writes, and whoever dies."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lorasum.errors import LorasumError
from lorasum.ledger import Ledger, RunBusyError, run_lock


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    return Ledger()


def test_reading_a_ledger_that_is_not_there_makes_none(ledger: Ledger) -> None:
    assert ledger.resources() == []
    assert ledger.find("a", "endpoint", "a") is None
    assert not ledger.path.parent.exists()


def test_a_mark_adds_to_what_is_known_and_an_intent_begins_anew(ledger: Ledger) -> None:
    ledger.intend("a", "endpoint", "e", "local", {"artifact": "/x"})
    ledger.mark("a", "endpoint", "e", "live", location="http://x")
    [row] = ledger.resources("a")
    assert (row.state, row.detail) == ("live", {"artifact": "/x", "location": "http://x"})
    ledger.intend("a", "endpoint", "e", "local", {"artifact": "/y"})
    [again] = ledger.resources("a")
    assert (again.state, again.detail) == ("intended", {"artifact": "/y"})
    assert again.created_at > row.created_at


def test_a_note_adds_to_what_is_known_and_leaves_state_and_time(ledger: Ledger) -> None:
    ledger.intend("a", "training_job", "j", "local", {"usd": 1.0, "warm": True})
    ledger.mark("a", "training_job", "j", "done")
    [row] = ledger.resources("a")
    ledger.note("a", "training_job", "j", warm=False)
    [noted] = ledger.resources("a")
    assert noted.detail == {"usd": 1.0, "warm": False}
    assert (noted.state, noted.updated_at) == (row.state, row.updated_at)
    with pytest.raises(LorasumError, match="knows no training_job 'k'"):
        ledger.note("a", "training_job", "k", warm=False)


def test_the_latest_is_the_one_changed_last(ledger: Ledger) -> None:
    for name in ("first", "second"):
        ledger.intend("a", "training_job", name, "local", {})
        ledger.mark("a", "training_job", name, "done")
    ledger.mark("a", "training_job", "first", "done")
    ledger.intend("a", "training_job", "third", "local", {})
    latest = ledger.latest("a", "training_job", "done")
    assert latest is not None
    assert latest.name == "first"
    assert ledger.latest("b", "training_job") is None


def test_what_was_never_recorded_cannot_be_marked(ledger: Ledger) -> None:
    with pytest.raises(LorasumError, match="knows no endpoint 'e'"):
        ledger.mark("a", "endpoint", "e", "gone")


def test_an_intent_does_not_hide_what_runs_on_another_backend(ledger: Ledger) -> None:
    ledger.intend("a", "endpoint", "e", "sagemaker", {})
    ledger.mark("a", "endpoint", "e", "live")
    with pytest.raises(LorasumError, match="still live on sagemaker") as error:
        ledger.intend("a", "endpoint", "e", "local", {})
    assert "backend=sagemaker" in error.value.hint
    ledger.mark("a", "endpoint", "e", "gone")
    ledger.intend("a", "endpoint", "e", "local", {})


def test_marks_at_once_are_all_kept(ledger: Ledger) -> None:
    ledger.intend("a", "endpoint", "e", "local", {})

    def mark(number: int) -> None:
        Ledger().mark("a", "endpoint", "e", "live", **{f"key{number}": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(mark, range(40)))
    [row] = ledger.resources()
    assert len(row.detail) == 40


def test_a_file_that_is_no_ledger_is_an_error_that_names_it(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_text("this is no database, nor was it ever one")
    with pytest.raises(LorasumError, match=r"cannot use the ledger .*ledger\.sqlite"):
        ledger.resources()


def test_one_process_at_a_time_changes_a_run_and_a_killed_one_lets_go(ledger: Ledger) -> None:
    hold = "with run_lock('a'): print('held', flush=True); time.sleep(60)"
    script = f"import time\nfrom lorasum.ledger import run_lock\n{hold}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(RunBusyError, match="another lorasum process"), run_lock("a", wait=0):
                pass
            with run_lock("b", wait=0):
                pass
        finally:
            other.send_signal(signal.SIGKILL)
    with run_lock("a", wait=5):
        pass
