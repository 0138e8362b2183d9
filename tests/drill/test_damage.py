"""Damaged files of a run's home, in every way: no verb ends in a traceback, and what runs is found and removed."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from local_world import LocalWorld, local_world

pytestmark = [pytest.mark.slow, pytest.mark.drill, pytest.mark.timeout(3600)]

FILES = {
    "ledger": "ledger.sqlite",
    "server": "runs/tiny/endpoints/tiny/server.json",
    "record": "runs/tiny/jobs/*/ml/model/lorasum.json",
    "events": "runs/tiny/jobs/*/ml/output/data/metrics.jsonl",
    "manifest": "runs/tiny/data/*/manifest.json",
    "examples": "runs/tiny/data/*/test.jsonl",
    "failure": "runs/tiny/jobs/*/ml/output/failure",
    "log": "runs/tiny/endpoints/tiny/log",
    "expiry": "runs/tiny/endpoints/tiny/expires_at",
    "lock": "runs/tiny/lock",
}


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def _folder(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
    (path / "in-the-way").mkdir(parents=True, exist_ok=True)


def _link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(b"\0" * (len(path.read_bytes()) or 9)),
    "another's": lambda path: path.write_text("name: chats\nmodel: {id: org/model}\n"),
    "json": lambda path: path.write_text('{"format": 99, "splits": [1], "port": "x", "event": 7, "files": 3}\n'),
    "random": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "folder": _folder,
    "dangling": _link,
    "lost": lambda path: path.unlink(missing_ok=True),
    "forbidden": lambda path: path.chmod(0),
}


world = local_world()


def _target(world: LocalWorld, name: str) -> Path:
    """The file, made where a run has it only now and then."""
    folder, _, last = FILES[name].rpartition("/")
    path: Path = next(world.home.glob(folder)) / last if folder else world.home / last
    if not path.exists():
        path.write_text("")
    return path


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_whatever_is_damaged_status_and_teardown_work(
    world: LocalWorld, tried: Counter[str], name: str, kind: str
) -> None:
    if kind == "forbidden" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    world.restore("deploy")
    DAMAGES[kind](_target(world, name))
    for verb in ("status", "runs", "logs", "predict", "evaluate", "prepare"):
        ended = world.call(verb)
        assert ended.clean(), f"{verb}: {ended.code} {ended.stderr}"
    world.call("status", "--rebuild")
    ended = world.call("status", "--json")
    assert ended.code == 0, ended.stderr
    assert world.recorded() == ["endpoint tiny"] == world.live()
    for verb in ("prepare", "train", "deploy", "predict"):
        ended = world.call(verb)
        assert ended.code == 0, f"{verb}: {ended.stderr}"
    DAMAGES[kind](_target(world, name))
    ended = world.call("teardown")
    assert (ended.code, world.live()) == (0, []), ended.stderr
    tried[f"{name} damaged, then every verb"] += 1
