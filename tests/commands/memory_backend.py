"""A backend in memory and a reporter that remembers: what the command tests drive commands with."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from lorasum.backends.base import RunningResource
from lorasum.backends.records import Check, EndpointRef, EndpointSpec, EndpointState, JobRef, JobState, TrainSpec
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError
from lorasum.ledger.ledger import Ledger
from lorasum.reporting import Reporter, Silent
from lorasum.shared.events import DoneEvent, Event, StepEvent
from lorasum.shared.records import FileFacts

DONE = DoneEvent(train_loss=1.5, eval_loss=1.25, tokens=900, tokens_per_second=90.0, seconds=10.0, kept_step=9)
STEP = StepEvent(step=3, steps=9, epoch=0.3, loss=1.5, learning_rate=1e-4, tokens_per_second=90.0, eta_seconds=6.0)


class InMemoryBackend:
    """The backend contract in memory. A job runs until it is followed; an endpoint echoes its prompts.

    `before[method]` is called as that method begins: to look at the ledger then, or to raise.
    """

    def __init__(self, name: str = "local", stops_on_interrupt: bool = True) -> None:
        self.name = name
        self.account_and_region = ""
        self.access: Mapping[str, str] = {}
        self.stops_on_interrupt = stops_on_interrupt
        self.jobs: dict[str, JobState] = {}
        self.scripts = {"container scripts": "1"}
        self.specs: dict[str, TrainSpec] = {}
        self.made: dict[str, Mapping[str, str]] = {}
        self.endpoints: dict[str, EndpointRef] = {}
        self.keeps_the_way_back = False  # as the local backend
        self.answered: dict[str, EndpointRef] = {}
        self.load_seconds = 60.0
        self.calls: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.events: list[Event] = [STEP, DONE]
        self.told: dict[str, list[Event]] = {}
        self.outcome = JobState("completed")
        self.artifacts = "memory:/"
        self.files: dict[str, FileFacts] = {}
        self.price: float | None = 0.0
        self.billed: float | None = 0.0
        self.warm: set[str] = set()
        self.logs: dict[str, list[str]] = {}
        self.checks = [Check("credentials", True, "account 1")]
        self.ends: dict[str, datetime | None] = {}

    def _call(self, method: str) -> None:
        self.calls.append(method)
        self.before.get(method, lambda: None)()

    def usd_per_hour(self, kind: Literal["training_job", "batch_job", "endpoint"]) -> float | None:
        return self.price

    def instance_usd_per_hour(self, instance_type: str, kind: Literal["training_job", "endpoint"]) -> float | None:
        return self.price

    def preflight(self, report_to: Sequence[str] = (), expires: bool = False) -> list[Check]:
        return self.checks

    def store_dataset(self, run: str, dataset: Path) -> str:
        self._call("store_dataset")
        return f"memory:/{dataset.name}"

    def training_request(self, spec: TrainSpec) -> dict[str, Any] | None:
        return None

    def endpoint_requests(self, spec: EndpointSpec) -> dict[str, Any]:
        return {"serve": spec.artifact}

    def start_training(self, spec: TrainSpec, asking: Callable[[], object] = lambda: None) -> JobRef:
        self._call("start_training")
        asking()
        self.jobs[spec.job_name] = JobState("running")
        self.made[spec.job_name] = self.scripts
        self.specs[spec.job_name] = spec
        if spec.base_summaries:
            shutil.copytree(spec.base_summaries, self.artifact(JobRef(spec.job_name, "")))
        self.before.get("training_started", lambda: None)()
        return JobRef(spec.job_name, f"job:{spec.job_name}")

    def find_training(self, run: str, job_name: str) -> JobRef | None:
        self.before.get("find_training", lambda: None)()
        return JobRef(job_name, f"job:{job_name}") if job_name in self.jobs else None

    def made_with(self, job: JobRef | None) -> Mapping[str, str]:
        return self.made.get(job.name, {}) if job else self.scripts

    def steps_of(self, run: str, job: JobRef) -> JobRef | None:
        others = self.specs[job.name].checkpoints if job.name in self.specs else ""
        return self.find_training(run, others) if others else job

    def training_jobs(self, run: str) -> list[JobRef]:
        return [JobRef(name, f"job:{name}") for name in self.jobs]

    def set_damaged_aside(self, run: str, mark: str) -> list[str]:
        return []

    def training_state(self, job: JobRef) -> JobState:
        return self.jobs.get(job.name, JobState("absent"))

    def follow_training(self, job: JobRef) -> Iterator[Event]:
        if self.jobs[job.name].status == "running":
            self.told[job.name] = self.events
        for event in self.told.get(job.name, self.events):
            yield event
            self._call("follow_training")
        if self.jobs[job.name].status == "running":
            self.jobs[job.name] = self.outcome

    def training_events(self, job: JobRef) -> Iterator[Event]:
        yield from self.told.get(job.name, self.events)

    def stop_training(self, job: JobRef, keep_warm: bool = False) -> None:
        self._call("stop_training")
        if self.training_state(job).status == "running":
            self.jobs[job.name] = JobState("stopped", "asked to", by_request=True)
        if not keep_warm:
            self.warm.discard(job.name)

    def training_usd(self, job: JobRef) -> float | None:
        return self.billed

    def is_warm(self, job: JobRef) -> bool:
        return job.name in self.warm

    def artifact(self, job: JobRef) -> str:
        return f"{self.artifacts}{job.name}"

    def artifact_file(self, job: JobRef, name: str) -> bytes | None:
        path = Path(self.artifact(job)) / name
        return path.read_bytes() if path.is_file() else None

    def artifact_files(self, job: JobRef) -> Mapping[str, FileFacts]:
        return self.files

    def fetch_artifact(self, job: JobRef, folder: Path, below: str = "") -> Path:
        self._call("fetch_artifact")
        return Path(self.artifact(job))

    def start_endpoint(self, spec: EndpointSpec, asking: Callable[[], object] = lambda: None) -> EndpointRef:
        self._call("start_endpoint")
        asking()
        self.endpoints[spec.name] = EndpointRef(spec.name, f"url:{spec.name}", spec.artifact, self.load_seconds)
        self.before.get("endpoint_started", lambda: None)()
        return self.endpoints[spec.name]

    def check_expiry(self) -> None:
        self.before.get("expire_endpoint", lambda: None)()

    def expire_endpoint(self, run: str, name: str, at: datetime | None) -> None:
        self._call("expire_endpoint")
        self.ends[name] = at

    def confirm_endpoint(self, run: str, name: str) -> None:
        self._call("confirm_endpoint")
        self.answered[name] = self.endpoints[name]

    def restore_endpoint(self, run: str, name: str) -> EndpointRef | None:
        self._call("restore_endpoint")
        before = self.answered.get(name)
        if not self.keeps_the_way_back or before is None or self.endpoints.get(name) == before:
            return None
        self.endpoints[name] = before
        return before

    def log_lines(self, kind: Literal["training_job", "endpoint"], run: str, name: str, follow: bool) -> Iterator[str]:
        self._call("log_lines")
        yield from self.logs.get(kind, ())

    def log_place(self, kind: Literal["training_job", "endpoint"], run: str, name: str) -> str:
        return f"memory:/{name}.log"

    def log_tail(self, of: JobRef | EndpointRef) -> list[str]:
        return []

    def endpoint_state(self, run: str, name: str) -> EndpointState:
        ref = self.endpoints.get(name)
        return EndpointState("in_service", ref) if ref else EndpointState("absent")

    def invoke(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Any:
        self._call("invoke")
        there = self.endpoints.get(endpoint.name)
        if there is None or (there.location, there.artifact) != (endpoint.location, endpoint.artifact):
            raise BackendError("no endpoint answers there")
        self.requests.append({"endpoint": endpoint.name, **payload})
        return [{"generated_text": f" {prompt} "} for prompt in payload["inputs"]]

    def stream(self, endpoint: EndpointRef, payload: dict[str, Any], timeout: float) -> Iterator[str]:
        [answer] = self.invoke(endpoint, payload, timeout)
        yield from re.findall(r"\S+|\s+", answer["generated_text"])

    def delete_endpoint(self, run: str, name: str, mark: str = "") -> bool:
        self._call("delete_endpoint")
        return self.endpoints.pop(name, None) is not None

    def begin_to_end(self, run: str, running: RunningResource) -> None:
        self._call("begin_to_end")

    def runs(self, beginning: str) -> list[str]:
        return []

    def live(self, run: str) -> list[RunningResource]:
        running = [
            RunningResource("training_job", name) for name, state in self.jobs.items() if state.status == "running"
        ]
        running += [RunningResource("training_job", name) for name in self.warm]
        return running + [RunningResource("endpoint", name) for name in self.endpoints]

    def stored_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        return ["jobs"] if artifacts and self.jobs else []

    def delete_files(self, run: str, data: bool, artifacts: bool) -> list[str]:
        if artifacts:
            self.jobs.clear()
        return ["jobs"] if artifacts else []


def context(config: Config, backend: InMemoryBackend, ledger: Ledger, reporter: Reporter | None = None) -> RunContext:
    """What a verb works with; it reports to nobody unless told to whom."""
    return RunContext(config, lambda: backend, ledger, reporter or Silent())


class RecordingReporter:
    """A Reporter that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.warnings: list[str] = []
        self.events: list[Event] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, label: str, done: float, total: float, detail: str = "") -> None: ...

    def event(self, event: Event) -> None:
        self.events.append(event)


class Clock:
    """A clock that tests set: it goes on a microsecond whenever it is looked at."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(microseconds=1)
        return self.time

    def let_pass(self, hours: float) -> None:
        self.time += timedelta(hours=hours)
