"""deploy looks at the artifact's files before it starts anything, and names the one that is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from memory_backend import DONE, InMemoryBackend, context
from stand_in import StandIn

from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.records import JobRef
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.commands.deploy import deploy
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.artifacts import check_artifact, damages
from lorasum.reporting import Silent
from lorasum.shared.names import RECORD_FILE
from lorasum.shared.records import ArtifactRecord, FileFacts, record_text
from lorasum.system.files import file_digest

FILES = {
    "model-1.safetensors": b"a" * 4000,
    "model-2.safetensors": b"b" * 4000,
    "adapter/adapter_config.json": b"{}",
}
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: (f / "model-2.safetensors").write_bytes(b"b" * 17), "s has 17 bytes instead of 4,000"),
    "empty": (lambda f: (f / "model-1.safetensors").write_bytes(b""), "1.safetensors has 0 bytes instead of 4,000"),
    "missing": (lambda f: (f / "model-2.safetensors").unlink(), "model-2.safetensors is missing"),
}  # fmt: skip
IN_CONTENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "swapped": (
        lambda f: (f / "model-1.safetensors").write_bytes(b"b" * 4000),
        "the content of model-1.safetensors has changed",
    ),
    "one bit": (
        lambda f: (f / "adapter/adapter_config.json").write_bytes(b"{y"),
        "the content of adapter/adapter_config.json has changed",
    ),
}


def record(files: dict[str, FileFacts]) -> str:
    return record_text(
        ArtifactRecord(1, "chats", "org/model", None, "{dialogue}", 2, (), "f", {}, DONE, {}, files=files)
    )


def write_artifact(folder: Path) -> None:
    facts = {}
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        facts[name] = FileFacts(len(content), file_digest(folder / name))
    (folder / RECORD_FILE).write_text(record(facts))


@pytest.fixture
def job(tmp_path: Path) -> JobRef:
    """A job of the local backend, and its artifact."""
    write_artifact(tmp_path / "ml" / "model")
    return JobRef("chats-0", str(tmp_path))


def test_a_whole_artifact_passes(job: JobRef) -> None:
    check_artifact(LocalBackend(), job)


@pytest.mark.parametrize("damage", [*DAMAGE, *IN_CONTENT])
def test_a_damaged_file_is_named(job: JobRef, damage: str) -> None:
    act, said = {**DAMAGE, **IN_CONTENT}[damage]
    act(Path(job.location) / "ml" / "model")
    with pytest.raises(LorasumError, match=r"the artifact of job chats-0 is damaged") as error:
        check_artifact(LocalBackend(), job)
    assert said in error.value.message
    assert "run `lorasum train`" in error.value.hint


def test_an_adapter_is_served_though_a_merged_file_is_damaged(job: JobRef) -> None:
    DAMAGE["cut"][0](Path(job.location) / "ml" / "model")
    check_artifact(LocalBackend(), job, "adapter/")
    with pytest.raises(LorasumError, match=r"model-2.safetensors has 17 bytes"):
        check_artifact(LocalBackend(), job)


def test_several_damaged_files_are_counted(job: JobRef) -> None:
    for act, _ in (DAMAGE["missing"], IN_CONTENT["swapped"]):
        act(Path(job.location) / "ml" / "model")
    with pytest.raises(LorasumError, match=r"the content of model-1.safetensors has changed, and 1 more"):
        check_artifact(LocalBackend(), job)


def test_an_artifact_of_an_earlier_version_is_believed(job: JobRef) -> None:
    folder = Path(job.location) / "ml" / "model"
    (folder / RECORD_FILE).write_text(json.dumps({"format": 1, "run": "chats"}))
    DAMAGE["missing"][0](folder)
    check_artifact(LocalBackend(), job)


def test_a_file_that_came_later_is_no_damage(job: JobRef) -> None:
    (Path(job.location) / "ml" / "model" / "code").mkdir()
    (Path(job.location) / "ml" / "model" / "code" / "x.pyc").write_text("")
    check_artifact(LocalBackend(), job)


def test_an_artifact_too_large_to_read_is_judged_by_its_sizes(job: JobRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasum.backends.local.jobs._READ_FOR_DIGESTS", 100)
    folder = Path(job.location) / "ml" / "model"
    IN_CONTENT["swapped"][0](folder)
    check_artifact(LocalBackend(), job)
    DAMAGE["cut"][0](folder)
    with pytest.raises(LorasumError, match="17 bytes"):
        check_artifact(LocalBackend(), job)


def test_a_damaged_list_of_files_is_damage() -> None:
    assert damages({"a": FileFacts(0, "")}, {"a": FileFacts(5, "ab")}) == ["a has 5 bytes instead of 0"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_sizes_are_read_from_the_listing_of_s3(
    tmp_path: Path, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    write_artifact(tmp_path / "model")
    act, said = DAMAGE[damage]
    act(tmp_path / "model")
    with StandIn() as aws:
        for name, value in aws.environ().items():
            monkeypatch.setenv(name, value)
        aws.aws.upload(tmp_path / "model", f"s3://{aws.bucket}/out/model/")
        uri = f"s3://{aws.bucket}/out/model/"
        monkeypatch.setattr(SageMakerBackend, "artifact", lambda _self, _job: uri)
        backend = SageMakerBackend(make_config(sagemaker={"bucket": aws.bucket}).sagemaker, Silent())
        with pytest.raises(LorasumError, match=said):
            check_artifact(backend, JobRef("chats-0", "arn"))


def test_deploy_starts_nothing_of_a_damaged_artifact(
    config: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    run = context(config, backend, ledger)
    artifact = Path(str(train(run).artifact).replace("memory:/", f"{tmp_path}/"))
    backend.artifacts = f"{tmp_path}/"
    write_artifact(artifact)
    backend.files = {name: FileFacts(len(content), "") for name, content in FILES.items()}
    del backend.files["model-1.safetensors"]
    with pytest.raises(LorasumError, match=r"model-1.safetensors is missing"):
        deploy(run)
    assert "start_endpoint" not in backend.calls
    backend.files["model-1.safetensors"] = FileFacts(4000, "")
    assert not deploy(run).reused


def test_a_record_that_cannot_be_read_stops_deploy(job: JobRef) -> None:
    (Path(job.location) / "ml" / "model" / RECORD_FILE).write_text("")
    with pytest.raises(BackendError, match="cannot read"):
        check_artifact(LocalBackend(), job)
