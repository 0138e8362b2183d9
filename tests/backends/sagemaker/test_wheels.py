"""Packages for containers without network: the image's, all of the pins, downloaded once."""

from pathlib import Path

import aws_backend
import pytest
from forked_containers import ContainerZygote
from stand_in import StandIn

from lorasum.backends.records import EndpointSpec, TrainSpec
from lorasum.backends.sagemaker.wheels import Wheels, serving_wheels, training_wheels
from lorasum.errors import BackendError, ConfigError
from lorasum.models.source import ModelRef
from lorasum.system import paths

from .conftest import make_wheels

CODE = """
import urllib.request
def model_fn(model_dir):
    try:
        urllib.request.urlopen("https://example.com", timeout=3)
    except OSError:
        return "no network"
    return "network"
def input_fn(data, content_type): return data
def predict_fn(data, model): return '"' + model + '"'
def output_fn(prediction, accept): return prediction
"""


def test_the_wheels_are_the_images(package_index: Path) -> None:
    for wheel in package_index.iterdir():
        wheel.unlink()
    for tag in ("cp311-cp311-manylinux_2_28_x86_64", "cp312-cp312-macosx_11_0_arm64"):
        make_wheels(package_index, ["tiny==1.0"], tag)
    with pytest.raises(BackendError, match=r"tiny==1\.0") as error:
        Wheels(("tiny==1.0",)).download()
    assert "images that have these versions" in error.value.hint
    make_wheels(package_index, ["tiny==1.0"], "cp312-cp312-manylinux_2_28_x86_64")
    [wheel] = Wheels(("tiny==1.0",)).download().iterdir()
    assert wheel.name == "tiny-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"
    (package_index / wheel.name).unlink()
    assert list(Wheels(("tiny==1.0",)).download().iterdir()) == [wheel], "it is kept"


def test_training_and_serving_bring_their_own_pins(package_index: Path) -> None:
    training = {path.name.partition("-")[0] for path in training_wheels().download().iterdir()}
    serving = {path.name.partition("-")[0] for path in serving_wheels().download().iterdir()}
    assert {"transformers", "bitsandbytes", "pyarrow"} <= training
    assert "transformers" in serving
    assert "bitsandbytes" not in serving
    assert training_wheels().name != serving_wheels().name


@pytest.mark.parametrize(
    "config", [{"network_isolation": True}, {"subnets": ["subnet-1"], "security_groups": ["sg-1"]}]
)
def test_a_job_without_network_gets_them_as_a_channel(
    account: StandIn, package_index: Path, tmp_path: Path, config: dict[str, object]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    spec = TrainSpec("chats", "chats-0123abcd", ModelRef("m", None, model), tmp_path / "no-data", {})
    backend = aws_backend.backend(account, **config)
    request = backend.training_request(spec)
    assert request is not None
    [uri] = [
        channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in request["InputDataConfig"]
        if channel["ChannelName"] == "wheels"
    ]
    assert not (tmp_path / "home" / "wheels").exists(), "a look downloads nothing"
    backend.start_training(spec)
    prefix = uri.removeprefix(f"s3://{account.bucket}/")
    listed = account.aws.client("s3").list_objects_v2(Bucket=account.bucket, Prefix=prefix)["Contents"]
    assert len(listed) == len(training_wheels().pins)
    assert any(
        line.startswith(uri.removesuffix(f"{training_wheels().name}/"))
        for line in backend.stored_files("chats", False, True)
    )


def test_an_endpoint_without_network_installs_them_and_serves(account: StandIn, package_index: Path) -> None:
    pin = next(pin for pin in serving_wheels().pins if pin.startswith("safetensors=="))
    for key, text in {"code/inference.py": CODE, "code/requirements.txt": pin, "weights": "w"}.items():
        account.aws.client("s3").put_object(Bucket=account.bucket, Key=f"artifact/{key}", Body=text.encode())
    account.aws.start_container = ContainerZygote().start
    backend = aws_backend.backend(account, network_isolation=True)
    endpoint = backend.start_endpoint(EndpointSpec("chats", "chats", f"s3://{account.bucket}/artifact/"))
    assert backend.invoke(endpoint, {"inputs": "hi"}, 60) == "no network"
    [model] = account.sagemaker.models.values()
    assert model["PrimaryContainer"]["Environment"]["PIP_NO_INDEX"] == "1"
    root = account.sagemaker.endpoints["chats"].server.root  # type: ignore[union-attr]
    assert len(list(root.glob("ml/additional-model-data-sources/wheels/*.whl"))) == len(serving_wheels().pins)


def test_a_model_of_the_hub_is_refused_in_network_isolation(
    account: StandIn, package_index: Path, tmp_path: Path
) -> None:
    backend = aws_backend.backend(account, network_isolation=True)
    with pytest.raises(ConfigError, match="cannot download org/model"):
        backend.start_endpoint(EndpointSpec("chats", "chats--base", "org/model", code=paths.container_scripts()))
    assert account.sagemaker.models == {}
