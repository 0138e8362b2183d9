"""The ledger: nothing recorded is lost, whoever else writes, whoever dies, and whatever becomes of its file."""

import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from forks import Popen

from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger, NewerLedgerError
from lorasum.ledger.resources import Dataset, Endpoint, Origin, Resource, TrainingJob, Unreadable
from lorasum.lock import RunBusyError, run_lock
from lorasum.shared.events import DoneEvent
from lorasum.system import paths

ENDPOINT = Endpoint(run="a", name="e", backend="local", artifact="/x", origin=Origin(template="{dialogue}"))
JOB = TrainingJob(run="a", name="j", backend="local", origin=Origin(template="{dialogue}"))


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]) -> Ledger:
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    return Ledger(warn=warnings.append)


def change(ledger: Ledger, statement: str, *values: object) -> None:
    with sqlite3.connect(ledger.path) as db:
        db.execute(statement, values)


def test_reading_a_ledger_that_is_not_there_makes_none(ledger: Ledger) -> None:
    assert ledger.resources() == []
    assert ledger.find(Endpoint, "a", "a") is None
    assert not ledger.path.parent.exists()


def test_a_record_is_read_back_and_an_intent_takes_its_place(ledger: Ledger) -> None:
    row = ledger.intend(ENDPOINT)
    live = ledger.save(replace(row, state="live", location="http://x", usd_per_hour=None))
    assert ledger.resources("a") == [live]
    again = ledger.intend(replace(ENDPOINT, artifact="/y"))
    assert ledger.resources("a") == [again]
    assert (again.state, again.location) == ("intended", "")
    assert again.created_at > row.created_at


def test_a_job_keeps_its_figures_and_its_origin(ledger: Ledger) -> None:
    figures = DoneEvent(1.5, None, 900, 90.0, 10.0, 7)
    row = ledger.save(replace(ledger.intend(JOB), state="done", figures=figures, usd_total=2.5))
    assert ledger.find(TrainingJob, "a", "j") == row
    assert (row.figures, row.origin.template) == (figures, "{dialogue}")


def test_a_note_leaves_the_time_of_the_last_change(ledger: Ledger) -> None:
    row = ledger.save(replace(ledger.intend(JOB), state="done", warm=True))
    ledger.note(replace(row, warm=False))
    assert ledger.resources("a") == [replace(row, warm=False)]
    with pytest.raises(LorasumError, match="knows no training_job 'k'"):
        ledger.note(replace(row, name="k"))


def test_the_latest_dataset_is_the_one_that_was_prepared_last(ledger: Ledger, tmp_path: Path) -> None:
    made = [
        Dataset(run="a", name=name, backend="local", path=str(tmp_path / name)) for name in ("first", "second", "third")
    ]
    for row in made:
        Path(row.path).mkdir()
    done = [ledger.save(replace(ledger.intend(row), state="done")) for row in made[:2]]
    first = ledger.save(done[0])
    ledger.intend(made[2])
    assert ledger.latest_dataset("a") == first
    assert ledger.latest_dataset("b") is None
    Path(first.path).rmdir()
    assert ledger.latest_dataset("a") is None, "an older one is not what was prepared"


def test_a_resource_without_a_record_cannot_be_changed(ledger: Ledger) -> None:
    with pytest.raises(LorasumError, match="knows no endpoint 'e'"):
        ledger.save(ENDPOINT)


def test_an_intent_does_not_hide_what_runs_on_another_backend(ledger: Ledger) -> None:
    row = ledger.save(replace(ledger.intend(replace(ENDPOINT, backend="sagemaker")), state="live"))
    with pytest.raises(LorasumError, match="still live on sagemaker") as error:
        ledger.intend(ENDPOINT)
    assert "backend=sagemaker" in error.value.hint
    ledger.save(replace(row, state="gone"))
    ledger.intend(ENDPOINT)


def test_rows_written_at_once_are_all_kept(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Ledger().intend(replace(ENDPOINT, name=f"e{number}")), range(40)))
    assert len(ledger.resources()) == 40


def test_the_ledger_is_for_its_owner_alone(ledger: Ledger) -> None:
    ledger.intend(ENDPOINT)
    assert stat.filemode(ledger.path.stat().st_mode) == "-rw-------"
    assert stat.filemode(ledger.path.parent.stat().st_mode) == "drwx------"


def test_an_older_default_home_is_closed_and_a_chosen_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    for chosen in ("", str(tmp_path / "chosen")):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("LORASUM_HOME", chosen)
        paths.home().mkdir(mode=0o755)
        Ledger().intend(ENDPOINT)
        modes.append(stat.filemode(paths.home().stat().st_mode))
    assert modes == ["drwx------", "drwxr-xr-x"]


