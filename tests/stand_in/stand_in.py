"""AWS on this machine, over real HTTP: moto's server, with a SageMaker in front that executes what it is sent."""

import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from parsed_once import moto, parse_once
from stand_in_aws import ACCOUNT, KEYS, REGION, Aws, event_stream
from stand_in_operations import Operations
from stand_in_rules import RefusalError
from stand_in_scheduler import Scheduler

_BEGINNING = "f/the-beginning"
_NOTICES_ITS_END = 0.05  # seconds; a server of Python's looks every half second whether it is to end


@dataclass
class Fault:
    """What goes wrong with calls whose `service operation` matches `pattern`.

    The first `skip` of them go well. Of equal calls, only the first goes wrong if `each_once` is set.

    kind: throttle | error (500) | denied | expired (credentials) | skewed (the clock of the client) | reset (nothing is
        done) | lost (it is done, and the answer does not arrive).
    """

    pattern: str
    kind: str
    each_once: bool = False
    times: int = 10**9
    skip: int = 0
    _struck: set[str] = field(default_factory=set)

    def strikes(self, call: str) -> bool:
        if self.times < 1 or not re.search(self.pattern, call) or (self.each_once and call in self._struck):
            return False
        self._struck.add(call)
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class StandIn:
    """The account: a context manager. `calls` holds every call as `service operation`, `faults` what goes wrong."""

    def __init__(self, region: str = REGION) -> None:
        self._region = region

    def __enter__(self) -> Self:
        parse_once()
        from werkzeug.serving import make_server

        self.calls: list[str] = []
        self.bodies: list[tuple[str, bytes]] = []
        """What SageMaker was sent: operation and body."""
        self.faults: list[Fault] = []
        self.owners: dict[str, str] = {}
        """Bucket → account, where it is not ours."""
        self._moto = moto()
        self._servers = [
            make_server("127.0.0.1", 0, app, threaded=True, request_handler=quiet())
            for app in (self._moto, self._application)
        ]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(_NOTICES_ITS_END,), daemon=True).start()
        inner, outer = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        self.url = outer
        self.aws = Aws(inner, self._region)
        self.sagemaker = Operations(self.aws)
        self.scheduler = Scheduler(self.aws, self.sagemaker)
        self.aws.s3.create_bucket("chats-bucket", self._region)
        self.bucket, self.role_arn = "chats-bucket", self.aws.create_role("Trainer", "sagemaker.amazonaws.com")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from moto.moto_api import _internal

        self.scheduler.close()
        self.sagemaker.close()
        for server in self._servers:
            server.shutdown()
        _internal.models.moto_api_backend.reset()

    def environ(self) -> dict[str, str]:
        """The environment of a user who is logged in to it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "LORASUM_POLL_SECONDS": "0.3",
            **KEYS,
        }

    def _application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        call = _call(environ)
        self.calls.append(call)
        fault = next((fault for fault in list(self.faults) if fault.strikes(call)), None)
        if fault and fault.kind != "lost":
            return _fail(fault.kind, call, environ, start_response)
        if self._is_anothers(call, environ):
            return _fail("denied", call, environ, start_response)
        if call == "pricing GetProducts":
            answer = _prices(environ, start_response)
        elif call == "servicequotas ListServiceQuotas":
            answer = _quotas(self.sagemaker.quotas, environ, start_response)
        elif call == "servicequotas ListAWSDefaultServiceQuotas":
            answer = _quotas(self.sagemaker.default_quotas, environ, start_response)
        elif call == "tagging GetResources":
            answer = self._resources(environ, start_response)
        elif call == "logs GetLogEvents":
            answer = self._log_events(environ, start_response)
        elif call.startswith(("sagemaker ", "runtime ")):
            answer = self._sagemaker(call, environ, start_response)
        elif call.startswith(("scheduler POST", "scheduler PUT")):
            answer = self._schedule(environ, start_response)
        else:
            answer = self._moto(environ, start_response)
        if fault:
            _hang_up(environ)
        return answer

    def _is_anothers(self, call: str, environ: dict[str, Any]) -> bool:
        """Whether S3 is told that another account owns the bucket than the one that does."""
        expected = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER")
        bucket = environ["PATH_INFO"].split("/")[1]
        return bool(call.startswith("s3 ") and expected and expected != self.owners.get(bucket, ACCOUNT))

    def _log_events(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """A page of a log. The first one is empty, though there is more behind it, as it may be."""
        request = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        if "nextToken" not in request:
            page = {"events": [], "nextForwardToken": _BEGINNING, "nextBackwardToken": _BEGINNING}
            return _answer(start_response, 200, json.dumps(page).encode())
        if request["nextToken"] == _BEGINNING:
            del request["nextToken"]
        body = json.dumps(request).encode()
        asked = environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        answer: Iterable[bytes] = self._moto(asked, start_response)
        return answer

    def _resources(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        arns = request.get("ResourceARNList", [])
        if len(arns) > 100:
            said = {"__type": "InvalidParameterException", "message": "at most 100 resources"}
            return _answer(start_response, 400, json.dumps(said).encode(), said["__type"])
        found = self.sagemaker.indexed_tags(arns or list(self.sagemaker.tags))
        mappings = [{"ResourceARN": arn, "Tags": tags} for arn, tags in found.items()]
        return _answer(start_response, 200, json.dumps({"ResourceTagMappingList": mappings}).encode())

    def _schedule(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        try:
            self.scheduler.check(body)
        except RefusalError as refusal:
            said = {"Message": refusal.message}
            return _answer(start_response, refusal.status, json.dumps(said).encode(), refusal.code)
        answer: Iterable[bytes] = self._moto(environ | {"wsgi.input": io.BytesIO(body)}, start_response)
        return answer

    def _sagemaker(self, call: str, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        service, _, operation = call.partition(" ")
        self.bodies.append((operation, body))
        try:
            if service == "runtime":
                streams = environ["PATH_INFO"].endswith("-response-stream")
                headers = {"Content-Type": environ.get("CONTENT_TYPE", ""), "Accept": environ.get("HTTP_ACCEPT", "*/*")}
                answer = self.sagemaker.invoke(operation, body, headers)
                answer = event_stream(answer) if streams else answer
            else:
                found = self.sagemaker.call(operation, json.loads(body))
                answer = json.dumps({key: value for key, value in found.items() if key[0] != "_"}).encode()
        except RefusalError as refusal:
            said = {"__type": refusal.code, "message": refusal.message, "Message": refusal.message, **refusal.more}
            return _answer(start_response, refusal.status, json.dumps(said).encode(), refusal.code)
        return _answer(start_response, 200, answer)


def _quotas(known: dict[str, int], environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A list of quotas, each on the second page, as it may be."""
    request = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    if "NextToken" not in request:
        return _answer(start_response, 200, json.dumps({"Quotas": [], "NextToken": "2"}).encode())
    quotas = [
        {"QuotaName": name, "QuotaCode": f"L-{number:08}", "Value": float(value)}
        for number, (name, value) in enumerate(known.items())
    ]
    return _answer(start_response, 200, json.dumps({"Quotas": quotas}).encode())


