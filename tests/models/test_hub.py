"""Hub models and datasets, against a hub of our own: a server on this machine that speaks as much of its protocol."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from forks import Ended, Zygote
from loopback_server import LoopbackServer
from model_hub import COMMIT, Hub

from lorasum.models.quiet import quiet_datasets

pytestmark = pytest.mark.slow


Answers = dict[str, dict[str, Any]]

SCRIPT = """
import importlib, json, os, sys
if "AGAIN" in os.environ:
    import datasets.config, huggingface_hub.constants
    for read_when_imported in (huggingface_hub.constants, datasets.config):
        importlib.reload(read_when_imported)
from dataclasses import asdict
from lorasum.backends.local.backend import LocalBackend
from lorasum.commands.prepare import prepare
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.reporting import Silent
answers = {}
for name, config in json.loads(sys.argv[1]).items():
    try:
        answers[name] = asdict(prepare(RunContext(Config.model_validate(config), LocalBackend, Ledger(), Silent())))
    except LorasumError as error:
        answers[name] = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, tiny_chats: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that uses our hub, with a cache and a home of its own."""
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_model_dir, root / "models" / "me" / "model")
    shutil.copytree(tiny_chats, root / "datasets" / "me" / "chats")
    with LoopbackServer(type("Served", (Hub,), {"root": root})) as server:
        yield {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(root / "cache"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "LORASUM_HOME": str(root / "home"),
        }


def prepare_each(env: dict[str, str], cases: dict[str, dict[str, Any]], clients: Zygote | None = None) -> Answers:
    """Prepare the cases one after another, in a process of their own: the libraries read `env` when imported.

    A fork of `clients`, which has imported them, reads it again.
    """
    configs = {
        name: {
            "name": "r",
            "model": {"id": "me/model", **case.get("model", {})},
            "data": {"dataset": "me/chats", "max_length": 256, **case.get("data", {})},
        }
        for name, case in cases.items()
    }
    script = Path(env["LORASUM_HOME"]).with_name("prepare_each.py")
    script.write_text(SCRIPT)
    done: Ended | subprocess.CompletedProcess[str]
    if clients:
        done = clients.start([json.dumps(configs)], {**os.environ, **env, "AGAIN": "1"}, {}, str(script)).wait()
    else:
        command = [sys.executable, str(script), json.dumps(configs)]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.stderr == "", "the libraries' own talk reaches the screen"
    answers: Answers = json.loads(done.stdout)
    return answers


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "dataset": ({"data": {"dataset": "me/none"}}, "DataError", "hub dataset 'me/none' does not exist, or is private"),
    "gated": ({"data": {"dataset": "me/gated"}}, "DataError", "hub dataset 'me/gated' is gated"),
    "revision": ({"data": {"revision": "v9"}}, "DataError", "hub dataset 'me/chats' has no such revision"),
    "busy dataset": (
        {"data": {"dataset": "me/busy"}},
        "HubOutageError",
        "hub dataset 'me/busy' cannot be downloaded: ",
    ),
    "busy model": (
        {"model": {"id": "me/busy"}},
        "HubOutageError",
        "hub model 'me/busy' cannot be downloaded: the hub a",
    ),
    "split": ({"data": {"test_split": "dev"}}, "DataError", "hub dataset 'me/chats': Unknown split"),
    "column": ({"data": {"columns": {"summary": "s"}}}, "DataError", "me/chats[test] has no column 's'; it has 'dia"),
    "model": ({"model": {"id": "me/none"}}, "ModelError", "hub model 'me/none' does not exist, or is private"),
    "model revision": ({"model": {"revision": "v9"}}, "ModelError", "hub model 'me/model' has no such revision"),
}
PINNED: dict[str, Any] = {"model": {"revision": COMMIT}, "data": {"revision": COMMIT}}


@pytest.fixture(scope="module")
def online(hub: dict[str, str]) -> Answers:
    cases = {name: case for name, (case, _, _) in WRONG.items()}
    cases["streamed"] = {"data": {"streaming": True, "max_length": 310}}
    return prepare_each(hub, {"first": {}, "again": {}, "pinned": PINNED, **cases})


def test_hub_models_and_datasets_are_pinned_to_their_commit(online: Answers) -> None:
    manifest = online["first"]["manifest"]
    assert (manifest["tokenizer"], manifest["tokenizer_revision"]) == ("me/model", COMMIT)
    assert [manifest["splits"][split]["examples"] for split in ("train", "test")] == [12, 4]
    assert online["again"]["reused"] is True
    streamed = online["streamed"]["manifest"]["splits"]
    assert {name: split["tokens"] for name, split in streamed.items()} == {
        name: split["tokens"] for name, split in manifest["splits"].items()
    }
    assert (online["pinned"]["reused"], online["pinned"]["dataset"]) == (True, online["first"]["dataset"])


@pytest.mark.parametrize("name", WRONG)
def test_what_the_hub_does_not_have_is_one_line_and_a_hint(online: Answers, name: str) -> None:
    _, error, message = WRONG[name]
    answer = online[name]
    assert answer["error"] == error
    assert answer["message"].startswith(message)
    assert answer["hint"]
    assert "\n" not in answer["message"] + answer["hint"]


def test_no_telemetry_is_sent_to_the_hub(hub: dict[str, str], online: Answers) -> None:
    asked = (Path(hub["HF_HOME"]).parent / "asked").read_text()
    assert "hf_hub/" in asked
    assert "telemetry/off" in asked
    assert not re.findall(r".*agent.*", asked), "by default the hub is told which coding agent is at work"


def test_no_download_of_a_dataset_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.load

    counted: list[str] = []
    monkeypatch.setattr("datasets.load.get_session", lambda: counted.append("asked"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    with quiet_datasets():
        datasets.load.increase_load_count("me/chats")
    assert counted == []
    datasets.load.increase_load_count("me/chats")
    assert counted == ["asked"], "the library's counter was looked for in the right place"


def test_a_model_is_described_before_its_weights_are_downloaded(hub: dict[str, str]) -> None:
    script = """
