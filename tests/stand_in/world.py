"""A small world to break things in: an account whose containers are stubs, a home, and clients of lorasum.

Of the stand-in only the containers are replaced: a job writes an artifact at once, and an endpoint answers with the
end of each prompt. What the client sends, and every state and refusal of the service, is as in the other tests.
"""

import copy
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import stand_in_endpoints
import stand_in_jobs
from forks import Client, Ended, Zygote
from local_world import REAL
from stand_in import StandIn
from stand_in_scheduler import SERVICE as SCHEDULER

from shared.events import DoneEvent, event_line
from shared.names import ANSWERS_FOLDER, PROGRAM, RECORD_FILE, SERVING_FILES, SERVING_REQUIREMENTS
from shared.records import ArtifactRecord, FileFacts, record_text

FULL = os.environ.get("LORASUM_DRILL", "") == "full"
_COMES_UP = (
    1.0 if FULL else 0.1
)  # seconds that an endpoint is being created or updated: longer than boto3 waits to retry
VERBS = {
    "prepare": ["prepare"],
    "train": ["train"],
    "deploy": ["deploy"],
    "update": ["deploy", "--set", "deploy.serve=adapter"],
    "deploy --for": ["deploy", "--for", "4h", "--set", "sagemaker.scheduler_role=Ends"],
    "evaluate": ["evaluate", "--base"],
    "predict": ["predict", "--input", "{rows}", "--output", "{answers}"],
    "predict --batch": ["predict", "--batch", "--input", "{rows}", "--output", "{answers}"],
    "teardown": ["teardown", "--yes"],
}
SWEEP = [
    "sweep", "--set", "sweep.keys={training.learning_rate: [1.0e-4, 2.0e-4, 3.0e-4]}", "--set", "sweep.trials=3",
    "--set", "sweep.at_once=2",
]  # fmt: skip
MORE_VERBS = {
    "rebuild": ["status", "--rebuild", "--json"],
    "run": ["run", "--yes"],
    "sweep": SWEEP,
    "status": ["status"],
    "logs --follow": ["logs", "--endpoint", "--follow"],
}
BEFORE = {
    "prepare": "nothing",
    "train": "prepare",
    "deploy": "train",
    "update": "deploy",
    "deploy --for": "train",
    "evaluate": "deploy",
    "predict": "deploy",
    "predict --batch": "train",
    "teardown": "deploy",
    "run": "nothing",
}
"""The verb after which each is tried. An update is a deploy where an endpoint serves something else."""


class StubServer:
    """A container that answers each prompt with its end."""

    def __init__(self, endpoint: str, model: dict[str, Any], aws: object, network: bool, instance: str) -> None: ...

    def wait_for_ping(self, seconds: float) -> bool:
        time.sleep(_COMES_UP)
        return True

    def invoke(self, body: bytes, headers: dict[str, str], seconds: float) -> bytes:
        request = json.loads(body)
        texts = request.get("inputs") or request.get("dialogue")
        return json.dumps(
            [{"generated_text": text[-40:]} for text in ([texts] if isinstance(texts, str) else texts)]
        ).encode()

    def close(self) -> None: ...


def stub_job(job: stand_in_jobs.Job, root: Path, began: float) -> int:
    """A container that has trained: an artifact, and the events that say so. One that answers rows has done that."""
    if job.request["Environment"].get(PROGRAM):
        return _stub_answers(root / "ml")
    model, done = root / "ml" / "model", DoneEvent(1.5, 1.25, 900, 90.0, 10.0, 9)
    files = {
        "model.safetensors": b"weights",
        "adapter/adapter_model.safetensors": b"few",
        "code/inference.py": b"#" * 60,
    }
    facts = {name: FileFacts(len(text), hashlib.sha256(text).hexdigest()) for name, text in files.items()}
    manifest = json.loads((root / "ml" / "input" / "data" / "training" / "manifest.json").read_bytes())
    made_from = manifest["template"], 2, (), manifest["fingerprint"]
    record = record_text(ArtifactRecord(1, "tiny", "tiny", None, *made_from, {}, done, {}, files=facts))
    for name, content in {**files, RECORD_FILE: record.encode()}.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(content)
    (root / "ml" / "output" / "data" / "metrics.jsonl").write_text(event_line(done) + "\n")
    return 0


