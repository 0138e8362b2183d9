"""An account that behaves as SageMaker does, for tests of the backend without a command around it."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from stand_in import StandIn
from world import stub_scripts

from lorasum.backends.sagemaker.wheels import serving_wheels, training_wheels
from lorasum.system import paths


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few container scripts: no job trains here, and each uploads them into an empty account."""
    return stub_scripts(tmp_path_factory.mktemp("scripts") / "container_scripts")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scripts: Path) -> Iterator[StandIn]:
    """An account that holds nothing but a bucket and a role, and an environment that is logged in to it."""
    monkeypatch.setattr(paths, "container_scripts", lambda: scripts)
    with StandIn() as stand_in:
        for name, value in stand_in.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LORASUM_POLL_SECONDS", "0.1")
        monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
        yield stand_in


@pytest.fixture
def package_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that pip takes for its index: it has an empty wheel of each of our pins, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheels(folder, [*training_wheels().pins, *serving_wheels().pins])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    return folder


def make_wheels(folder: Path, pins: Sequence[str], tag: str = "py3-none-any") -> None:
    """Write an empty wheel for each `name==version`."""
    for pin in pins:
        name, _, version = pin.partition("==")
        stem = f"{name.replace('-', '_')}-{version}"
        with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
