"""push and export: the artifact of a completed job goes to the hub, or into a file, whole or not at all."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import TOKEN, Hub
from memory_backend import DONE, InMemoryBackend, context

from lorasum.commands.deploy import deploy
from lorasum.commands.evaluate import evaluate
from lorasum.commands.export import export
from lorasum.commands.push import push
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import HubOutageError, LorasumError, ModelError
from lorasum.ledger.ledger import Ledger
from lorasum.models.hub import look_at_hub_again, push_files
from lorasum.shared.records import ArtifactRecord, FileFacts, record_text

CARD = "---\nlibrary_name: transformers\n---\n# chats\n"
FILES = {
    "README.md": CARD.encode(),
    "config.json": b'{"model_type": "bloom"}',
    "model.safetensors": bytes(range(256)) * 20,
    "code/inference.py": b"pass",
    "base_summaries.json": b"{}",
    "adapter/README.md": b"---\nlibrary_name: peft\n---\n# adapter\n",
    "adapter/adapter_model.safetensors": b"weights" * 100,
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # this hub stores by Git LFS
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        look_at_hub_again()  # an earlier test may have found no hub, and a later one must not find this one
        yield server
        look_at_hub_again()


@pytest.fixture
def trained(config: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path) -> RunContext:
    """A run with an artifact on disk."""
    backend.artifacts = f"{tmp_path}/"
    run = context(config, backend, ledger)
    folder = tmp_path / train(run).job
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    backend.files = {name: FileFacts(len(content), "") for name, content in FILES.items()}
    record = ArtifactRecord(1, "chats", "org/model", None, "{dialogue}", 2, (), "ab", {}, DONE, {}, files=backend.files)
    (folder / "lorasum.json").write_text(record_text(record))
    return run


def test_the_merged_model_is_pushed_as_one_private_commit(trained: RunContext, hub: Hub) -> None:
    result = push(trained, "me/chats")
    assert (result.private, result.kind, result.location) == (True, "merged_model", f"{hub.url}/me/chats")
    assert hub.private == {"me/chats": True}
    left = ("adapter/", "base_summaries.json")  # which tells of the user's own chats
    kept = {name: content for name, content in FILES.items() if not name.startswith(left)}
    assert {name: hub.files["me/chats"][name] for name in kept} == kept
    assert set(hub.files["me/chats"]) == {*kept, "lorasum.json"}
    assert len(hub.commits) == 1
    push(trained, "me/chats")
    assert len(hub.files) == 1, "the same repository again"


def test_the_adapter_alone_lies_at_the_root_of_its_repository(trained: RunContext, hub: Hub) -> None:
    result = push(trained, "me/adapter", adapter=True, public=True)
    assert (result.private, result.kind) == (False, "adapter")
    assert set(hub.files["me/adapter"]) == {"README.md", "adapter_model.safetensors"}


def test_the_card_gets_the_scores_and_the_artifact_keeps_its_own(trained: RunContext, hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    deploy(trained)
    scores = evaluate(trained, base=False).scores["fine-tuned"]
    push(trained, "me/chats")
    card: Any = ModelCard(hub.files["me/chats"]["README.md"].decode())
    found = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert found["ROUGE-L"] == pytest.approx(scores.rougeL.mean, abs=0.01)
    assert f"| fine-tuned | {scores.rouge1.mean:.1f} |" in card.text
    assert "# chats" in card.text
    [kept] = tmp_path.glob("chats-*/README.md")
    assert kept.read_text() == CARD


def test_a_public_repository_gets_nothing_unless_it_is_meant(trained: RunContext, hub: Hub) -> None:
    hub.private["me/open"] = False
    with pytest.raises(LorasumError, match="me/open is public"):
        push(trained, "me/open")
    assert hub.files == {}
    push(trained, "me/open", public=True)
    assert hub.files["me/open"]


@pytest.mark.parametrize(
    ("repository", "token", "said"),
    [
        ("me/chats", "hf_wrong", "the hub asks who you are"),
        ("theirs/chats", TOKEN, "your token may not write to theirs/chats"),
        ("me/no spaces", TOKEN, "'me/no spaces' is not a repository name"),
    ],
)
def test_a_refusal_of_the_hub_is_said_in_one_line(
    trained: RunContext, hub: Hub, monkeypatch: pytest.MonkeyPatch, repository: str, token: str, said: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(LorasumError, match=said) as error:
        push(trained, repository)
    assert error.value.hint
    assert hub.files == {}


def test_an_interrupt_does_not_wait_for_the_uploads(hub: Hub) -> None:
    """They can be of many gigabytes. Nothing is committed, and the same command goes on."""
    files = {f"{name}.safetensors": name.encode() * 500 for name in "abc"}
    hub.goes_on.clear()
    main = threading.get_ident()

    def interrupt() -> None:
        hub.uploading.acquire()
        hub.uploading.acquire()
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        push_files("me/chats", files, True, "the model")
    assert hub.blobs == {}, "they are still under way"
    hub.goes_on.set()
    # A command would end without waiting for them. One may not have begun yet, and such a thread cannot be joined.
    while any(not left.daemon for left in set(threading.enumerate()) - before):
        time.sleep(0.01)
    assert hub.commits == []
    push_files("me/chats", files, True, "the model")
    assert hub.files["me/chats"] == files


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(403, 2, "your token may not write to me/chats"), (520, 5, "(?m)the hub answers 520$")],  # 503 is asked for 23 s
)
def test_an_upload_that_the_hub_refuses_is_said_in_one_line(
    trained: RunContext, hub: Hub, status: int, code: int, said: str
) -> None:
    hub.refuses = status
    with pytest.raises(LorasumError, match=said) as error:
        push(trained, "me/chats")
    assert error.value.exit_code == code
    assert hub.commits == []


def test_a_hub_that_is_not_there_is_said(trained: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubOutageError, match="the hub cannot be reached"):
        push(trained, "me/chats")


def test_a_damaged_artifact_is_not_pushed(trained: RunContext, hub: Hub, backend: InMemoryBackend) -> None:
    backend.files = {**backend.files, "model.safetensors": FileFacts(3, "")}
    with pytest.raises(LorasumError, match="is damaged: model"):
        push(trained, "me/chats")
    assert hub.private == {}


def test_a_model_that_gguf_has_no_place_for_leaves_no_file(
    trained: RunContext, backend: InMemoryBackend, tmp_path: Path
) -> None:
    file = tmp_path / "m.gguf"
    assert not train(trained).gguf, "so no next step names it"
    with pytest.raises(ModelError, match="a model of type bloom cannot be written as GGUF"):
        export(trained, file)
    assert not file.exists()
    assert "fetch_artifact" not in backend.calls, "gigabytes are copied for what can be written"
    config = Path(train(trained).artifact or "") / "config.json"
    config.write_text('{"model_type": "llama"}')
    assert train(trained).gguf
    file.write_text("mine")
    with pytest.raises(LorasumError, match="is there already"):
        export(trained, file)
    assert file.read_text() == "mine"
