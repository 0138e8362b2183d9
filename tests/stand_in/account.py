"""A user of the stand-in: a home, a config, and `lorasum` as they run it."""

import copy
import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from forks import Client, Ended, Zygote
from stand_in import StandIn
from stand_in_jobs import Job

CONFIG = """
name: tiny
backend: sagemaker
model: {{id: {model}}}
data: {{train: {chats}/train.jsonl, test: {chats}/test.jsonl, max_length: 128}}
lora: {{r: 4}}
training: {{max_steps: {steps}, learning_rate: 1e-2, checkpoint_minutes: 0.01}}
predict: {{max_new_tokens: 8, batch_size: 2}}
sagemaker: {{bucket: {bucket}, role: {role}}}
"""
_PLAN = {"memory_bytes": 1, "memory_parts": {}, "memory_free_bytes": 2, "recomputed_layers": 0, "layers": 2}
FITTING = json.dumps(
    {"plans": [{**_PLAN, "packs_at_once": 1}] * 6, "process_bytes": 1, "merge_bytes": 1, "base_bytes": 1}
    | {"merged_bytes": 1, "checkpoint_bytes": 1}
)
"""What memory_plan.py says of a training that fits: importing all that it takes would cost each `train` seconds."""
BAD = ("--set", "training.engine.attention=flex")
"""Makes a training job fail."""


@dataclass(frozen=True)
class Made:
    """All that a user has after a verb: a copy of the home, the bucket's objects, ended jobs, and tags."""

    home: Path
    objects: Mapping[str, bytes]
    jobs: Mapping[str, Job]
    tags: Mapping[str, Any]


class Account:
    """A user's home and config, and the account they work in. Commands are forks that import nothing anew."""

    def __init__(self, aws: StandIn, home: Path, config: Path, clients: Zygote) -> None:
        self.aws, self.home, self.config, self._clients = aws, home, config, clients
        self.environ = {**os.environ, **aws.environ(), "LORASUM_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self.environ["LORASUM_STUB_NEEDS"] = FITTING

    def run(self, *arguments: str, terminal: str = os.devnull) -> Ended:
        """How a command ended."""
        return self.start(*arguments, terminal=terminal).wait()

    def start(self, *arguments: str, terminal: str = os.devnull) -> Client:
        """A command at work."""
        return self._clients.start([*arguments, "--config", str(self.config)], self.environ, {}, terminal=terminal)

    def without_config(self, *arguments: str) -> Ended:
        """How a command ended that names no run."""
        return self._clients.start([*arguments], self.environ, {}, terminal=os.devnull).wait()

    def call(self, *arguments: str) -> Any:
        """The --json result of a command that succeeds."""
        ended = self.run(*arguments, "--json")
        assert ended.code == 0, ended.stderr
        return json.loads(ended.stdout)

    def fail(self, *arguments: str, code: int = 2) -> tuple[str, str]:
        """Error and hint of a command that fails as it should: this exit code, and nothing on stdout."""
        ended = self.run(*arguments, "--quiet")
        assert (ended.code, ended.stdout) == (code, ""), ended.stderr
        *_, error, hint = ended.stderr.splitlines()
        assert error.startswith("error: "), ended.stderr
        assert hint.startswith("hint: "), ended.stderr
        return error, hint

    @property
    def jobs(self) -> dict[str, str]:
        return {name: job.description["TrainingJobStatus"] for name, job in self.aws.sagemaker.jobs.items()}

    def job(self) -> Any:
        """What status says of the only training job."""
        [row] = [r for r in self.call("status")["resources"] if r["kind"] == "training_job"]
        return row

    def billed(self) -> Any:
        """What all tries of it were billed, at the price list's price."""
        jobs = [job.description for job in self.aws.sagemaker.jobs.values()]
        return pytest.approx(
            sum(job["BillableTimeInSeconds"] * job["ResourceConfig"]["InstanceCount"] for job in jobs) / 3600 * 1.25
        )

    def let_pass(self, hours: float, kind: str = "endpoint") -> None:
        """Make what is recorded of endpoints older, or of another kind."""
        with sqlite3.connect(self.home / "ledger.sqlite") as db:
            [(created,)] = db.execute("SELECT created_at FROM resources WHERE kind=?", (kind,)).fetchall()
            earlier = datetime.fromisoformat(created) - timedelta(hours=hours)
            db.execute("UPDATE resources SET created_at=? WHERE kind=?", (earlier.isoformat(), kind))

    def objects(self) -> list[str]:
        return list(self.aws.aws.stored(self.aws.bucket))

    def made(self, folder: Path) -> Made:
        """What there is now; the home is copied to `folder`."""
        objects = self.aws.aws.stored(self.aws.bucket)
        sagemaker = self.aws.sagemaker
        return Made(Path(shutil.copytree(self.home, folder)), objects, dict(sagemaker.jobs), dict(sagemaker.tags))

    def have(self, made: Made) -> None:
        """Begin with what was made in another account, as if this one had made it."""
        shutil.copytree(made.home, self.home)
        for key, content in made.objects.items():
            self.aws.aws.keep(f"s3://{self.aws.bucket}/{key}", content)
        for name, job in made.jobs.items():
            self.aws.sagemaker.jobs[name] = own = copy.copy(job)
            own.description = copy.deepcopy(job.description)
        self.aws.sagemaker.tags |= copy.deepcopy(made.tags)
