"""prepare, whole: right the first time, free the second, and nothing half-made whatever goes wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import Zygote
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lorasum.backends.local.backend import LocalBackend
from lorasum.commands.plan import plan
from lorasum.commands.prepare import prepare
from lorasum.commands.train import plan_training, to_be_spent
from lorasum.config.data import Columns
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.data import making, store
from lorasum.data.records import Example
from lorasum.data.validate import check
from lorasum.errors import DataError, LorasumError, ModelError
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.planning import planned_job
from lorasum.models.prompt import DEFAULT_TEMPLATE
from lorasum.models.source import ModelRef, load_tokenizer, look_at_model
from lorasum.reporting import Reporter, Silent
from lorasum.shared.requests import fill_template
from lorasum.system import paths


class Recorder(Silent):
    """A Reporter that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.warnings: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("LORASUM_HOME", str(folder))
    return folder


@pytest.fixture
def chats(tmp_path: Path, tiny_chats: Path) -> Path:
    """A copy of the tiny chats that a test may break."""
    return Path(shutil.copytree(tiny_chats, tmp_path / "chats"))


@pytest.fixture
def make_config(chats: Path, tiny_model_dir: Path) -> Callable[..., Config]:
    def make(**data: Any) -> Config:
        files = {"train": str(chats / "train.jsonl"), "test": str(chats / "test.jsonl"), "max_length": 256}
        return Config.model_validate({"name": "r", "model": {"id": str(tiny_model_dir)}, "data": {**files, **data}})

    return make


def run(config: Config, report: Recorder | None = None) -> Any:
    return prepare(RunContext(config, LocalBackend, Ledger(), report or Recorder()))


def datasets_made() -> list[str]:
    """Names of what is in the run's data folder, hidden ones too."""
    folder = paths.run_dir("r") / "data"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_dataset_holds_the_examples_and_the_ledger_knows_it(make_config: Callable[..., Config], chats: Path) -> None:
    import datasets
    from transformers import AutoTokenizer

    config = make_config()
    report = Recorder()
    result = run(config, report)

    folder = Path(result.dataset)
    rows = [json.loads(line) for line in (chats / "train.jsonl").read_text("utf-8").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(config.model.id)
    found = set()
    for pack in datasets.load_from_disk(str(folder / "train")):
        assert sum(pack["example_lengths"]) == len(pack["input_ids"]) <= 256
        start = 0
        for length, prompt in zip(pack["example_lengths"], pack["prompt_lengths"], strict=True):
            ids = pack["input_ids"][start : start + length]
            found.add((tokenizer.decode(ids[:prompt]), tokenizer.decode(ids[prompt:])))
            start += length
    assert found == {(fill_template(DEFAULT_TEMPLATE, row["dialogue"]), row["summary"] + "</s>") for row in rows}

    assert result.manifest == store.read_manifest(folder)
    assert (result.reused, result.run, result.manifest.fingerprint) == (False, "r", folder.name)
    assert list(result.manifest.splits) == ["train", "test"]
    assert [split.examples for split in result.manifest.splits.values()] == [12, 4]
    assert [example.dialogue[:4] for example in store.read_test_examples(folder)] == ["Ola:", "Ivy:", "Jan:", "Lou:"]
    resource = Ledger().latest_dataset("r")
    assert resource is not None
    assert resource.path == result.dataset
    assert not report.warnings
    assert datasets_made() == [folder.name]


def test_second_prepare_touches_nothing_and_loads_no_heavy_library(make_config: Callable[..., Config]) -> None:
    first, other = run(make_config()), run(make_config(max_length=300))
    assert first.dataset != other.dataset
    before = {path: path.stat().st_mtime_ns for path in Path(first.dataset).rglob("*")}
    script = (
        "import sys; from pathlib import Path\n"
        "from lorasum.config.schema import Config; from lorasum.ledger.ledger import Ledger\n"
        "from lorasum.reporting import Silent; from lorasum.commands.prepare import prepare\n"
        "from lorasum.context import RunContext\n"
        "from lorasum.backends.local.backend import LocalBackend\n"
        "result = prepare(RunContext(Config.model_validate_json(sys.argv[1]), LocalBackend, Ledger(), Silent()))\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "print(result.dataset, result.reused, sorted(heavy))"
    )
    again = subprocess.run(
        [sys.executable, "-c", script, make_config().model_dump_json()], capture_output=True, text=True, check=True
    )
    assert again.stdout.split() == [first.dataset, "True", "[]"]
    assert {path: path.stat().st_mtime_ns for path in Path(first.dataset).rglob("*")} == before
    latest = Ledger().latest_dataset("r")
    assert latest is not None
    assert latest.path == first.dataset, "the one asked for last is the one that train takes"


def test_the_models_config_is_read_once(make_config: Callable[..., Config], tiny_model_dir: Path) -> None:
    """Beside the look at the folder, its hash, and what transformers reads with its tokenizer, which is loaded once."""
    config, opened, watching = str(tiny_model_dir / "config.json"), [], True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]) == config:
            opened.append(arguments)

    sys.addaudithook(note)  # it stays for good, so it is told when to stop
    try:
        load_tokenizer(ModelRef("m", None, tiny_model_dir))
        by_transformers = len(opened)
        run(make_config())
    finally:
        watching = False
    assert len(opened) - by_transformers == by_transformers + 2 + 1