def test_a_ledger_on_a_read_only_disk_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LORASUM_HOME", "")
    Ledger().intend(ENDPOINT)
    monkeypatch.setattr(os, "chmod", read_only)
    assert len(Ledger().resources()) == 1


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("detail", "{", "Expecting property name"),
        ("detail", "[]", "not an object"),
        ("detail", "[" * 100_000, "recursion"),
        ("detail", "{}", "artifact: Field required"),
        ("detail", '{"artifact": {}, "origin": {"template": ""}}', "artifact: Input should be a valid string"),
        ("kind", "volume", "unknown kind, 'volume'"),
        ("state", "flying", "state: Input should be"),
        ("created_at", "yesterday", "Invalid isoformat string"),
        ("usd_per_hour", "much", "usd_per_hour: Input should be a valid number"),
    ],
)
def test_a_row_that_cannot_be_read_says_so_and_hides_no_other(
    ledger: Ledger, column: str, value: str, why: str
) -> None:
    ledger.intend(ENDPOINT)
    job = ledger.intend(JOB)
    change(ledger, f"UPDATE resources SET {column}=? WHERE name='e'", value)
    row, other = ledger.resources("a")
    assert isinstance(row, Unreadable)
    assert (row.name, row.backend, row.state, other) == ("e", "local", "unreadable", job)
    assert why in row.reason
    stored = row.stored
    [gone] = [ledger.save(replace(row, state="gone"))]
    assert (gone.stored, [one.state for one in ledger.resources("a") if one.name == "e"]) == (stored, ["gone"])
    ledger.intend(ENDPOINT)
    assert column == "kind" or ledger.find(Endpoint, "a", "e") is not None, "an intent writes it again"


def test_a_newer_ledger_is_refused_and_left_as_it_is(ledger: Ledger, warnings: list[str]) -> None:
    ledger.intend(ENDPOINT)
    change(ledger, "ALTER TABLE resources RENAME COLUMN detail TO record")
    change(ledger, "PRAGMA user_version = 7")
    before = ledger.path.read_bytes()
    with pytest.raises(NewerLedgerError, match="its format is 7, and this one knows 1") as error:
        ledger.resources()
    assert "upgrade lorasum" in error.value.hint
    assert (ledger.path.read_bytes(), warnings) == (before, [])


def nonsense(path: Path) -> None:
    path.write_text("this is no database, nor was it ever one")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)


def another_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE resources (id)")


@pytest.mark.parametrize("damage", [nonsense, cut, zero_a_page, another_table])
def test_a_damaged_ledger_is_set_aside_with_a_warning(
    ledger: Ledger, warnings: list[str], damage: Callable[[Path], None]
) -> None:
    for number in range(60):
        ledger.intend(replace(ENDPOINT, name=f"e{number}"))
    damage(ledger.path)
    damaged = ledger.path.read_bytes()
    ledger.path.with_name("ledger.sqlite-journal").write_bytes(b"of the damaged one")
    assert ledger.resources() == []
    [warning] = warnings
    [kept] = [path for path in ledger.path.parent.glob("*.damaged-*") if not path.name.endswith("-journal")]
    assert str(kept) in warning
    assert "lorasum teardown" in warning
    assert kept.read_bytes() == damaged
    assert not ledger.path.with_name("ledger.sqlite-journal").exists()
    ledger.intend(ENDPOINT)
    assert len(ledger.resources()) == 1
    assert len(warnings) == 1


def test_a_folder_in_the_ledgers_place_is_set_aside(ledger: Ledger) -> None:
    ledger.path.mkdir(parents=True)
    ledger.intend(ENDPOINT)
    assert len(ledger.resources()) == 1
    [kept] = ledger.path.parent.glob("*.damaged-*")
    assert kept.is_dir()


def test_one_process_at_a_time_changes_a_run_and_a_killed_one_lets_go(ledger: Ledger) -> None:
    hold = "with run_lock('a', 0, print): print('held', flush=True); time.sleep(600)"
    script = f"import time\nfrom lorasum.lock import run_lock\n{hold}"
    waits: list[str] = []
    with Popen[bytes]([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(RunBusyError, match=f"process {other.pid} is working"), run_lock("a", 0, lambda: None):
                pass
            with run_lock("b", 0, lambda: None):
                pass
            with pytest.raises(RunBusyError), run_lock("a", 0.01, lambda: waits.append("said")):
                pass
            assert waits.pop() == "said", "a teardown that waits for ten seconds does not do so in silence"

            def end_the_other() -> None:
                waits.append("waiting")
                other.send_signal(signal.SIGKILL)

            with run_lock("a", None, end_the_other):
                assert waits == ["waiting"]
        finally:
            other.send_signal(signal.SIGKILL)


def test_every_row_is_of_a_kind_that_can_be_stored(ledger: Ledger) -> None:
    rows: list[Resource] = [ENDPOINT, JOB, Dataset(run="a", name="d", backend="local", path="/d")]
    assert [ledger.intend(row) for row in rows] == ledger.resources("a")


@pytest.mark.parametrize(
    ("detail", "place", "access"),
    [
        ('{"account_and_region": "1, eu-west-1", "access": {"region": "eu-west-1"}}', "1, eu-west-1", "eu-west-1"),
        ('{"account_and_region": "1, eu-west-1", "access": {"region": 1}}', "1, eu-west-1", None),
        ('{"account_and_region": 1, "access": []}', "", None),
        ("[]", "", None),
        ("{", "", None),
    ],
)
def test_a_row_that_cannot_be_read_keeps_its_place(ledger: Ledger, detail: str, place: str, access: str | None) -> None:
    ledger.intend(ENDPOINT)
    change(ledger, "UPDATE resources SET detail=?", detail)
    [row] = ledger.resources()
    assert isinstance(row, Unreadable)
    assert (row.account_and_region, row.access.get("region")) == (place, access)
