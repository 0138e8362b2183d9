"""Base models of the hub in S3: downloaded and uploaded once for all runs, and deleted by none."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from memory_backend import RecordingReporter
from stand_in import Fault, StandIn

from lorasum.backends.records import EndpointSpec, TrainSpec
from lorasum.backends.sagemaker import model_cache
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.backends.sagemaker.served import model_to_serve
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError, ModelError
from lorasum.models.source import ModelRef
from lorasum.reporting import Silent
from lorasum.system import paths

COMMIT = "a" * 40
MODEL = ModelRef("org/tiny", COMMIT)


@pytest.fixture
def downloads(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the hub, which has the tiny model."""
    asked: list[str] = []

    def download(model_id: str, revision: str | None) -> Path:
        asked.append(f"{model_id}@{revision}")
        return tiny_model_dir

    monkeypatch.setattr(model_cache, "download_base", download)
    return asked


def config(account: StandIn, **more: Any) -> SageMakerConfig:
    where = {"bucket": account.bucket, "role": account.role_arn, "training_image": "image:1", "model_cache": True}
    return SageMakerConfig.model_validate(where | {"inference_image": "plain:1"} | more)


def keys(account: StandIn, prefix: str = "lorasum/_models/") -> set[str]:
    listed = account.aws.client("s3").list_objects_v2(Bucket=account.bucket, Prefix=prefix)
    return {item["Key"].removeprefix(prefix) for item in listed.get("Contents", [])}


def channels(account: StandIn, job: str) -> dict[str, str]:
    described = account.sagemaker.jobs[job].description["InputDataConfig"]
    return {one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in described}


@pytest.mark.parametrize("isolated", [False, True])
def test_two_runs_share_one_copy_that_no_teardown_deletes(
    account: StandIn, downloads: list[str], package_index: Path, isolated: bool
) -> None:
    told = RecordingReporter()
    backend = SageMakerBackend(config(account, network_isolation=isolated), told)
    for run in ("chats", "more"):
        spec = TrainSpec(run, f"{run}-0123abcd", MODEL, Path("/no/data"), {})
        request = backend.training_request(spec)
        backend.start_training(spec)
        assert channels(account, spec.job_name)["model"] == f"s3://{account.bucket}/lorasum/_models/org--tiny/{COMMIT}/"
        assert request is not None
        assert {each["ChannelName"] for each in request["InputDataConfig"]} == set(channels(account, spec.job_name))
    assert downloads == [f"org/tiny@{COMMIT}"]
    kept = keys(account)
    assert f"org--tiny/{COMMIT}/model.safetensors" in kept
    for run in ("chats", "more"):
        backend.delete_files(run, data=True, artifacts=True)
    assert keys(account) == kept
    assert sum("`aws logs delete-log-group --region us-east-1 --log-group" in step for step in told.steps) == 2


def test_a_copy_that_is_not_whole_is_completed(account: StandIn, downloads: list[str]) -> None:
    session, layout = Session(config(account)), S3Layout(account.bucket, "lorasum", "chats")
    account.faults = [Fault(r"s3 PUT .*model\.safetensors", "denied")]
    with pytest.raises(BackendError):
        model_cache.filled(session, layout, MODEL)
    assert f"org--tiny/{COMMIT}.json" not in keys(account), "written last"
    account.faults = []
    uri = model_cache.filled(session, layout, MODEL)
    whole = keys(account)
    account.aws.forget(f"{uri}model.safetensors")  # as a lifecycle rule of the bucket may
    assert model_cache.filled(session, layout, MODEL) == uri
    assert keys(account) == whole
    assert len(downloads) == 3
    model_cache.filled(session, layout, MODEL)
    assert len(downloads) == 3


@pytest.mark.parametrize("by", ["upload", "teardown"])
def test_only_uploads_that_began_over_a_week_ago_are_aborted(
    account: StandIn, downloads: list[str], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    backend = SageMakerBackend(config(account), Silent())
    s3, now = backend._session.client("s3"), datetime.now(UTC)
    begun = {"org--tiny/old": now - timedelta(days=8), "org--tiny/new": now - timedelta(days=6)}
    for name in begun:
        s3.create_multipart_upload(Bucket=account.bucket, Key=f"lorasum/_models/{name}")

    def date(parsed: dict[str, Any], **_: object) -> None:  # moto has all uploads begin in 2010
        for upload in parsed.get("Uploads", []):
            upload["Initiated"] = begun[upload["Key"].removeprefix("lorasum/_models/")]

    s3.meta.events.register("after-call.s3.ListMultipartUploads", date)
    if by == "upload":
        model_cache.filled(backend._session, S3Layout(account.bucket, "lorasum", "chats"), MODEL)
    else:
        backend.delete_files("chats", data=False, artifacts=True)
    [left] = s3.list_multipart_uploads(Bucket=account.bucket)["Uploads"]
    assert left["Key"] == "lorasum/_models/org--tiny/new"


def test_what_cannot_be_trained_is_not_kept(
    account: StandIn, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path / "half"))
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(model_cache, "download_base", lambda model_id, revision: folder)
    with pytest.raises(ModelError):
        model_cache.filled(Session(config(account)), S3Layout(account.bucket, "lorasum", "chats"), MODEL)
    assert keys(account) == set()


def test_a_hub_that_does_not_answer_is_an_error_with_a_hint(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model_id: str, revision: str | None) -> Path:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(model_cache, "download_base", fail)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        model_cache.filled(Session(config(account)), S3Layout(account.bucket, "lorasum", "chats"), MODEL)


def test_an_adapter_and_a_base_model_are_served_from_the_copy(account: StandIn, downloads: list[str]) -> None:
    account.aws.keep(f"s3://{account.bucket}/artifact/adapter/adapter_model.safetensors", b"a")
    session = Session(config(account))
    place = Place(S3Layout(account.bucket, "lorasum", "chats"), account.role_arn, "image:1")
    adapter = EndpointSpec("chats", "chats", f"s3://{account.bucket}/artifact/", base=MODEL)
    base = EndpointSpec("chats", "chats--base", f"org/tiny@{COMMIT}", code=paths.container_scripts())
    for spec in (adapter, base):
        served = model_to_serve(session, spec, place, sends=True)
        assert served.base == f"s3://{account.bucket}/lorasum/_models/org--tiny/{COMMIT}/"
        assert not served.from_hub
    assert len(downloads) == 1
