"""Endpoints of the local backend: one server.py process each, in a session of its own."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasum.backends.base import RunningResource
from lorasum.backends.local import processes, server_files
from lorasum.backends.local.invoke import client, invoke, stream
from lorasum.backends.local.preflight import require_loopback, require_packages
from lorasum.backends.local.server import PORT_TAKEN
from lorasum.backends.local.server_files import EXPIRY_FILE, REASON, STATE_FILE, ServerState
from lorasum.backends.records import EndpointRef, EndpointSpec, EndpointState
from lorasum.errors import BackendError
from lorasum.models.source import ModelRef
from lorasum.shared.names import ADAPTER_FOLDER
from lorasum.system import paths
from lorasum.system.files import make_folder, write_file

if TYPE_CHECKING:
    from psutil import Process

_FLAG = "--state-dir"
NEEDS = ("torch", "transformers", "starlette", "uvicorn", "psutil")
_POLL = 0.2  # seconds
_GRACE = 15.0  # seconds from SIGTERM to SIGKILL
_PING_TIMEOUT = 5.0  # seconds; a busy machine answers late


class Endpoints:
    """The methods of backends.base.Backend that are about endpoints; it says what each does."""

    def endpoint_requests(self, spec: EndpointSpec) -> dict[str, Any]:
        return {"command": _command(spec)}

    def start_endpoint(self, spec: EndpointSpec, asking: Callable[[], object] = lambda: None) -> EndpointRef:
        folder = folder_of(spec.run, spec.name)
        serving = processes_of(folder)
        if serving and not _is_meant(serving[0], spec):
            _stop(folder, serving)  # its expiry stays, for the new one
            serving = []
        try:
            started = None if serving else _spawn(spec, folder)
            return self._wait_in_service(spec, folder / "log", started)
        except BaseException:
            self.delete_endpoint(spec.run, spec.name)
            raise

    def check_expiry(self) -> None:
        return  # the server ends itself

    def expire_endpoint(self, run: str, name: str, at: datetime | None) -> None:
        folder = folder_of(run, name)
        try:
            server_files.write_expiry(folder, at)
        except OSError as error:
            raise BackendError(
                f"cannot write {folder / EXPIRY_FILE}: {error.strerror}", "check the folder's permissions"
            ) from error

    def confirm_endpoint(self, run: str, name: str) -> None:
        return  # nothing to delete: the process that served before has ended

    def restore_endpoint(self, run: str, name: str) -> EndpointRef | None:
        return None

    def endpoint_state(self, run: str, name: str) -> EndpointState:
        """The state, judged by the process and its /ping. A process that ended on its own is failed until deleted."""
        folder = folder_of(run, name)
        serving = processes_of(folder)
        if not serving:
            if not server_files.is_written(folder):
                return EndpointState("absent")
            known = ServerState.read(folder)
            ref = EndpointRef(name, _url(known.port), known.artifact) if known else EndpointRef(name, "", "")
            return EndpointState("failed", ref, f"its process is gone; its log ends: {_why(folder / 'log')}")
        port = _port(folder, serving)
        ref = EndpointRef(name, _url(port) if port else "", _artifact(serving[0]))
        if not port:
            return EndpointState("creating", ref)
        status = _ping(ref.location)
        if status == 200:
            return EndpointState("in_service", ref)
        return EndpointState("failed", ref, _why(folder / "log")) if status == 500 else EndpointState("creating", ref)

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        return invoke(endpoint, payload, timeout)

    def stream(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
        return stream(endpoint, payload, timeout)

    def delete_endpoint(self, run: str, name: str, mark: str = "") -> bool:
        """Stop the process and remove its state file. The log stays. The run's lock keeps other clients away."""
        folder = folder_of(run, name)
        existed = _stop(folder, processes_of(folder))
        self.expire_endpoint(run, name, None)
        return existed

    def _wait_in_service(self, spec: EndpointSpec, log: Path, started: subprocess.Popen[bytes] | None) -> EndpointRef:
        """Poll until /ping answers 200. `started` is None for an endpoint that another process started."""
        deadline = time.monotonic() + spec.startup_timeout
        while time.monotonic() < deadline:
            now = self.endpoint_state(spec.run, spec.name)
            status = started.poll() if started else None  # after the state: an end that it saw has a status
            if status == PORT_TAKEN:
                raise _port_taken(spec.port)
            if now.status == "in_service" and now.ref:
                return now.ref
            if now.status in ("failed", "absent") or status is not None:
                how = f"its process was killed (signal {-status}); " if status and status < 0 else ""
                raise BackendError(f"endpoint {spec.name} did not start: {how}{_why(log)}", f"its whole log is {log}")
            time.sleep(_POLL)
        raise BackendError(
            f"endpoint {spec.name} was not ready in {spec.startup_timeout:g} s; its log ends: {_why(log)}",
            f"raise local.startup_timeout; its whole log is {log}",
        )


def folder_of(run: str, name: str) -> Path:
    return paths.run_dir(run) / "endpoints" / name


def processes_of(folder: Path) -> list["Process"]:
    return [process for process, _ in processes.find(_FLAG, lambda value: value == str(folder))]


