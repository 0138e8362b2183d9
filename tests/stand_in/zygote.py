"""Processes that cost no imports: one has imported everything, and forks another for each request.

    python zygote.py client      the command line
    python zygote.py training    a training job's entry point, container_scripts/train.py

A request is a folder, whose path is one line on stdin. Its request.json has `arguments`, `environ`, `script`, if that
is to be run instead, `terminal`, where stdin comes from (stderr is one too then), and `blow`, which strikes inside the
client. The client's output goes to stdout and stderr in that folder while it works; pid is written at its start, and
code at its end.
"""

import faulthandler
import functools
import gc
import hashlib
import importlib
import json
import os
import pickle
import pkgutil
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import forks

_SERVICES = [
    "application-autoscaling", "iam", "logs", "pricing", "resourcegroupstaggingapi", "s3", "sagemaker",
    "sagemaker-runtime", "scheduler", "service-quotas", "sts",
]  # fmt: skip


def main() -> None:
    program = sys.argv[1]
    {"client": preload, "training": preload_training}[program]()
    gc.freeze()  # a collection in a fork would copy what it looks at
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    print("ready", flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            wait_for_client(program, Path(line.rstrip("\n")))
    os._exit(0)  # taking all that was imported apart would take seconds


def preload() -> None:
    import boto3.session
    import datasets  # noqa: F401
    import filelock  # noqa: F401
    import nltk.stem.porter  # noqa: F401
    import psutil  # noqa: F401
    import py3langid
    import sacrebleu  # noqa: F401
    import transformers
    import typer.main
    import typer.rich_utils
    from parsed_once import parse_once, validate_once
    from sagemaker.core import image_uris, resources  # noqa: F401

    import lorasum

    parse_once()
    session = boto3.session.Session(region_name="us-east-1")
    for service in _SERVICES:
        session.client(service).meta.service_model.shape_for_error_code("any")  # so all are found
    validate_once(resources)
    typer.main.get_command = functools.cache(typer.main.get_command)
    py3langid.classify("its model is read")
    assert transformers.AutoTokenizer
    for module in pkgutil.walk_packages(lorasum.__path__, "lorasum."):
        if module.name not in (
            "lorasum.__main__",
            "lorasum.shared.lora_targets",
        ):  # one begins, and the other imports PEFT
            importlib.import_module(module.name)
    typer.main.get_command(importlib.import_module("lorasum.cli.entry").app)
    rows = importlib.import_module("lorasum.ledger.stored_rows")
    for kind in rows._KINDS:
        rows._reader(kind)


def preload_training() -> None:
    """Import what a job imports. Nothing is computed, because threads would not live on in the forks."""
    from engine.libraries import import_libraries

    import_libraries("int8")
    import bitsandbytes
    import datasets  # noqa: F401
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM
    from warm import warm

    import train
    from engine import batches, checkpoint, memory, merge, model, packed_loss, trainer, verify  # noqa: F401
    from engine.arguments import Arguments

    torch.set_num_threads(1)
    warm()
    with tempfile.TemporaryDirectory() as base:  # what operations do to the shapes of the tests' usual training
        BloomConfig(vocab_size=512, hidden_size=32, n_layer=2, n_head=4).save_pretrained(base)
        memory.estimate(Path(base), Arguments(), ["query_key_value"], [64, 62, 64], 38, torch.float32)
    assert all((bitsandbytes, AutoModelForCausalLM, AutoTokenizer, BloomForCausalLM, train))


def wait_for_client(program: str, folder: Path) -> None:
    """Fork the client, and write down how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads((folder / "request.json").read_text())
    pipes = {"stdout": os.pipe(), "stderr": os.pipe()}  # not files: these may be limited
    if request["terminal"] != os.devnull:
        pipes["stderr"] = os.openpty()  # where the client asks
        tty.setraw(pipes["stderr"][1])  # which changes no line end
    pid = os.fork()
    if pid == 0:
        be_client(program, request, folder, [pipe[1] for pipe in pipes.values()])
    (folder / "pid").write_text(str(pid))
    readers = [threading.Thread(target=keep, args=(pipe, folder / name)) for name, pipe in pipes.items()]
    for reader in readers:
        reader.start()
    _, status = os.waitpid(pid, 0)
    for reader in readers:
        reader.join()
    (folder / "code.part").write_text(str(os.waitstatus_to_exitcode(status)))
    (folder / "code.part").rename(folder / "code")
    os._exit(0)


def keep(pipe: tuple[int, int], path: Path) -> None:
    """Write what comes through a pipe to a file, at once."""
    os.close(pipe[1])
    with (
        os.fdopen(pipe[0], "rb", buffering=0) as said,
        path.open("wb", buffering=0) as kept,
        suppress(OSError),  # the end of a terminal
    ):
        shutil.copyfileobj(said, kept)


def be_client(program: str, request: dict[str, Any], folder: Path, outputs: list[int]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    os.environ.update(request["environ"])
    if request["terminal"] != os.devnull:
        os.environ["TERM"] = "dumb"  # no bars and colours
    for descriptor, output in enumerate([os.open(request["terminal"], os.O_RDWR | os.O_NOCTTY), *outputs]):
        os.dup2(output, descriptor)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    if program == "training":
        import torch

        torch.set_num_threads(1)  # in the fork too, before it has threads: container_zygote.be_container says why
    called = "lorasum" if program == "client" else str(Path(__file__).parents[2] / "container_scripts" / "train.py")
    sys.argv = [called, *request["arguments"]]  # launch.py starts it again
    if scripts := os.environ.get("LORASUM_STUB_SCRIPTS"):
        from lorasum.system import paths

        paths.container_scripts = lambda: Path(scripts)
    if needs := os.environ.get("LORASUM_STUB_NEEDS"):
        from lorasum.lifecycle import estimate
        from lorasum.shared.records import Needs, from_json

        estimate._tell = lambda flags, variables: from_json(Needs, needs)
    elif program == "client" and "LORASUM_PLANS_FOR_REAL" not in os.environ:
        plan_once(folder.parent)
    if hub := os.environ.get("HF_ENDPOINT"):  # which is read when it is imported
        from huggingface_hub import constants

        constants.ENDPOINT, constants.HF_HUB_DISABLE_XET = hub, True  # a test's hub stores by Git LFS
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # a test that waits for ever may ask what it waits for
    strike(folder, **request["blow"])
    code: Any = 1
    try:
        if request["script"]:
            runpy.run_path(request["script"], run_name="__main__")
            code = 0
        elif program == "client":
            from lorasum.cli import main as lorasum

            lorasum()
            code = 0
        else:
            import train

            code = train.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def plan_once(shared: Path) -> None:
    """Let this client take what memory_plan.py has told another one of the same training, or run it in a fork.

    The dataset is told apart by its manifest, because each test has it in a folder of its own.
    """
    from lorasum.lifecycle import estimate
    from lorasum.shared.names import SM_CHANNEL_TRAINING
    from lorasum.shared.records import Needs, from_json
    from lorasum.system import paths
    from lorasum.system.script_environment import script_environment

    def told(flags: list[str], variables: Mapping[str, str]) -> Needs | str:
        manifest = (Path(variables[SM_CHANNEL_TRAINING]) / "manifest.json").read_text()
        script = paths.container_scripts() / "memory_plan.py"
        asked = json.dumps([flags, {**variables, SM_CHANNEL_TRAINING: manifest}, str(script)])
        known = shared / f"plan-{hashlib.sha256(asked.encode()).hexdigest()}"
        if known.exists():
            found: Needs = pickle.loads(known.read_bytes())
            return found
        environ = {**script_environment(os.environ), **variables}
        ended = forks.trainings().start(flags, environ, {}, str(script)).wait()
        if ended.code:
            return ended.stderr.strip().splitlines()[-1]
        found = from_json(Needs, ended.stdout.splitlines()[-1])
        new = known.with_suffix(f".{os.getpid()}")
        new.write_bytes(pickle.dumps(found))
        new.rename(known)
        return found

    estimate._tell = told


def strike(
    folder: Path,
    where: str = "",
    index: int = -1,
    when: str = "before",
    number: int = 9,
    again: bool = False,
    limit: int = 0,
) -> None:
    """Instrument this client.

    Args:
        where: `aws`, `ledger`, `files` or `steps`: what is counted. Counts are written to `folder`/calls. `files` are
            all the moments at which a file is opened to write, renamed, removed, made or flushed, or a process is
            started. `steps` are those of the main thread at which Python looks for a signal; see steps.py.
        index: the one of them, from 0, at which the blow comes; -1 for none.
        when: `before` or `after` it.
        number: the signal that the client sends itself.
        again: it sends it once more, at the next of what is counted.
        limit: bytes that a file can have from the blow on, or, if there is none, from the start: a disk that is full.
            0 for any number; then the blow is the signal.
    """

    def blow() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        else:
            os.kill(os.getpid(), number)

    if limit and index < 0:
        blow()
    calls, counting = 0, threading.Lock()
    counter = os.open(folder / "calls", os.O_WRONLY | os.O_CREAT)

    def count() -> int:
        nonlocal calls
        with counting:
            mine, calls = calls, calls + 1
            if index < 0:
                os.pwrite(counter, str(calls).encode(), 0)
        if mine == index and when == "before":
            blow()
        if again and mine == index + 1:
            time.sleep(0.6)  # sooner, it would count as the first one again
            blow()
        return mine

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            mine = count()
            answer = function(*arguments, **named)
            if mine == index and when == "after":
                blow()
            return answer

        return wrapper

    if where == "aws":
        from botocore.httpsession import URLLib3Session

        URLLib3Session.send = counted(URLLib3Session.send)
    elif where == "ledger":
        from lorasum.ledger.ledger import Ledger

        for name in ("intend", "save", "note"):
            setattr(Ledger, name, counted(getattr(Ledger, name)))
    elif where == "files":
        from lorasum.ledger.ledger import Ledger

        for name in ("intend", "save", "note"):  # SQLite's own writes are not heard of
            setattr(Ledger, name, counted(getattr(Ledger, name)))
        os.fsync = counted(os.fsync)
        sys.addaudithook(lambda event, arguments: count() if _changes_a_file(event, arguments) else None)
    elif where == "steps":
        from steps import watch_steps

        def step(place: str) -> None:
            if index in (calls, -1):
                places.write(f"{place}\n")
                places.flush()
            count()

        places = (folder / "place").open("w")
        watch_steps(step)


_CHANGES = {
    "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "subprocess.Popen",
}  # fmt: skip


def _changes_a_file(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an event of Python's audit hooks changes a file or starts a process."""
    if event == "open":
        path, _, flags = arguments
        return bool(flags & (os.O_WRONLY | os.O_RDWR)) and str(path) != os.devnull and not str(path).startswith("/proc")
    return event in _CHANGES


if __name__ == "__main__":
    main()