def _prices(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The price list, with prices of its own: an hour of training costs 1.25 USD, an hour of hosting 2.5."""
    request = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    [use] = [wanted["Value"] for wanted in request["Filters"] if wanted["Field"] == "component"]
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": {"Training": "1.25", "Hosting": "2.50"}[use]}}
    product = {"terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}}}}}
    return _answer(start_response, 200, json.dumps({"PriceList": [json.dumps(product)]}).encode())


def _call(environ: dict[str, Any]) -> str:
    """`sagemaker CreateTrainingJob`, `runtime <endpoint>`, or service, method and path of any other call."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target.startswith("SageMaker."):
        return f"sagemaker {target.removeprefix('SageMaker.')}"
    if found := re.fullmatch(r"/endpoints/([^/]+)/invocations(-response-stream)?", environ["PATH_INFO"]):
        return f"runtime {found.group(1)}"
    scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    service = scope.group(1) if scope else "unknown"
    return f"{service} {target.rpartition('.')[2] or environ['REQUEST_METHOD'] + ' ' + environ['PATH_INFO']}"


def _fail(kind: str, call: str, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if kind == "reset":
        _hang_up(environ)
        return [b""]
    code, status = {
        "throttle": ("ThrottlingException", 400),
        "error": ("InternalFailure", 500),
        "denied": ("AccessDeniedException", 400),
        "expired": ("ExpiredTokenException", 400),
        "skewed": ("InvalidSignatureException", 400),
    }[kind]
    action = ":".join(call.split(" ", 1))
    message = {
        "denied": f"User: ana is not authorized to perform: {action}",
        "skewed": "Signature expired: 20261130T020000Z is now earlier than 20261130T025500Z",
    }.get(kind, f"injected: {code}")
    if call.startswith("s3 "):
        code = {"ThrottlingException": "SlowDown", "AccessDeniedException": "AccessDenied"}.get(code, code)
        status = {"SlowDown": 503, "AccessDenied": 403}.get(code, status)
        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return _answer(start_response, status, error.encode())
    if call.startswith(("sts ", "iam ")):
        code = code.removesuffix("Exception")
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return _answer(start_response, status, f"<ErrorResponse>{error}</ErrorResponse>".encode())
    return _answer(start_response, status, json.dumps({"__type": code, "message": message}).encode(), code)


def _answer(start_response: Callable[..., Any], status: int, body: bytes, code: str = "") -> Iterable[bytes]:
    headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))]
    start_response(f"{status} X", [*headers, ("x-amzn-ErrorType", code)] if code else headers)
    return [body]


def _hang_up(environ: dict[str, Any]) -> None:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def quiet() -> Any:
    from werkzeug.serving import WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None: ...  # noqa: A002

        def handle_error(self) -> None: ...

    return Quiet