def live(run: str) -> list[RunningResource]:
    """The run's server processes."""
    folders = paths.run_dir(run) / "endpoints"
    servers = processes.find(_FLAG, lambda value: Path(value).is_relative_to(folders))
    ports = [(Path(value), _port(Path(value), [process])) for process, value in servers]
    return [RunningResource("endpoint", folder.name, _url(port) if port else str(folder)) for folder, port in ports]


def set_damaged_aside(run: str, mark: str) -> list[str]:
    """Rename state files that cannot be read, and write those of running servers again.

    Raises:
        OSError: that cannot be done.
    """
    done = []
    for path in sorted(paths.run_dir(run).glob(f"endpoints/*/{STATE_FILE}")):
        if ServerState.read(path.parent):
            continue
        kept = path.with_name(f"{path.name}{mark}")
        path.rename(kept)
        done.append(f"set the damaged state of endpoint {path.parent.name} aside as {kept}")
        serving = processes_of(path.parent)
        if serving and (port := processes.port_of(serving[0])):
            ServerState(port, serving[0].pid, _artifact(serving[0])).write(path.parent)
    return done


def _stop(folder: Path, serving: Sequence["Process"]) -> bool:
    processes.stop(serving, _GRACE)
    try:
        return server_files.forget(folder) or bool(serving)
    except OSError as error:
        raise BackendError(f"cannot delete {folder / STATE_FILE}: {error.strerror}", "check its permissions") from error


def _command(spec: EndpointSpec) -> list[str]:
    """The command line of the server."""
    model = str(Path(spec.artifact) / ADAPTER_FOLDER) if spec.base else spec.artifact
    code = spec.code or (paths.container_scripts() if spec.adapters else Path(model) / "code")  # theirs may be older
    flags = ["--model-dir", model, "--code-dir", str(code), "--port", str(spec.port)]
    flags += [_FLAG, str(folder_of(spec.run, spec.name))]
    flags += ["--base", _base(spec.base), "--artifact", spec.artifact] if spec.base else []
    flags += ["--adapters", named] if (named := _named(spec)) else []
    return processes.python("-m", "lorasum.backends.local.server", *flags)


def _spawn(spec: EndpointSpec, folder: Path) -> subprocess.Popen[bytes]:
    require_packages("serving", NEEDS)
    require_loopback()
    if Path(spec.artifact).is_absolute() and not Path(spec.artifact).is_dir():
        raise BackendError(f"there is no model folder {spec.artifact}", "run `lorasum train`")
    line = _command(spec)
    if not (code := Path(processes.flag_value(line, "--code-dir") or "", "inference.py")).is_file():
        raise BackendError(f"there is no {code}", "run `lorasum train` to get a whole artifact")
    try:
        make_folder(folder)
        server_files.forget(folder)
        write_file(folder / "log", "")
        return processes.spawn(line, folder, folder / "log")
    except OSError as error:
        raise BackendError(
            f"cannot start an endpoint in {folder}: {error.strerror or error}",
            "free some disk or check the folder's permissions, then run the same command again",
        ) from error


def _port_taken(port: int) -> BackendError:
    holder = processes.holder(port)
    return BackendError(
        f"port {port} on 127.0.0.1 is taken" + (f" by {holder}" if holder else ""),
        "choose another local.port, or 0 for a free one",
    )


def _is_meant(process: "Process", spec: EndpointSpec) -> bool:
    """Whether a server serves the artifact of `spec` on the port of `spec`."""
    meant = (spec.artifact, _base(spec.base) if spec.base else None, _named(spec))
    serves = (_artifact(process), _flag(process, "--base"), _flag(process, "--adapters"))
    return serves == meant and spec.port in (0, int(_flag(process, "--port") or 0))


def _artifact(process: "Process") -> str:
    return _flag(process, "--artifact") or _flag(process, "--model-dir") or ""


def _named(spec: EndpointSpec) -> str | None:
    """The folders of the adapters that requests can name, as the server and names.ADAPTERS have them."""
    folders = {one.run: str(Path(one.artifact) / ADAPTER_FOLDER) for one in spec.adapters}
    return json.dumps(folders) if folders else None


def _base(model: ModelRef) -> str:
    """Folder of a base model, or its hub id with @revision."""
    return model.location if model.path or not model.revision else f"{model.id}@{model.revision}"


def _flag(process: "Process", flag: str) -> str | None:
    import psutil

    try:
        return processes.flag_value(process.cmdline(), flag)
    except psutil.NoSuchProcess:
        return None


def _port(folder: Path, serving: Sequence["Process"]) -> int | None:
    """The port of a running server, from its state file or else from the system; None before it has opened one."""
    known = ServerState.read(folder)
    if known and known.pid in [process.pid for process in serving]:
        return known.port
    return next((port for process in serving if (port := processes.port_of(process))), None)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _ping(url: str) -> int | None:
    """The HTTP status of /ping; None if nothing answers."""
    import httpx

    try:
        with client(httpx.Timeout(_PING_TIMEOUT)) as asking:
            return asking.get(f"{url}/ping").status_code
    except httpx.TransportError:
        return None


def _why(log: Path) -> str:
    """Why the server gave up, in one line: its own reason, or else the end of its log."""
    lines = processes.last_lines(log, 3)
    reason = lines[-1].partition(REASON)[2] if lines else ""
    return reason or " | ".join(line[:200] for line in lines) or "nothing"
