"""Surroundings with a company's certificate and its proxy, which HTTP clients read from the environment."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from judge_server import JudgeServer
from loopback_server import LoopbackServer

from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.config.schema import JudgeConfig
from lorasum.errors import BackendError
from lorasum.scoring.judge import Judge

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ASKING = """
from lorasum.errors import LorasumError
from lorasum.models.hub import hub_commit
try:
    hub_commit("me/model", None, "model")
except LorasumError as error:
    print(error.message, error.hint, sep="\\n")
"""


class Absent(BaseHTTPRequestHandler):
    """Has nothing of what it is asked for."""

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.send_error(404)

    do_HEAD = do_POST = do_GET  # noqa: N815


def made_certificate(folder: Path) -> Path:
    """A file with a key and a certificate of localhost, signed by nobody else."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=2))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    clear = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file = folder / "company.pem"
    file.write_bytes(key.private_bytes(pem, form, clear) + certificate.public_bytes(pem))
    return file


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def https(certificate: Path) -> Iterator[str]:
    """The address of a server whose certificate nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = LoopbackServer(Absent)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server:
        yield f"https://localhost:{server.server_port}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def asked_hub(monkeypatch: pytest.MonkeyPatch, **environ: str) -> tuple[str, str]:
    """What a process in such surroundings says of a hub model: message and hint."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=True)
    message, hint = done.stdout.splitlines()
    return message, hint


def test_a_hub_with_an_unknown_certificate_is_said(https: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message, hint = asked_hub(monkeypatch, HF_ENDPOINT=https)
    assert "certificate verify failed" in message
    assert "SSL_CERT_FILE" in hint


def test_a_company_s_certificate_is_trusted(https: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message, _ = asked_hub(monkeypatch, HF_ENDPOINT=https, SSL_CERT_FILE=str(certificate))
    assert "404" in message


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "pip install 'httpx[socks]', or unset ALL_PROXY and HTTPS_PROXY"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:9", "check HTTPS_PROXY, ALL_PROXY and NO_PROXY"),
        ("HTTPS_PROXY", "http://127.0.0.1:port", "check HTTPS_PROXY, ALL_PROXY and NO_PROXY"),
        ("SSL_CERT_FILE", "/none.pem", "set SSL_CERT_FILE to a file with the certificates to trust"),
    ],
)
def test_wrong_surroundings_are_no_bug(variable: str, value: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message, said = asked_hub(monkeypatch, **{variable: value})
    assert "hub model 'me/model' cannot be downloaded: the hub cannot be reached" in message
    assert said.startswith(hint)


def test_an_unknown_certificate_and_a_page_of_a_proxy_are_not_aws(
    aws: str, https: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", https)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(BackendError, match="certificate verify failed") as error:
        _ = Session(SageMakerConfig()).account
    assert "AWS_CA_BUNDLE" in error.value.hint
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with pytest.raises(BackendError, match="Unable to parse response") as error:
        _ = Session(SageMakerConfig()).account
    assert "something else answered for AWS" in error.value.hint


def test_a_judge_on_this_machine_is_not_asked_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES[:3]:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with JudgeServer() as server:
        judge = Judge(JudgeConfig(url=server.url, model="m"), tmp_path / "judge.jsonl")
        assert judge.mark("Ann: hi", "Ann says hi.").coverage == 3


def test_a_judge_behind_a_proxy_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    judge = Judge(JudgeConfig(url="http://judge.invalid/v1", model="m"), tmp_path / "judge.jsonl")
    with pytest.raises(BackendError, match=r"the judge at \S+ cannot be reached") as error:
        judge.mark("Ann: hi", "Ann says hi.")
    assert "httpx[socks]" in error.value.hint