import sys; sys.path.insert(0, "container_scripts")
from shared import base_download
for download in (base_download.download_description, base_download.download_base):
    print(sorted(path.name for path in download("me/model", None).glob("[cm]*.*s*")))
"""
    environ = {**os.environ, **hub, "HF_HOME": hub["HF_HOME"] + "-2"}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['config.json']", "['config.json', 'model.safetensors']"]


def test_what_is_pinned_and_downloaded_needs_no_hub(hub: dict[str, str], online: Answers, clients: Zygote) -> None:
    pinned = {"model": PINNED["model"], "data": {**PINNED["data"], "max_length": 300}}
    other = {"model": PINNED["model"], "data": {"revision": "b" * 40}}
    offline = prepare_each({**hub, "HF_HUB_OFFLINE": "1"}, {"pinned": pinned, "other": other, "branch": {}}, clients)
    assert offline["pinned"]["manifest"]["splits"]["train"]["examples"] == 12
    assert "is not downloaded at bbbbbbbbbbbb" in offline["other"]["message"]
    assert "the hub cannot be reached" in offline["branch"]["message"]
    assert offline["branch"]["error"] == "DataError", "it is never reached with this variable"


def test_a_hub_that_is_not_there_is_said_at_once(hub: dict[str, str], tiny_model_dir: Path, clients: Zygote) -> None:
    """Without the libraries' tries, which take half a minute for each file and print two lines each (prepare_each)."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}", "HF_HOME": hub["HF_HOME"] + "-3"}
        cases = {
            "both": PINNED,
            "dataset": {"model": {"id": str(tiny_model_dir)}, "data": PINNED["data"]},
            "branch": {},
        }
        answers = prepare_each({**hub, **nowhere}, cases, clients)
    for name, what in {"both": "model 'me/model'", "dataset": "dataset 'me/chats'", "branch": "dataset"}.items():
        assert f"hub {what}" in answers[name]["message"]
        assert answers[name]["error"] == "HubOutageError"
        assert "the hub cannot be reached" in answers[name]["message"]


def test_a_hub_that_does_not_answer_is_asked_once(hub: dict[str, str], online: Answers, clients: Zygote) -> None:
    """Where a network swallows packets, each further question would wait for seconds."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                asked.append(connection)
                connection.close()

        Thread(target=hang_up, daemon=True).start()
        nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}"}
        cases = {"pinned": {**PINNED, "data": {**PINNED["data"], "max_length": 290}}, "branch": {}}
        answers = prepare_each({**hub, **nowhere}, cases, clients)
    assert answers["pinned"]["manifest"]["splits"]["train"]["examples"] == 12
    assert "the hub cannot be reached" in answers["branch"]["message"]
    assert len(asked) == 1