def _stub_answers(ml: Path) -> int:
    (ml / "model" / ANSWERS_FOLDER).mkdir()
    for shard in (ml / "input" / "data" / "training").glob("*.jsonl"):
        rows = [json.loads(line) for line in shard.open()]
        answers = [{"row": row["row"], "summary": row["prompt"][-40:]} for row in rows]
        (ml / "model" / ANSWERS_FOLDER / shard.name).write_text("".join(json.dumps(row) + "\n" for row in answers))
    (ml / "model" / RECORD_FILE).write_text("{}")
    return 0


@dataclass
class Snapshot:
    """All that there is at one moment."""

    home: Path
    objects: dict[str, bytes]
    state: dict[str, dict[str, Any]] = field(default_factory=dict)


CONFIG = """
name: tiny
backend: sagemaker
model: {{id: {model}}}
data: {{train: {chats}/train.jsonl, test: {chats}/test.jsonl, max_length: 128}}
predict: {{max_new_tokens: 8, batch_size: 2}}
sagemaker: {{bucket: {bucket}, role: {role}}}
"""


class World:
    """The account, the home, and what was there after each verb."""

    def __init__(self, aws: StandIn, zygote: Zygote, folder: Path, model: Path, chats: Path) -> None:
        self.aws, self.folder, self._zygote = aws, folder, zygote
        self.home, self.config = folder / "home", folder / "tiny.yaml"
        self.rows, self.answers = chats / "train.jsonl", folder / "answers.jsonl"
        self.home.mkdir()
        self.config.write_text(CONFIG.format(model=model, chats=chats, bucket=aws.bucket, role=aws.role_arn))
        aws.aws.create_role("Ends", SCHEDULER)
        self._scripts = stub_scripts(folder / "scripts")
        self._after = {"nothing": self.snapshot("nothing")}
        for verb in ("prepare", "train", "deploy"):
            ended = self.call(verb)
            assert ended.code == 0, ended.stderr
            self._after[verb] = self.snapshot(verb)

    def start(self, verb: str, **blow: object) -> Client:
        environ = {**self.aws.environ(), "LORASUM_HOME": str(self.home), "LORASUM_POLL_SECONDS": "0.1"}
        environ["LORASUM_STUB_SCRIPTS"] = str(self._scripts)
        given = {"rows": str(self.rows), "answers": str(self.answers)}
        arguments = [given.get(text.strip("{}"), text) for text in {**VERBS, **MORE_VERBS}[verb]]
        return self._zygote.start([*arguments, "--config", str(self.config)], environ, blow)

    def call(self, verb: str, **blow: object) -> Ended:
        return self.start(verb, **blow).wait()

    def calls(self, verb: str, where: str) -> int:
        """How many calls a verb makes when all goes well."""
        self.restore(BEFORE[verb])
        ended = self.call(verb, where=where)
        assert ended.code == 0, ended.stderr
        return ended.calls

    def snapshot(self, name: str) -> Snapshot:
        copied = Path(shutil.copytree(self.home, self.folder / f"home-after-{name}"))
        return Snapshot(copied, self.aws.aws.stored(self.aws.bucket), _state_of(self.aws.sagemaker))

    def restore(self, name: str) -> None:
        """Have everything as it was after a verb."""
        was = self._after[name]
        self.aws.faults = []
        self.answers.unlink(missing_ok=True)
        shutil.rmtree(self.home)
        shutil.copytree(was.home, self.home)
        there = self.aws.aws.stored(self.aws.bucket)
        for key in there.keys() - was.objects.keys():
            self.aws.aws.forget(f"s3://{self.aws.bucket}/{key}")
        for key in was.objects.keys() - there.keys():
            self.aws.aws.keep(f"s3://{self.aws.bucket}/{key}", was.objects[key])
        for attribute, values in _copied(was.state).items():
            setattr(self.aws.sagemaker, attribute, values)
        for schedule in self.aws.scheduler.schedules():  # no snapshot has one
            self.aws.aws.client("scheduler").delete_schedule(Name=schedule)

    @property
    def jobs(self) -> list[str]:
        """Jobs that were started, ever."""
        return list(self.aws.sagemaker.jobs)

    @property
    def endpoints(self) -> list[str]:
        """Endpoints that are billed."""
        listed = self.aws.sagemaker.call("ListEndpoints", {})["Endpoints"]
        return [one["EndpointName"] for one in listed if one["EndpointStatus"] != "Deleting"]

    def billed(self) -> list[str]:
        """Whatever costs money now."""
        jobs = self.aws.sagemaker.jobs.items()
        running = [name for name, job in jobs if job.description["TrainingJobStatus"] in ("InProgress", "Stopping")]
        return running + self.endpoints

    def check_after(self, verb: str) -> None:
        """One billable thing where there is to be one; and the ledger knows of it."""
        if verb == "train":
            assert len(self.jobs) == 1, self.jobs
        serves = verb in ("deploy", "update", "deploy --for", "evaluate", "predict")
        assert self.endpoints == (["tiny"] if serves else []), self.endpoints
        assert len(self.jobs) <= (2 if verb == "predict --batch" else 1), self.jobs
        assert len(self.aws.scheduler.schedules()) == (3 if verb == "deploy --for" else 0)
        if verb.startswith("predict"):
            asked, answered = ([json.loads(line) for line in path.open()] for path in (self.rows, self.answers))
            assert [row["dialogue"] for row in answered] == [row["dialogue"] for row in asked]
            assert all("summary" in row for row in answered)
            assert list(self.folder.glob("answers.jsonl.*")) == []

    def check_nothing_after_teardown(self) -> None:
        ended = self.call("teardown")
        if "it may still appear" in ended.stderr:  # the blow came between the ledger's word and the call
            assert ended.code == 2, ended.stderr
            self._let_pass(timedelta(minutes=16))
            ended = self.call("teardown")
        assert ended.code == 0, ended.stderr
        sagemaker = self.aws.sagemaker
        assert self.billed() == [], self.billed()
        assert (sagemaker.models, sagemaker.configs, self.aws.scheduler.schedules()) == ({}, {}, {})

    def _let_pass(self, time: timedelta) -> None:
        """Make what is on record as intended older."""
        with sqlite3.connect(self.home / "ledger.sqlite") as db:
            rows = db.execute("SELECT rowid, updated_at FROM resources WHERE state='intended'").fetchall()
            for row, updated in rows:
                earlier = (datetime.fromisoformat(updated) - time).isoformat()
                db.execute("UPDATE resources SET updated_at=? WHERE rowid=?", (earlier, row))


