"""The docs say what the code says: pages made from it, links that lead somewhere, keys and verbs that exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_page import command_line, options
from json_page import MAKERS, field_names, json_documents
from pages import DOCS, configuration, troubleshooting
from sources import ROOT, both_sides

from lorasum.config.data import Columns, DataConfig
from lorasum.config.foreign import KEYS
from lorasum.config.loader import load_config
from lorasum.config.suggest import suggestion
from lorasum.data.files.reading import unticked
from lorasum.data.records import Example
from lorasum.data.sources import open_sources
from lorasum.data.validate import check
from lorasum.scoring.evaluation import FIGURES
from lorasum.system.paths import doc

BESIDE_CODE = [ROOT / "tests" / folder / "README.md" for folder in ("stand_in", "drill")]
HAND_WRITTEN = [*sorted(ROOT.glob("*.md")), ROOT / "llms.txt", *sorted(DOCS.glob("*.md")), *BESIDE_CODE]
HAND_WRITTEN += [ROOT / "benchmarks" / "README.md"]


def test_the_configuration_is_made_from_the_code() -> None:
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == configuration(), "run python tests/docs/pages.py"


def test_the_verbs_and_options_are_made_from_the_code() -> None:
    assert _read("cli.md") == command_line(), "run python tests/docs/pages.py"


def test_the_documents_are_made_from_the_records() -> None:
    assert _read("json.md") == json_documents(), "run python tests/docs/pages.py"


def test_a_figure_that_may_be_nan_may_be_null_in_its_document() -> None:
    page = _read("json.md")
    for name in ("faithfulness", "coverage", "conciseness", "mean"):
        assert f"| `{name}` | number or null |" in page
    assert not re.search(r"(?i)\| number \|.*\bnull\b", page)


def test_every_verb_with_json_has_a_document_and_a_run_in_it() -> None:
    free = {"env", "config show", "config schema"}  # they print names and values, for people and for editors
    with_json = {verb for verb, spelt in options().items() if "--json" in spelt} - free
    assert {verb.partition(" --")[0] for verb in MAKERS} == with_json
    without_run = {verb for verb, maker in MAKERS.items() if "run" not in field_names(maker)}
    assert without_run == {"init --example", "runs", "clean"}, "these are about no run, or about all"


def test_the_errors_are_those_of_the_code() -> None:
    """Nearly all have to be there: one error may be reworded without a new page, and an outdated page is found."""
    written, now = (set(re.findall(r"(?m)^\| .*", page)) for page in (_read("troubleshooting.md"), troubleshooting()))
    assert len(now) > 200
    assert len(written & now) > 0.9 * len(written | now), "run python tests/docs/pages.py"


def _read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    there = [(page.parent / file if file else page, heading) for file, heading in links if "://" not in file]
    assert [(file.name, heading) for file, heading in there if heading not in _headings(file)] == []


def _headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_docs_give_verbs_only_options_that_they_have() -> None:
    known = options()
    shown = [
        (page.name, verb, option)
        for page in HAND_WRITTEN
        for verb, arguments in re.findall(
            r"lorasum (config \w+|[a-z]+) ([^`|#>&;\n]*)", page.read_text(encoding="utf-8")
        )
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", arguments)
        if verb in known
    ]
    assert len(shown) > 100
    assert [one for one in shown if one[2] not in known[one[1]] | {"--help"}] == []


def test_the_tests_that_the_docs_name_are_there() -> None:
    files = list((ROOT / "tests").rglob("*.py"))
    there = {name for path in files for name in re.findall(r"(?m)^def (test_\w+)", path.read_text(encoding="utf-8"))}
    there |= {path.name for path in files}
    for page in (*BESIDE_CODE, DOCS / "design-notes.md"):
        named = set(re.findall(r"`(?:[\w/]+/)?(test_\w+(?:\.py)?)`", page.read_text(encoding="utf-8")))
        assert named - there == set(), page
        assert named


def test_the_rows_that_docs_chats_makes_of_exports_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"(?s)```python\n(.*?)```", _read("chats.md"))
    monkeypatch.chdir(tmp_path)
    Path("exports").mkdir()
    Path("exports", "WhatsApp Chat with Pia.txt").write_text(
        "14/3/2024, 09:02 - Pia: olé\n14/3/2024, 09:05 - Teo: hi\n"
    )
    Path("summaries.csv").write_text("file,summary\nWhatsApp Chat with Pia.txt,They greet.\n")
    exec(code, {})
    source = open_sources(DataConfig(train="chats.jsonl", test="chats.jsonl"))["train"]
    assert [check(row, Columns()) for _, row in source.rows(unticked)] == [Example("Pia: olé\nTeo: hi", "They greet.")]


def test_the_keys_of_other_tools_lead_to_keys_that_there_are() -> None:
    rows = re.findall(r"^\| ([^|]+) \| `([\w.]+)`", _read("coming-from.md"), re.MULTILINE)
    meant = {key: f"did you mean {ours}?" for theirs, ours in rows for key in re.findall(r"`(\w+)", theirs)}
    assert len(meant) > 15
    del meant["template"]  # there the name of a chat format, here a prompt
    assert {key: suggestion([key]) for key in meant} == meant


def test_the_keys_that_are_translated_are_on_the_page() -> None:
    page = _read("coming-from.md")
    for tool, keys_of_tool in KEYS.items():
        section = page.partition(f"## From {tool}")[2].partition("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", section, re.MULTILINE))
        assert {key: ours for key, ours in rows.items() if key in keys_of_tool} == dict(keys_of_tool), tool


def test_the_docs_name_only_verbs_that_there_are() -> None:
    shown = subprocess.run([sys.executable, "-m", "lorasum", "--help"], capture_output=True, text=True, check=True)
    verbs = set(re.findall(r"│ ([a-z]+) ", shown.stdout)) | {"help"}
    for page in HAND_WRITTEN:
        named = set(re.findall(r"`lorasum ([a-z]+)", page.read_text(encoding="utf-8")))
        assert named <= verbs, page.name


def test_the_example_of_a_config_is_one(tmp_path: Path) -> None:
    [example] = re.findall(r"(?s)```yaml\n(.*?)```", _read("configuration.md"))
    (tmp_path / "run.yaml").write_text(example, encoding="utf-8")
    assert load_config(tmp_path / "run.yaml").name == "support-chats"


def test_each_figure_of_fail_under_is_explained() -> None:
    rows = re.findall(r"(?m)^\| (`[\w`, ]+`) \| (?:0|from) ", _read("evaluation.md"))
    assert {name for row in rows for name in re.findall(r"\w+", row)} == set(FIGURES)


def test_each_page_that_a_hint_names_is_there() -> None:
    calls = [node for _, tree in both_sides() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {ast.literal_eval(one.args[0]) for one in calls if ast.unparse(one.func) == "doc"}
    assert len(named) > 4
    assert {name for name in named if not doc(name).is_file()} == set()
