"""AWS for the backend's tests: moto's server, over HTTP, empty at the start of each test."""

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Address of a running moto server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> str:
    """The environment of somebody who is logged in to an account that holds nothing. Returns AWS's address."""
    urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    environ = {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "LORASUM_HOME": str(tmp_path / "home"),
        "LORASUM_POLL_SECONDS": "0.05",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return moto_url