def _state_of(sagemaker: Any) -> dict[str, dict[str, Any]]:
    return _copied({name: getattr(sagemaker, name) for name in ("jobs", "models", "configs", "endpoints", "tags")})


def _copied(state: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Jobs have ended, and are not copied. An endpoint is copied without its threads."""
    endpoints = {}
    for name, endpoint in state["endpoints"].items():
        endpoints[name] = copy.copy(endpoint)
        endpoints[name].description = copy.deepcopy(endpoint.description)
    plain = {name: copy.deepcopy(state[name]) for name in ("models", "configs", "tags")}
    return {"jobs": dict(state["jobs"]), "endpoints": endpoints, **plain}


def chosen(count: int) -> list[int]:
    """Indices of calls: all of them in `make drill`, and one in `make test`.

    LORASUM_DRILL_EVERY=6 LORASUM_DRILL_FROM=2 are every sixth of them, from 2: a sixth of the drill, the third one.
    """
    every, first = int(os.environ.get("LORASUM_DRILL_EVERY", "1")), int(os.environ.get("LORASUM_DRILL_FROM", "0"))
    return list(range(first, count, every)) if FULL else [count * 2 // 3]


def make_world(folder: Path, model: Path, chats: Path, zygote: Zygote, patch: Callable[..., None]) -> Iterator[World]:
    """Yield a World whose containers are stubs."""
    stub_containers(patch)
    with StandIn() as aws:
        yield World(aws, zygote, folder, model, chats)


def stub_scripts(folder: Path) -> Path:
    """Container scripts for containers that do nothing: few, because each is uploaded."""
    folder.mkdir()
    for name in (*SERVING_FILES, SERVING_REQUIREMENTS, "requirements-train.txt", "constraints-train.txt"):
        shutil.copy(REAL / name, folder)
    return folder


def stub_containers(patch: Callable[..., None]) -> None:
    """Let jobs that start from now on train at once, and endpoints answer without a model."""
    patch(stand_in_jobs.Job, "_execute", stub_job)
    patch(stand_in_endpoints, "Server", StubServer)