def test_changed_row_makes_a_new_dataset(make_config: Callable[..., Config], chats: Path) -> None:
    first = run(make_config())
    with (chats / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"dialogue": "A: one more", "summary": "A adds one."}\n')
    second = run(make_config())
    assert (second.reused, second.manifest.splits["train"].examples) == (False, 13)
    assert datasets_made() == sorted([Path(first.dataset).name, Path(second.dataset).name])


def test_a_file_that_changes_while_it_is_prepared_is_refused(
    make_config: Callable[..., Config], chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows would stand under the name of those that it had before."""
    before = (chats / "train.jsonl").read_bytes()

    def look_and_change(*arguments: Any) -> None:
        replace_line(chats / "train.jsonl", 1, b'{"dialogue": "A: another", "summary": "A says another."}')
        look_at_model(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(making, "look_at_model", look_and_change)
        with pytest.raises(DataError, match=r"(?m)^train\.jsonl was changed while it was prepared$"):
            run(make_config(test=None, test_fraction=0.25))
    assert datasets_made() == []
    (chats / "train.jsonl").write_bytes(before)
    assert not run(make_config(test=None, test_fraction=0.25)).reused


def test_same_input_gives_the_same_bytes(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("one", "two"):
        monkeypatch.setenv("LORASUM_HOME", str(paths.home().parent / name))
        folder = Path(run(make_config()).dataset)
        made.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert made[0] == made[1]


def replace_line(path: Path, number: int, line: bytes) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda chats: (chats / "train.jsonl").unlink(), "data.train: there is no file"),
        (lambda chats: (chats / "test.jsonl").write_text(""), "test.jsonl is empty"),
        (lambda chats: replace_line(chats / "train.jsonl", 7, b'{"dialogue": "A: hi"}'), "train.jsonl:7: no summary"),
        (lambda chats: replace_line(chats / "train.jsonl", 3, b'{"dialogue": "\xff"}'), "train.jsonl:3: not UTF-8"),
        (lambda chats: replace_line(chats / "test.jsonl", 2, b"{"), "test.jsonl:2: not JSON"),
    ],
    ids=["missing file", "empty dataset", "no summary", "not UTF-8", "not JSON"],
)
def test_bad_input_leaves_nothing_and_works_once_repaired(
    make_config: Callable[..., Config], chats: Path, tiny_chats: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(chats)
    with pytest.raises(DataError) as caught:
        run(make_config())
    assert caught.value.message.startswith(message)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    assert datasets_made() == []
    assert {row.state for row in Ledger().resources("r")} <= {"gone"}
    shutil.copytree(tiny_chats, chats, dirs_exist_ok=True)
    assert run(make_config()).manifest.splits["train"].examples == 12


def test_tolerated_bad_rows_and_shared_dialogues_are_warned_of(make_config: Callable[..., Config], chats: Path) -> None:
    test = (chats / "test.jsonl").read_bytes().split(b"\n")
    replace_line(chats / "train.jsonl", 2, b'{"dialogue": "A: hi", "summary": ""}')
    replace_line(chats / "train.jsonl", 4, test[0])
    report = Recorder()
    result = run(make_config(max_bad_rows=1), report)
    assert result.manifest.dropped == {"empty summary": 1}
    assert result.manifest.splits["train"].examples == 11
    assert report.warnings[0].startswith("train.jsonl: 1 row left out (empty summary: 1); see ")
    assert "the test split shares a dialogue with 1 training example:" in report.warnings[1]
    assert report.warnings[1].endswith("; train.jsonl:4 as test.jsonl:1")
    assert result.shared is not None
    assert [json.loads(line) for line in Path(result.shared).read_text().splitlines()] == [
        {"kind": "exact", "train": "train.jsonl:4", "test": "test.jsonl:1"}
    ]
    assert "Training rows whose dialogues stand in the test split" in Path(str(result.page)).read_text()
    again = Recorder()
    assert run(make_config(max_bad_rows=1), again).reused
    assert [warning.partition("; see ")[0] for warning in again.warnings] == [
        "1 row left out (empty summary: 1)",
        "the test split shares a dialogue with 1 training example: its scores will flatter the model; "
        "train.jsonl:4 as test.jsonl:1",
    ], "what is wrong with the data is said as often as it is used"


def test_messages_that_tell_no_speaker_are_warned_of(make_config: Callable[..., Config], chats: Path) -> None:
    cell = [{"text": "is it free?", "mood": "calm"}, {"text": "yes", "mood": "glad"}]
    replace_line(chats / "train.jsonl", 3, json.dumps({"dialogue": cell, "summary": "It is."}).encode())
    report = Recorder()
    run(make_config(), report)
    [warning] = report.warnings
    assert "so their lines have no names: train.jsonl:3 has 'text', 'mood'; rename the key" in warning


def test_rows_that_look_like_messages_are_warned_of(make_config: Callable[..., Config], chats: Path) -> None:
    rows = [{"dialogue": f"is flat {n} free? {m}", "summary": f"Flat {n} is free."} for n in range(4) for m in "abc"]
    (chats / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = Recorder()
    run(make_config(), report)
    assert [warning for warning in report.warnings if "summary of the row above" in warning] == [
        "train.jsonl: 8 of 12 rows have the summary of the row above and another dialogue: if a row is one message, "
        "join the rows of each dialogue"
    ]


def test_cut_test_dialogue_is_stored_as_the_model_sees_it(make_config: Callable[..., Config], chats: Path) -> None:
    replace_line(chats / "test.jsonl", 1, json.dumps({"dialogue": "x y " * 500 + "end", "summary": "S"}).encode())
    with pytest.raises(DataError, match=r"test\.jsonl:1: \d+ tokens"):
        run(make_config())
    report = Recorder()
    first = store.read_test_examples(Path(run(make_config(too_long="truncate_dialogue"), report).dataset))[0]
    assert first.dialogue.endswith("x y end")
    assert len(first.dialogue) < 1000
    assert report.warnings == ["test.jsonl: 1 dialogue cut at the start to fit 256 tokens"]
    dropped = run(make_config(too_long="drop"))
    assert dropped.manifest.dropped == {"too long": 1}
    assert len(store.read_test_examples(Path(dropped.dataset))) == 3


def test_max_length_that_no_example_fits_is_an_error(make_config: Callable[..., Config]) -> None:
    with pytest.raises(DataError, match=r"every example has more tokens than data\.max_length, 16") as caught:
        run(make_config(max_length=16, too_long="drop"))
    assert caught.value.hint.startswith("raise data.max_length: the shortest has ")
    assert datasets_made() == []


def test_a_model_without_weights_is_refused_before_the_data_is_read(
    make_config: Callable[..., Config], tiny_tokenizer_dir: Path
) -> None:
    config = make_config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"id": str(tiny_tokenizer_dir)})})
    with pytest.raises(ModelError):
        run(config)
    assert datasets_made() == []


@pytest.fixture
def small_disk(home: Path) -> Iterator[None]:
    """LORASUM_HOME on a disk of 256 KiB."""
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(home)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield
    subprocess.run(["umount", "-l", str(home)], check=True)


def grow(chats: Path) -> None:
    """Training data of about 900 KB of tokens."""
    rows = [{"dialogue": "A: the quick brown fox\nB: jumps " * 4, "summary": f"{n} foxes jump."} for n in range(4000)]
    (chats / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def test_full_disk_is_one_line_and_leaves_nothing(
    make_config: Callable[..., Config], chats: Path, tiny_chats: Path, small_disk: None
) -> None:
    grow(chats)
    with pytest.raises(LorasumError, match=r"cannot write .*: No space left on device"):
        run(make_config())
    assert datasets_made() == []
    shutil.copytree(tiny_chats, chats, dirs_exist_ok=True)
    assert run(make_config()).manifest.splits["train"].examples == 12


def test_write_that_fails_midway_leaves_nothing(make_config: Callable[..., Config], chats: Path) -> None:
    """As a full disk does, where no disk can be mounted: no file may grow over 64 KiB."""
    grow(chats)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    try:
        with pytest.raises(LorasumError, match=r"cannot write .*: File too large"):
            run(make_config())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert datasets_made() == []
    assert run(make_config()).manifest.splits["train"].examples == 4000


def test_killed_prepare_is_not_taken_for_a_finished_one(
    make_config: Callable[..., Config], clients: Zygote, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys; from lorasum.config.schema import Config; from lorasum.ledger.ledger import Ledger\n"
        "from lorasum.reporting import Silent; from lorasum.commands.prepare import prepare\n"
        "from lorasum.context import RunContext\n"
        "from lorasum.backends.local.backend import LocalBackend\n"
        "class Deadly(Silent):\n"
        "    def step(self, text): os.kill(os.getpid(), signal.SIGKILL)  # said when the test split is written\n"
        "prepare(RunContext(Config.model_validate_json(sys.argv[1]), LocalBackend, Ledger(), Deadly()))"
    )
    (tmp_path / "prepare.py").write_text(script)
    asked = [make_config().model_dump_json()]
    killed = clients.start(asked, os.environ, {}, str(tmp_path / "prepare.py")).wait()
    assert killed.code == -signal.SIGKILL, killed.stderr
    [left] = datasets_made()
    assert left.startswith(".")
    result = run(make_config())
    assert (result.reused, result.manifest.splits["train"].examples) == (False, 12)
    assert datasets_made() == [Path(result.dataset).name]


def test_what_was_left_out_and_why_is_in_a_file_also_when_it_was_too_much(
    make_config: Callable[..., Config], chats: Path
) -> None:
    lines = (chats / "train.jsonl").read_bytes().split(b"\n")
    replace_line(chats / "train.jsonl", 5, lines[1])
    replace_line(chats / "train.jsonl", 7, b'{"dialogue": "A: hi", "summary": ""}')
    with pytest.raises(DataError) as caught:
        run(make_config())
    [file] = (paths.run_dir("r") / "rejected").iterdir()
    assert str(file) in caught.value.hint
    result = run(make_config(max_bad_rows=1))
    assert result.manifest.dropped == {"duplicate": 1, "empty summary": 1}
    assert result.rejected
    rows = [json.loads(line) for line in Path(result.rejected).read_text("utf-8").splitlines()]
    assert {(row["split"], row["where"].partition(":")[0], row["reason"]) for row in rows} == {
        ("train", "train.jsonl", "duplicate"),
        ("train", "train.jsonl", "empty summary"),
    }
    assert next(row for row in rows if row["reason"] == "duplicate")["row"] == json.loads(lines[1])
    kept = run(make_config(max_bad_rows=1, duplicates="keep"))
    assert kept.manifest.splits["train"].examples == 11
    assert kept.manifest.dropped == {"empty summary": 1}


def test_a_near_duplicate_of_a_test_dialogue_is_warned_of(make_config: Callable[..., Config], chats: Path) -> None:
    said = " ".join(f"word{number} and then" for number in range(40))
    test = {"dialogue": f"Ana: {said}\nBen: yes", "summary": "They list words."}
    train = {"dialogue": f"Ana: {said}\nBen: no!", "summary": "Ana lists words."}
    for name, row in (("test", test), ("train", train)):
        with (chats / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    rows = len((chats / "train.jsonl").read_text("utf-8").splitlines())
    report = Recorder()
    result = run(make_config(max_length=1024), report)
    assert result.manifest.shared_with_test == {"exact": 0, "near": 1}
    assert report.warnings == [
        "1 training example nearly the same as one of the test split: its scores will flatter the model; "
        f"train.jsonl:{rows} as test.jsonl:5"
    ]


def test_examples_are_shown_as_the_model_sees_them(make_config: Callable[..., Config], chats: Path) -> None:
    result = prepare(RunContext(make_config(), LocalBackend, Ledger(), Recorder()), show=2)
    rows = [json.loads(line) for line in (chats / "train.jsonl").read_text("utf-8").splitlines()]
    texts = {(fill_template(DEFAULT_TEMPLATE, row["dialogue"]), row["summary"] + "</s>") for row in rows}
    assert len(result.shown) == 2
    assert {(example.prompt, example.completion) for example in result.shown} <= texts
    assert Path(str(result.page)).read_text("utf-8").count("<svg") == 2
    stats = result.manifest.splits["train"]
    assert sum(stats.histogram) == 12
    assert stats.longest_at.startswith("train.jsonl:")
    assert stats.shortest_example_tokens <= stats.longest_example_tokens


def test_a_seeded_fraction_is_the_test_split(make_config: Callable[..., Config]) -> None:
    config = make_config(test=None, test_fraction=0.3)
    splits = run(config).manifest.splits
    assert splits["train"].examples + splits["test"].examples == 12
    assert 0 < splits["test"].examples < 8


def test_personal_data_is_warned_of_and_taken_out_on_request(make_config: Callable[..., Config], chats: Path) -> None:
    row = {"dialogue": "A: mail a.b@c.example or call +1 415 555 2671", "summary": "A gives a number."}
    replace_line(chats / "train.jsonl", 1, json.dumps(row).encode())
    report = Recorder()
    assert run(make_config(), report).manifest.personal == {"email address": 1, "phone number": 1}
    found = "personal data (1 email address, 1 phone number, the first at train.jsonl:1); --redact takes it out"
    assert found in report.warnings[-1]
    clean = Recorder()
    result = prepare(RunContext(make_config(redact=True), LocalBackend, Ledger(), clean), show=12)
    assert any("A: mail <EMAIL> or call <PHONE>" in example.prompt for example in result.shown)
    assert "took out personal data: 1 email address, 1 phone number" in clean.steps
    assert not clean.warnings


def test_redaction_tells_of_long_numbers_it_left_in(make_config: Callable[..., Config], chats: Path) -> None:
    row = {"dialogue": "A: it is 345 998 761 223, order 10023456789", "summary": "A gives a number."}
    replace_line(chats / "train.jsonl", 3, json.dumps(row).encode())
    report = Recorder()
    run(make_config(redact=True), report)
    assert report.warnings[-1].startswith("left in: 1 number of 9 digits or more, the first at train.jsonl:3;")


def test_message_lists_are_dialogues(make_config: Callable[..., Config], chats: Path) -> None:
    messages = [{"role": "user", "content": "my parcel?"}, {"role": "assistant", "content": "on its way"}]
    for name in ("train", "test"):
        row = {"messages": [*messages, {"role": "user", "content": name}], "summary": "A parcel is on its way."}
        (chats / f"{name}.jsonl").write_text(json.dumps(row))
    config = make_config(columns={"dialogue": "messages"}, messages={"speakers": {"user": "Ana"}})
    result = prepare(RunContext(config, LocalBackend, Ledger(), Recorder()), show=1)
    assert "Ana: my parcel?\nassistant: on its way\nAna: train" in result.shown[0].prompt


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(rows=[("A: hi", "NONE"), (" N/A", "B"), ("A: caf\u00c3\u00a9", "A greets."), ("A: hi ", " A greets.")])
@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)] * 2),
        min_size=2,
        max_size=25,
    )
)
def test_rows_are_stored_whole_in_order_and_in_the_same_bytes(
    make_config: Callable[..., Config], chats: Path, tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    """Every kept example stands in exactly one pack, and decodes to its text; every other row is counted."""
    from transformers import AutoTokenizer

    named = [{"dialogue": one, "summary": other} for one, other in rows]
    for name in ("train", "test"):
        (chats / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    checked = [check(row, Columns()) for row in named]  # it leaves rows out, and mends some texts
    usable = [(one.dialogue, one.summary) for one in checked if isinstance(one, Example)]
    config = make_config(max_bad_rows=99, max_length=600)
    shutil.rmtree(paths.home(), ignore_errors=True)
    if not usable:
        with pytest.raises(DataError):
            run(config)
        return
    result = run(config)
    folder = Path(result.dataset)
    tokenizer = AutoTokenizer.from_pretrained(config.model.id)
    found = [
        (tokenizer.decode(ids[:prompt]), tokenizer.decode(ids[prompt:])) for ids, prompt in store.read_first(folder, 99)
    ]
    kept = list(dict.fromkeys(usable))
    assert sorted(found) == sorted((fill_template(DEFAULT_TEMPLATE, one), f"{other}</s>") for one, other in kept)
    assert result.manifest.splits["train"].examples == len(kept)
    assert 2 * (len(rows) - len(kept)) == sum(result.manifest.dropped.values())
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(paths.home())
    again = Path(run(config).dataset)
    assert before == {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}


def test_what_is_odd_about_files_is_told_once(make_config: Callable[..., Config], chats: Path) -> None:
    for number in range(3):
        text = "dialogue;summary\n" + "".join(f"Ana: {number} {n};Ana says {n}.\n" for n in range(9))
        (chats / f"{number}.csv").write_text(text)
    report = Recorder()
    result = run(make_config(train=str(chats / "*.csv"), test=None, test_fraction=0.2), report)
    assert sum(split.examples for split in result.manifest.splits.values()) == 27
    assert report.warnings[-1] == "0.csv and 2 more files: its fields are separated by semicolons"
    assert sum("semicolons" in warning for warning in report.warnings) == 1


def planned(config: Config, report: Reporter | None = None) -> Any:
    return planned_job(config, Ledger(), report or Recorder())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"redact": True}, "data.redact (true now)"),
        ({"columns": {"dialogue": "summary", "summary": "dialogue"}}, "data.columns"),
        ({"too_long": "drop"}, "data.too_long (error, drop now)"),
        ({"max_bad_rows": 3}, "data.max_bad_rows (0, 3 now)"),
        ({"duplicates": "keep"}, "data.duplicates (drop, keep now)"),
        ({"messages": {"format": "{text}"}}, "data.messages"),
        ({"test": None, "test_fraction": 0.25}, "data.test_fraction (None, 0.25 now)"),
        ({"max_length": 300}, "data.max_length"),
        ({"template": "Sum up: {dialogue}"}, "data.template"),
    ],
)
def test_train_refuses_a_setting_changed_after_prepare(
    make_config: Callable[..., Config], change: dict[str, Any], said: str
) -> None:
    run(make_config())
    assert planned(make_config()).spec.dataset.is_dir()
    with pytest.raises(LorasumError) as caught:
        planned(make_config(**change))
    assert caught.value.message == f"changed since the dataset of run 'r' was prepared: {said}"
    assert caught.value.hint == "run `lorasum prepare` with this config again"
    run(make_config(**change) if "columns" not in change else make_config())


def test_train_refuses_changed_files_and_tokenizers(
    make_config: Callable[..., Config], chats: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    config = make_config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"id": str(model)})})
    run(config)
    moved = shutil.copytree(chats, tmp_path / "moved")
    assert planned(config)
    paths_only = {"train": str(moved / "train.jsonl"), "test": str(moved / "test.jsonl")}
    assert planned(config.model_copy(update={"data": config.data.model_copy(update=paths_only)})), "the same rows"
    with (chats / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"dialogue": "A: one more", "summary": "A adds one."}\n')
    with pytest.raises(LorasumError, match=r"(?m)prepared: train\.jsonl$"):
        planned(config)
    run(config)
    settings = json.loads((model / "tokenizer_config.json").read_text("utf-8"))
    (model / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 77}))
    with pytest.raises(LorasumError, match=r"(?m)prepared: tokenizer in model\.id$"):
        planned(config)


def test_a_changed_file_of_both_splits_is_named_once(make_config: Callable[..., Config], chats: Path) -> None:
    config = make_config(test=None, test_fraction=0.25)
    run(config)
    replace_line(chats / "train.jsonl", 1, b'{"dialogue": "A: another", "summary": "A says another."}')
    with pytest.raises(LorasumError, match=r"(?m)prepared: train\.jsonl$"):
        planned(config)


def test_a_dataset_made_with_the_redact_flag_is_trained_on(make_config: Callable[..., Config]) -> None:
    run(make_config(redact=True))
    report = Recorder()
    assert planned(make_config(), report)
    assert report.steps == ["personal data was taken out of this dataset: prepare was called with --redact"]
    with pytest.raises(LorasumError, match=r"prepared: data\.phone_region \(US, DE now\)"):
        planned(make_config(redact=True, phone_region="DE"))


UNKNOWN = "whether the data has changed since it was prepared is not known: "


@pytest.mark.parametrize("verb", [plan, plan_training, to_be_spent])
def test_whoever_looks_before_a_start_hears_once_that_data_is_gone(
    make_config: Callable[..., Config], verb: Callable[[RunContext], object]
) -> None:
    report = Recorder()
    run(make_config())
    context = RunContext(make_config(train="nope.jsonl"), LocalBackend, Ledger(), report)
    verb(context)
    assert len([one for one in report.warnings if one.startswith(UNKNOWN)]) == 1
    if verb is to_be_spent:  # `train` looks at all of it again after the question
        planned(context.config, context.reporter)
        assert len(report.warnings) == 1
        planned(context.config, context.reporter)
        assert len(report.warnings) == 2, "what comes up later is told"


def test_files_that_are_gone_and_old_manifests_do_not_stop_training(
    make_config: Callable[..., Config], chats: Path
) -> None:
    dataset = Path(run(make_config()).dataset)
    (chats / "train.jsonl").unlink()
    report = Recorder()
    assert planned(make_config(), report)
    assert report.warnings[0].startswith(UNKNOWN)
    manifest = json.loads((dataset / "manifest.json").read_text("utf-8"))
    del manifest["settings"]
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    assert planned(make_config(redact=True)), "what it was prepared with is not recorded"


def test_max_length_beyond_the_models_context_is_refused(
    make_config: Callable[..., Config], tiny_model_dir: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    described = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**described, "model_type": "gpt2", "n_positions": 128}))
    config = make_config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"id": str(model)})})
    with pytest.raises(DataError, match=r"data\.max_length is 256, and .*/model reads 128 tokens at most") as caught:
        run(config)
    assert caught.value.hint == "set data.max_length to 128 or less"
    assert datasets_made() == []


def test_a_token_that_the_model_has_no_embedding_for_is_refused(
    make_config: Callable[..., Config], tiny_model_dir: Path, tmp_path: Path, chats: Path
) -> None:
    from transformers import AutoTokenizer

    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    vocabulary = len(tokenizer)
    tokenizer.add_tokens(["orderzz"])
    tokenizer.save_pretrained(model)
    described = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**described, "vocab_size": vocabulary}))
    config = make_config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"id": str(model)})})
    run(config)
    rows = (chats / "train.jsonl").read_text("utf-8").splitlines()
    row = json.loads(rows[2])
    row["dialogue"] += " orderzz"
    (chats / "train.jsonl").write_text("\n".join([*rows[:2], json.dumps(row)]), "utf-8")
    with pytest.raises(ModelError, match=rf"train.jsonl:3 holds token 'orderzz' with id {vocabulary:,}"):
        run(config)


def test_too_long_examples_of_both_splits_are_told_at_once(make_config: Callable[..., Config], chats: Path) -> None:
    for name, words in (("test", 300), ("train", 400)):
        replace_line(chats / f"{name}.jsonl", 1, json.dumps({"dialogue": "x y " * words, "summary": "S"}).encode())
    with pytest.raises(DataError) as caught:
        run(make_config())
    needed = int(caught.value.hint.split("raise data.max_length to ")[1].split(",")[0])
    assert run(make_config(max_length=needed)).manifest.splits["train"].longest_example_tokens == needed


KILLED = """
import os, signal, sys
from lorasum.config.schema import Config
from lorasum.ledger.ledger import Ledger
from lorasum.reporting import Silent
from lorasum.commands.prepare import prepare
from lorasum.backends.local.backend import LocalBackend
from lorasum.context import RunContext

config, at = Config.model_validate_json(sys.argv[1]), int(sys.argv[2])
calls = 0
names = ("os.rename", "os.replace", "os.remove", "os.mkdir", "shutil.rmtree")

def count(event, arguments):
    global calls
    if event in names or event == "open" and "home" in str(arguments[0]) and "w" in str(arguments[1]):
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
prepare(RunContext(config, LocalBackend, Ledger(), Silent()))
"""
"""Prepares, and is killed at a call of the number that it is given."""


@pytest.mark.slow
def test_a_prepare_killed_anywhere_is_made_good_by_the_next(
    make_config: Callable[..., Config], chats: Path, tmp_path: Path, home: Path, clients: Zygote
) -> None:
    replace_line(chats / "train.jsonl", 2, b'{"dialogue": "A: hi", "summary": ""}')
    config = make_config(max_bad_rows=1)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    at, killed = 0, True
    while killed and at < 60:
        at += 1 if at < 8 else 3
        shutil.rmtree(home, ignore_errors=True)
        asked = [config.model_dump_json(), str(at)]
        ended = clients.start(asked, {"LORASUM_HOME": str(home)}, {}, str(script)).wait()
        assert ended.code in (0, -signal.SIGKILL), ended.stderr
        killed = ended.code != 0
        result = run(config)
        assert Path(str(result.page)).read_text("utf-8").count("<svg") == 2, at
        rejected = Path(str(result.rejected)).read_text("utf-8").splitlines()
        assert [json.loads(line)["where"] for line in rejected] == ["train.jsonl:2"], at
        left = [path for path in home.rglob("*") if path.name.endswith((".part", ".partial"))]
        assert left == [], at
    assert at > 8, "it was killed at no point"
    assert not killed, "the last one ran to its end"


def test_what_dead_processes_left_is_removed(make_config: Callable[..., Config]) -> None:
    first = Path(run(make_config()).dataset)
    killed = subprocess.Popen(["true"])
    killed.wait()
    unfinished = f".0123456789ab.jsonl.{killed.pid}-0.part"
    left = [first.parent / ".0123456789ab.partial", first.parents[1] / "rejected" / unfinished]
    left[0].mkdir()
    left[1].parent.mkdir(exist_ok=True)
    left[1].write_text("{}")
    run(make_config(max_length=300))
    assert not any(path.exists() for path in left)
