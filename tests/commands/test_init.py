"""init: what it sees in files of chats, and the config that it writes for them."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from lorasum import aws
from lorasum.commands import init as verb
from lorasum.commands.init import InitOptions, init, write_example
from lorasum.config.backend_names import BackendName
from lorasum.config.data import Columns
from lorasum.config.loader import load_config
from lorasum.config.new_file import run_name
from lorasum.config.schema import Config
from lorasum.data.look import NoColumnsError
from lorasum.errors import DataError, LorasumError, ModelError
from lorasum.system import nvidia_smi

TOPICS = ("the bakery order", "a flat tyre", "the choir rehearsal", "a lost umbrella", "the garden fence", "rent")
CHATS = [
    (f"Nell: any news about {one}?\nOtto: yes, I sorted it out on Monday", f"Otto sorted {one}.") for one in TOPICS
]
GERMAN = [
    ("Jule: Kommst du heute zum Sommerfest?\nKarl: Ja, aber erst gegen acht Uhr", "Karl kommt gegen acht zum Fest."),
    ("Jule: Hast du den Schlüssel gefunden?\nKarl: Er lag unter dem Sofa", "Karl fand den Schlüssel unter dem Sofa."),
    ("Jule: Wer holt morgen die Kinder ab?\nKarl: Das mache ich gern", "Karl holt morgen die Kinder ab."),
]
RUN = Path("run.yaml")


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder on a machine without a GPU and without AWS credentials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nvidia_smi, "gpus", list)
    monkeypatch.setattr(aws, "has_credentials", lambda: False)


def write(name: str, rows: Sequence[Mapping[str, object]]) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def written(data: list[str], options: InitOptions | None = None, ask: verb.Ask | None = None) -> Config:
    init(data, RUN, options or InitOptions(), ask=ask)
    return load_config(RUN)


def asker(*answers: str) -> Callable[[str, str], str]:
    """Answers in turn; an empty one takes the default."""
    left = list(answers)
    return lambda question, default: left.pop(0) or default


def test_a_csv_with_the_usual_columns_needs_no_mapping() -> None:
    lines = ["id,dialogue,summary", *(f'{n},"{a}","{b}"' for n, (a, b) in enumerate(CHATS))]
    Path("chats.csv").write_text("\n".join(lines), encoding="utf-8")
    result = init(["chats.csv"], RUN, InitOptions())
    config = load_config(RUN)
    assert (config.name, config.backend, config.data.columns) == ("chats", "local", Columns())
    assert config.data.train == str(Path("chats.csv").resolve())
    assert config.data.test_fraction == 0.2
    assert "columns:" not in RUN.read_text(encoding="utf-8")
    assert (result.data.rows, result.data.examples, result.data.language) == (6, 6, "en")
    assert result.next[-3:] == tuple(
        f"lorasum {verb}" for verb in ("prepare run.yaml --show 3", "plan run.yaml", "run run.yaml")
    )
    assert json.loads(Path("lorasum.schema.json").read_text(encoding="utf-8")) == Config.model_json_schema()


def test_odd_column_names_are_found_by_what_is_in_them() -> None:
    rows = [{"ref": n, "agent": "Otto", "q1": a, "label": "open", "q2": b} for n, (a, b) in enumerate(CHATS)]
    config = written([write("export.jsonl", rows)])
    assert config.data.columns == Columns(dialogue="q1", summary="q2")
    assert "prepare --show 3" in RUN.read_text(encoding="utf-8")


def test_a_name_decides_between_columns_that_look_alike() -> None:
    rows = [{"wrapUp": f"{b} Done now.", "chatLog": a, "case summary": b, "title": f"About {b}"} for a, b in CHATS]
    config = written([write("export.jsonl", rows)])
    assert config.data.columns == Columns(dialogue="chatLog", summary="case summary")
    assert "could also be 'wrapUp', 'title'" in RUN.read_text(encoding="utf-8")


def test_columns_inside_of_objects_are_found() -> None:
    rows = [{"id": n, "payload": {"log": a, "tldr": b}} for n, (a, b) in enumerate(CHATS)]
    assert written([write("x.jsonl", rows)]).data.columns == Columns(dialogue="payload.log", summary="payload.tldr")


def test_lists_of_messages_are_a_dialogue() -> None:
    rows = [
        {"events": [{"sender": "Nell", "text": a.split("\n")[0]}, {"sender": "Otto", "text": "on it"}], "result": b}
        for a, b in CHATS
    ]
    assert written([write("x.jsonl", rows)]).data.columns == Columns(dialogue="events", summary="result")


def test_rows_of_fine_tuning_tools_need_no_columns() -> None:
    rows = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}], "source": "desk"}
        for a, b in CHATS
    ]
    assert written([write("x.jsonl", rows)]).data.columns == Columns()


def test_a_folder_with_train_and_test_files_gives_both_splits() -> None:
    rows: list[dict[str, object]] = [{"dialogue": a, "summary": b} for a, b in CHATS]
    write("chats/train.jsonl", rows)
    write("chats/test.jsonl", rows[:1])
    result = init(["chats"], RUN, InitOptions())
    config = load_config(RUN)
    assert (config.data.test, config.data.test_fraction) == (str(Path("chats").resolve()), None)
    assert "names of its files tell which are for testing" in RUN.read_text(encoding="utf-8"), (
        "train and test are one folder"
    )
    assert result.data.files == ("train.jsonl",)
    init(["chats/train.jsonl"], RUN, InitOptions(), force=True)
    assert load_config(RUN).name == "chats", "a run is not named after a split"


@pytest.mark.parametrize("names", [("a.jsonl",), ("a.jsonl", "b.jsonl"), ("train-1.jsonl", "x.jsonl")])
def test_a_folder_without_test_files_is_not_its_own_test(names: tuple[str, ...]) -> None:
    for name in names:
        write(f"chats/{name}", [{"dialogue": a, "summary": b} for a, b in CHATS])
    config = written(["chats"])
    assert (config.data.test, config.data.test_fraction) == (None, 0.2)


def test_folders_and_files_named_by_their_split_are_separated() -> None:
    rows: list[dict[str, object]] = [{"dialogue": a, "summary": b} for a, b in CHATS]
    write("all/train/a.jsonl", rows)
    write("all/validation/b.jsonl", rows[:2])
    write("all/train_2/c.jsonl", rows[:2])
    Path("all/test").mkdir()
    Path("all/.train_old").mkdir()
    result = init(["all"], RUN, InitOptions())
    data = load_config(RUN).data
    assert (data.train, data.test, result.data.files) == (*[str(Path("all").resolve())] * 2, ("a.jsonl", "c.jsonl"))
    init([write("my-test.jsonl", rows[:2]), write("my-train.jsonl", rows)], RUN, InitOptions(), force=True)
    assert load_config(RUN).data.test == str(Path("my-test.jsonl").resolve())
    init([write("qa/QATest.jsonl", rows[:2]), write("qa/QATrain.jsonl", rows)], RUN, InitOptions(), force=True)
    assert load_config(RUN).data.train == str(Path("qa/QATrain.jsonl").resolve())


@pytest.mark.parametrize("given", [["all"], ["all/train.jsonl", "all/unseen.jsonl"]])
def test_what_is_left_beside_train_is_told_in_the_config(given: list[str]) -> None:
    rows: list[dict[str, object]] = [{"dialogue": a, "summary": b} for a, b in CHATS]
    write("all/train.jsonl", rows)
    write("all/unseen.jsonl", rows[:2])
    result = init(given, RUN, InitOptions())
    assert (load_config(RUN).data.test_fraction, result.data.files) == (0.2, ("train.jsonl",))
    assert "eft unseen.jsonl" in RUN.read_text(encoding="utf-8")


@pytest.mark.parametrize("stray", ["", "notes.jsonl"])
def test_a_stray_folder_test_beside_chats_stops_nothing(stray: str) -> None:
    rows: list[dict[str, object]] = [{"dialogue": a, "summary": b} for a, b in CHATS]
    write("all/chats.jsonl", rows)
    Path("all/test").mkdir()
    if stray:
        write(f"all/test/{stray}", rows[:1])
    result = init(["all"], RUN, InitOptions())
    assert (load_config(RUN).data.test_fraction, result.data.files) == (0.2, ("chats.jsonl",))
    said = "all has a folder test for data.test, and chats.jsonl beside it"
    assert (said in RUN.read_text(encoding="utf-8")) == bool(stray)


def test_a_date_is_no_summary() -> None:
    rows = [
        {"Created": f"2026-10-{n + 1:02} 10:3{n}", "Opened": f"Oct {n + 1}, 2026 10:30 AM", "Log": a, "End": b}
        for n, (a, b) in enumerate(CHATS)
    ]
    assert written([write("export.jsonl", rows)]).data.columns == Columns(dialogue="Log", summary="End")
    assert "could also be" not in RUN.read_text(encoding="utf-8")


def test_files_with_other_columns_are_refused_as_prepare_would() -> None:
    write("desk/a.jsonl", [{"chat": a, "tldr": b} for a, b in CHATS])
    write("desk/b.jsonl", [{"Transcript": a, "Resolution": b} for a, b in CHATS])
    with pytest.raises(DataError, match=r"b\.jsonl has no column 'chat'; it has 'Transcript', ") as refused:
        init(["desk"], RUN, InitOptions())
    assert refused.value.hint == "give one of the files, or several with the same columns"
    assert not RUN.exists()


def test_the_schema_beside_the_data_is_no_data() -> None:
    """`init .` puts its schema into the folder that it has read, and prepare reads that folder."""
    write("chats.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])
    init(["."], RUN, InitOptions())
    assert Path("lorasum.schema.json").is_file()
    again = init(["."], RUN, InitOptions(), force=True)
    assert again.data.files == ("chats.jsonl",)


def test_german_chats_are_seen_to_be_german() -> None:
    rows = [{"Gespräch": a, "Zusammenfassung": b} for a, b in GERMAN]
    config = written([write("gespräche.jsonl", rows)])
    assert config.data.columns == Columns(dialogue="Gespräch", summary="Zusammenfassung")
    text = RUN.read_text(encoding="utf-8")
    assert "language de" in text
    assert "more than 100 languages" in text


def test_data_without_usable_columns_is_one_error_that_lists_them() -> None:
    rows: list[dict[str, object]] = [{"id": n, "price": 3.5 * n, "city": "Ghent"} for n in range(9)]
    with pytest.raises(NoColumnsError, match="'id', 'price', 'city'") as error:
        init([write("x.jsonl", rows)], RUN, InitOptions())
    assert "--dialogue" in error.value.hint
    assert not RUN.exists()


def test_labels_and_answers_that_are_longer_are_no_summaries() -> None:
    labels: list[dict[str, object]] = [{"chat": a, "summary type": "a closed case"} for a, _ in CHATS]
    longer: list[dict[str, object]] = [{"chat": a, "essay": f"{a}, and then some more"} for a, _ in CHATS]
    for rows in (labels, longer):
        with pytest.raises(NoColumnsError):
            init([write("x.jsonl", rows)], RUN, InitOptions())


def test_columns_that_the_user_names_are_taken_or_refused() -> None:
    rows: list[dict[str, object]] = [{"a": "hello there", "b": "greeting"}] * 3
    options = InitOptions(dialogue="a", summary="b")
    assert written([write("x.jsonl", rows)], options).data.columns == Columns(dialogue="a", summary="b")
    with pytest.raises(DataError, match=r"x\.jsonl has no column 'c'; it has 'a', 'b'") as refused:
        init(["x.jsonl"], RUN, InitOptions(dialogue="a", summary="c"), force=True)
    assert refused.value.hint == "name its columns with --dialogue and --summary"


def test_lengths_follow_the_longest_example() -> None:
    def lengths(characters: int) -> tuple[int, str]:
        dialogue = f"Nell: {'the choir will meet on Monday and ' * (characters // 34)}"
        rows = [{"dialogue": dialogue, "summary": "Nell says when the choir will meet."}]
        RUN.unlink(missing_ok=True)
        data = written([write("x.jsonl", rows)], InitOptions(name="x")).data
        return data.max_length, data.too_long

    assert lengths(300) == (512, "error")
    assert lengths(5_000) == (2048, "error")
    assert lengths(90_000) == (8192, "drop")


def test_unusable_rows_are_allowed_for_and_told_of() -> None:
    rows: list[dict[str, object]] = [{"dialogue": a, "summary": b} for a, b in CHATS]
    config = written([write("x.jsonl", [*rows, {"dialogue": "Nell: hi", "summary": ""}])])
    assert config.data.max_bad_rows == 1
    assert "x.jsonl:7: empty summary" in RUN.read_text(encoding="utf-8")


def test_a_file_is_replaced_only_by_force() -> None:
    data = [write("x.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])]
    RUN.write_text("name: mine\n", encoding="utf-8")
    with pytest.raises(LorasumError, match=r"run\.yaml is there already"):
        init(data, RUN, InitOptions())
    assert RUN.read_text(encoding="utf-8") == "name: mine\n"
    init(data, RUN, InitOptions(), force=True)
    assert load_config(RUN).name == "x"


def test_the_backend_follows_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [write("x.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])]
    monkeypatch.setattr(aws, "has_credentials", lambda: True)
    assert written(data).backend == "sagemaker"
    monkeypatch.setattr(nvidia_smi, "gpus", lambda: [nvidia_smi.Gpu("NVIDIA L4", "23034 MiB", "550.54.15")])
    init(data, RUN, InitOptions(), force=True)
    assert load_config(RUN).backend == "local"
    assert "NVIDIA L4" in RUN.read_text(encoding="utf-8")
    init(data, RUN, InitOptions(backend="sagemaker", model="org/model", name="other"), force=True)
    config = load_config(RUN)
    assert (config.backend, config.model.id, config.model.revision, config.name) == (
        "sagemaker", "org/model", None, "other",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "module", "command"),
    [("local", "torch", "pip install 'lorasum[local]'"), ("sagemaker", "boto3", "pip install 'lorasum[sagemaker]'")],
)
def test_what_the_backend_needs_and_is_missing_comes_first(
    backend: BackendName, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [write("x.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])]
    monkeypatch.setattr(verb, "find_spec", lambda name: None if name == module else name)
    assert init(data, RUN, InitOptions(backend=backend)).next[0] == command


def test_only_a_model_of_the_hub_is_to_be_pinned(tiny_model_dir: Path) -> None:
    data = [write("x.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])]
    pinned = {}
    for model in ("org/model", str(tiny_model_dir), "pkg://a/b.gguf"):
        init(data, RUN, InitOptions(model=model), force=True)
        pinned[model] = "Pin a commit" in RUN.read_text(encoding="utf-8")
    assert pinned == {"org/model": True, str(tiny_model_dir): False, "pkg://a/b.gguf": False}


def test_no_length_is_chosen_that_the_model_cannot_read(tiny_model_dir: Path) -> None:
    copy = Path(shutil.copytree(tiny_model_dir, "model"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "gpt2", "n_positions": 600}))
    rows = [{"dialogue": f"Nell: {'and so on ' * 700}{a}", "summary": b} for a, b in CHATS]
    assert written([write("x.jsonl", rows)], InitOptions(model=f"./{copy}")).data.max_length == 512


def test_a_folder_without_a_model_is_refused_before_prepare() -> None:
    data = [write("x.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])]
    with pytest.raises(ModelError, match="there is no model folder"):
        init(data, RUN, InitOptions(model="./nowhere"))
    assert not RUN.exists()


def test_a_name_that_no_run_can_have_is_refused_with_one_that_it_can() -> None:
    data = [write("x.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])]
    with pytest.raises(LorasumError, match="My Run!") as error:
        init(data, RUN, InitOptions(name="My Run!"))
    assert error.value.hint.endswith("my-run")


def test_names_of_columns_cannot_break_out_of_a_comment() -> None:
    rows: list[dict[str, object]] = [{"chat": a, "tldr": b, "x\nname: evil #": f"Well, {b}"} for a, b in CHATS]
    assert written([write("x.jsonl", rows)]).name == "x"
    rows = [{"log: [a]\n": a, "#: b": b} for a, b in CHATS]
    assert "log: [a]\n" in json.dumps(rows[0]).encode().decode("unicode_escape")
    init([write("x.jsonl", rows)], RUN, InitOptions(), force=True)
    assert load_config(RUN).data.columns == Columns(dialogue="log: [a]\n", summary="#: b")


def test_paths_are_written_from_the_folder_of_the_config() -> None:
    data = write("here/x.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])
    output = Path("configs/deep/run.yaml")
    init([data], output, InitOptions())
    assert load_config(output).name == "x"
    assert "../../here/x.jsonl" in output.read_text(encoding="utf-8")
    assert load_config(output).data.train == str(Path(data).resolve())


def test_a_user_at_a_terminal_is_asked_for_what_is_missing() -> None:
    data = write("desk.jsonl", [{"dialogue": a, "summary": b} for a, b in CHATS])
    config = written([], ask=asker(data, "", "org/model", "sagemaker"))
    assert (config.name, config.model.id, config.backend) == ("desk", "org/model", "sagemaker")
    init([], RUN, InitOptions(), force=True, ask=asker(data, "My Desk!", "org/model", "local"))
    assert load_config(RUN).name == "my-desk", "a name is made of what a person types"
    odd = write("odd.jsonl", [{"one": "hello there", "two": "hi"}] * 3)
    init([odd], RUN, InitOptions(), force=True, ask=asker("", ""))
    assert load_config(RUN).data.columns == Columns(dialogue="one", summary="two")
    with pytest.raises(LorasumError, match="it has none"):
        init([write("empty.jsonl", [{}, {}])], RUN, InitOptions(), force=True, ask=asker())


def test_without_data_and_terminal_the_error_says_what_to_give() -> None:
    with pytest.raises(LorasumError, match="no data was given") as error:
        init([], RUN, InitOptions())
    assert "--example quickstart" in error.value.hint


@pytest.mark.parametrize("name", verb.EXAMPLES)
def test_each_example_is_written_whole_and_loads(name: str) -> None:
    result = write_example(name, None)
    config = load_config(Path(f"{name}.yaml"))
    assert result.next[-1] == f"lorasum run {name}.yaml"
    for path in (config.data.train, config.data.test):
        assert path is None or Path(str(path)).is_file()
    assert all(Path(file).is_file() for file in result.files)
    with pytest.raises(LorasumError, match="is there already"):
        write_example(name, None)


def test_examples_share_their_chats_but_replace_no_others() -> None:
    write_example("quickstart", None)
    assert Path(write_example("sagemaker", None).files[0]).name == "sagemaker.yaml"
    chats = Path("chats/test.jsonl")
    chats.write_text("{}\n", encoding="utf-8")
    with pytest.raises(LorasumError, match=r"test\.jsonl is there already"):
        write_example("sagemaker", Path("other.yaml"))
    assert (chats.read_text(encoding="utf-8"), Path("other.yaml").exists()) == ("{}\n", False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Über Lauf", "uber-lauf"),
        ("tickets für Lena.csv", "tickets-fur-lena"),
        ("Größe_Ærø", "grosse-aero"),
        ("chats-2.jsonl", "chats-2"),
        ("чаты", "chats"),
    ],
)
def test_names_keep_the_letters_under_their_marks(text: str, name: str) -> None:
    assert run_name(text) == name


def test_an_example_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(LorasumError, match="unknown example 'quick'") as error:
        write_example("quick", None)
    assert "quickstart, sagemaker, qwen, bloomz" in error.value.hint
