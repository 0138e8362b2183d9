"""The wheel: installed alone, outside the checkout, it is the light client and finds its container scripts."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lorasum.config.schema import Config

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


Build = Callable[..., None]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Runs `build` with what pyproject.toml builds with, which is installed once: build("--wheel", "--outdir", to)."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    folder = tmp_path_factory.mktemp("backend")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(folder), *needed]
    subprocess.run(pip, check=True)
    environ = {**os.environ, "PYTHONPATH": str(folder)}

    def build(*arguments: str) -> None:
        command = [sys.executable, "-m", "build", "--no-isolation", *arguments, str(ROOT)]
        subprocess.run(command, check=True, capture_output=True, env=environ)

    return build


@pytest.fixture(scope="module")
def wheel(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build("--wheel", "--outdir", str(folder))
    [built] = folder.glob("lorasum-*.whl")
    return built


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel and what its metadata requires, nothing else. Those packages are links to ours."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True, cwd=folder)
    [packages] = folder.glob("lib/python*/site-packages")
    [lorasum] = metadata.distributions(name="lorasum", path=[str(packages)])
    for name in required(lorasum):
        for file in metadata.files(name) or []:
            top, place = packages / file.parts[0], metadata.distribution(name).locate_file(file.parts[0])
            if file.parts[0] not in ("..", "__pycache__") and not top.exists():
                top.symlink_to(Path(str(place)))
    return folder


def required(package: metadata.Distribution) -> set[str]:
    """The packages that it needs, and those that they need."""
    names: set[str] = set()
    asked = [(package, "")]
    known: set[tuple[str, str]] = set()
    while asked:
        each, extra = asked.pop()
        for line in each.requires or []:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            names.add(requirement.name)
            further = {(requirement.name, extra) for extra in ("", *requirement.extras)} - known
            known |= further
            asked += [(metadata.distribution(name), extra) for name, extra in further]
    return names


def test_the_wheel_holds_the_container_scripts_as_they_are(wheel: Path) -> None:
    scripts = [path for path in (ROOT / "container_scripts").rglob("*") if path.is_file()]
    expected = {f"lorasum/{path.relative_to(ROOT)}": path.read_bytes() for path in scripts if path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if "/container_scripts/" in name}
        shared = {name: archive.read(name) for name in archive.namelist() if name.startswith("lorasum/shared/")}
    assert held == expected
    assert shared == {name.replace("/container_scripts", ""): held[name] for name in held if "/shared/" in name}


def test_a_wheel_made_of_the_sdist_holds_the_same_files(build: Build, wheel: Path, tmp_path: Path) -> None:
    """The client's link to `shared` is a folder there."""
    build("--outdir", str(tmp_path))
    names = []
    for each in (wheel, *tmp_path.glob("lorasum-*.whl")):
        with zipfile.ZipFile(each) as archive:
            names.append(sorted(archive.namelist()))
    assert names[0] == names[1]


@pytest.mark.drill
def test_two_builds_of_one_commit_are_the_same_bytes(tmp_path: Path) -> None:
    """From clones in other folders, made at other times and with another umask, as `make release` builds."""
    made = []
    for name, umask in (("one", 0o022), ("two", 0o077)):
        clone, out = tmp_path / name, tmp_path / f"dist-{name}"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, umask=umask)
        told = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=clone, check=True, stdout=subprocess.PIPE, text=True
        )
        environ = {**os.environ, "SOURCE_DATE_EPOCH": told.stdout.strip()}
        build = [sys.executable, "-m", "build", "--outdir", str(out), str(clone)]
        subprocess.run(build, check=True, capture_output=True, env=environ, umask=umask)
        made.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert len(made[0]) == 2, "a wheel and an sdist"
    assert made[0] == made[1]


def test_the_installed_light_client_prepares_and_finds_the_entry_point(
    venv: Path, tmp_path: Path, tiny_model_dir: Path, tiny_chats: Path
) -> None:
    config = tmp_path / "tiny.yaml"
    data = {"train": str(tiny_chats / "train.jsonl"), "test": str(tiny_chats / "test.jsonl")}
    config.write_text(json.dumps({"name": "tiny", "model": {"id": str(tiny_model_dir)}, "data": data}))

    def call(*command: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        env = {**kept, "LORASUM_HOME": str(tmp_path / "home")}
        command = (str(venv / "bin" / command[0]), *command[1:])
        return subprocess.run(command, env=env, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True).stdout

    assert call("python", "-c", "from importlib.util import find_spec; print(find_spec('torch'))") == "None\n"
    assert "quickstart" in call("lorasum", "--help")
    example = json.loads(call("lorasum", "init", "--example", "quickstart", "--json"))
    names = ("quickstart.yaml", "chats/test.jsonl", "chats/train.jsonl")
    assert example["files"] == [str(tmp_path / name) for name in names]
    assert example["next"][-1] == "lorasum run quickstart.yaml"
    assert json.loads(call("lorasum", "config", "show", "-c", "quickstart.yaml", "--json"))["name"] == "quickstart"
    assert json.loads(call("lorasum", "config", "schema")) == Config.model_json_schema()
    prepared = json.loads(call("lorasum", "prepare", "-c", str(config), "--json"))
    assert prepared["manifest"]["splits"]["train"]["examples"] == 12
    plan = json.loads(call("lorasum", "train", "-c", str(config), "--dry-run", "--json"))
    entry_point = Path(plan["entry_point"])
    assert entry_point.is_relative_to(venv)
    assert entry_point.read_bytes() == (ROOT / "container_scripts/train.py").read_bytes()


def test_a_hint_names_a_page_that_the_wheel_has(venv: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("name: chats\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(venv / "bin" / "lorasum"), "init", "--from", "theirs.yaml"]
    ended = subprocess.run(command, env=kept, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    [page] = re.findall(r"\S+/docs/[\w-]+\.md", ended.stderr)
    assert Path(page).is_relative_to(venv)
    assert Path(page).is_file()
