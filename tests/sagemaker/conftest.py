"""An account on the stand-in, and what a user has in it."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stand_in_endpoints
import stand_in_jobs
from account import CONFIG, Account, Made
from forked_containers import ContainerZygote
from forks import Zygote
from stand_in import StandIn
from stand_in_aws import Aws
from stand_in_scheduler import SERVICE as SCHEDULER
from world import StubServer, stub_containers, stub_job, stub_scripts


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory, tiny_chats: Path, tiny_model_dir: Path, clients: Zygote
) -> Callable[..., Account]:
    """Make an account whose training has so many steps, with an empty home that is always in the same place."""
    folder = tmp_path_factory.mktemp("user")

    def make(aws: StandIn, steps: int = 10, home: str = "home", made: Made | None = None) -> Account:
        config = folder / "tiny.yaml"
        named = {"model": tiny_model_dir, "chats": tiny_chats, "bucket": aws.bucket, "role": aws.role_arn}
        config.write_text(CONFIG.format(steps=steps, **named))
        shutil.rmtree(folder / home, ignore_errors=True)
        there = Account(aws, folder / home, config, clients)
        if made:
            there.have(made)
        return there

    return make


@pytest.fixture(scope="session")
def containers() -> ContainerZygote:
    """Starts containers that cost no imports."""
    return ContainerZygote()


@pytest.fixture(scope="module")
def prepared(make: Callable[..., Account], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What a user has after `prepare`: made once, for the tests that begin there."""
    with StandIn() as aws:
        there = make(aws)
        there.call("prepare")
        return there.made(tmp_path_factory.mktemp("prepared") / "home")


@pytest.fixture(scope="module")
def trained(
    make: Callable[..., Account], prepared: Made, tmp_path_factory: pytest.TempPathFactory, containers: ContainerZygote
) -> Made:
    """What a user has after `train`."""
    with StandIn() as aws:
        aws.aws.start_container = containers.start
        there = make(aws, made=prepared)
        there.call("train")
        return there.made(tmp_path_factory.mktemp("trained") / "home")


@pytest.fixture(scope="module")
def stub_trained(make: Callable[..., Account], prepared: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same, after a job whose container did nothing."""
    folder = tmp_path_factory.mktemp("stub-trained")
    with StandIn() as aws, pytest.MonkeyPatch.context() as patch:
        stub_containers(patch.setattr)
        there = make(aws, made=prepared)
        there.environ["LORASUM_STUB_SCRIPTS"] = str(stub_scripts(folder / "scripts"))
        there.call("train")
        return there.made(folder / "home")


@pytest.fixture
def account(make: Callable[..., Account], containers: ContainerZygote) -> Iterator[Callable[..., Account]]:
    """Make an account, as `make` does, and close it after the test."""
    with StandIn() as aws:
        aws.aws.start_container = containers.start
        yield partial(make, aws)


@pytest.fixture
def there(account: Callable[..., Account], stub_trained: Made) -> Account:
    """A user who has trained."""
    user = account(made=stub_trained)
    user.aws.aws.create_role("Ends", SCHEDULER)
    return user


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Containers do nothing, at once: for tests of what the service and lorasum do with them.

    A job with FlexAttention fails. An endpoint fails whose artifact's code does.
    """
    stub_containers(monkeypatch.setattr)
    monkeypatch.setenv("LORASUM_STUB_SCRIPTS", str(stub_scripts(tmp_path / "scripts")))

    def run(job: stand_in_jobs.Job, root: Path, began: float) -> int:
        if '"flex"' not in json.dumps(job.request["HyperParameters"]):
            return stub_job(job, root, began)
        (root / "ml" / "output" / "failure").write_text("FlexAttention trains on a GPU only")
        return 1

    class Server(StubServer):
        def __init__(self, endpoint: str, model: Any, aws: Aws, network: bool, instance: str) -> None:
            uri = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
            with tempfile.TemporaryDirectory() as folder:
                aws.download(f"{uri}code/", Path(folder))
                self.code = (Path(folder) / "inference.py").read_text()

        def invoke(self, body: bytes, headers: dict[str, str], seconds: float) -> bytes:
            if self.code.startswith("raise"):
                raise stand_in_endpoints.model_error(400, self.code)
            return super().invoke(body, headers, seconds)

    monkeypatch.setattr(stand_in_jobs.Job, "_execute", run)
    monkeypatch.setattr(stand_in_endpoints, "Server", Server)
