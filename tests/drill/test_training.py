"""A training job, killed at each file that it writes and again and again: its adapter is the same, bit for bit."""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from forks import Client, Ended, Zygote
from moments import Moments
from world import chosen

from lorasum.backends.local.backend import LocalBackend
from lorasum.commands.prepare import prepare
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.ledger.ledger import Ledger
from lorasum.reporting import Silent
from lorasum.system.files import file_digest
from shared.names import BASE_SECONDS, PROCESSES, REPORT_TO

pytestmark = [pytest.mark.slow, pytest.mark.drill, pytest.mark.timeout(3600)]

SCRIPTS = Path(__file__).parents[2] / "container_scripts"
KILLS = 5
COMBINATIONS = [
    {"per_device_batch_size": batch, "gradient_accumulation_steps": steps, "epochs": epochs, "lora_dropout": dropout}
    for batch, steps, epochs, dropout in product(("auto", 1, 2), (1, 3), (1.5, 3.0), (0.0, 0.05))
]


class Jobs:
    """Starts of training jobs on the tiny chats."""

    def __init__(self, zygote: Zygote, dataset: Path, base: Path) -> None:
        self._zygote, self._dataset, self._base = zygote, dataset, base
        self.environ: dict[str, str] = {}

    def start(self, root: Path, flags: Mapping[str, object], **blow: object) -> Ended:
        return self.begin(root, flags, **blow).wait()

    def begin(self, root: Path, flags: Mapping[str, object], **blow: object) -> Client:
        (root / "model").mkdir(parents=True, exist_ok=True)
        folders = {
            "SM_MODEL_DIR": root / "model",
            "SM_OUTPUT_DIR": root / "output",
            "SM_OUTPUT_DATA_DIR": root / "output" / "data",
            "SM_CHANNEL_TRAINING": self._dataset,
            "SM_CHANNEL_MODEL": self._base,
        }
        given = {"checkpoint_dir": root / "checkpoints", "model_id": "tiny", "compute_dtype": "float32", **flags}
        given |= {"learning_rate": 0.02, "checkpoint_minutes": 1e-9}
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        environ = {name: str(path) for name, path in folders.items()} | self.environ
        return self._zygote.start(arguments, environ, blow)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, tiny_chats: Path, trainings: Zygote) -> Jobs:
    folder = tmp_path_factory.mktemp("jobs")
    chats = {split: str(tiny_chats / f"{split}.jsonl") for split in ("train", "test")}
    config = Config.model_validate(
        {"name": "tiny", "model": {"id": str(tiny_model_dir)}, "data": {**chats, "max_length": 128}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASUM_HOME", str(folder / "home"))
        dataset = Path(prepare(RunContext(config, LocalBackend, Ledger(), Silent())).dataset)
    return Jobs(trainings, dataset, tiny_model_dir)


def digests(root: Path) -> dict[str, str]:
    """Of the weights: the adapter's and the merged model's."""
    return {str(path.relative_to(root)): file_digest(path) for path in sorted((root / "model").rglob("*.safetensors"))}


def left_over(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*.part")]


def test_a_job_killed_at_any_file_ends_with_the_same_weights(jobs: Jobs, tried: Counter[str], tmp_path: Path) -> None:
    flags = {"epochs": 1.0, "lora_dropout": 0.05, "per_device_batch_size": 2}
    whole, root = tmp_path / "whole", tmp_path / "killed"
    counted = jobs.start(whole, flags, where="files")
    assert counted.code == 0, counted.stderr
    for index in chosen(counted.calls):
        shutil.rmtree(root, ignore_errors=True)
        killed = jobs.start(root, flags, where="files", index=index)
        assert killed.code in (-9, 0), killed.stderr
        again = jobs.start(root, flags)
        assert again.code == 0, f"killed at {index}: {again.stderr}"
        assert digests(root) == digests(whole), f"killed at {index}"
        assert left_over(root) == [], f"killed at {index}"
        tried["SIGKILL at files of a training job"] += 1


@pytest.mark.parametrize("flags", COMBINATIONS)
def test_five_kills_change_no_bit_of_the_adapter(
    jobs: Jobs, tried: Counter[str], tmp_path: Path, flags: dict[str, object]
) -> None:
    draw = random.Random(str(flags))
    whole, root = tmp_path / "whole", tmp_path / "killed"
    counted = jobs.start(whole, flags, where="files")
    assert counted.code == 0, counted.stderr
    for _ in range(KILLS):
        killed = jobs.start(root, flags, where="files", index=draw.randrange(counted.calls))
        assert killed.code in (-9, 0), killed.stderr
    ended = jobs.start(root, flags)
    assert ended.code == 0, ended.stderr
    assert digests(root) == digests(whole)
    tried[f"adapters equal after {KILLS} kills"] += 1


@pytest.mark.parametrize(
    "more",
    [{}, {REPORT_TO: "tensorboard", BASE_SECONDS: "100"}, {PROCESSES: "2"}],
    ids=["alone", "with a tracker and the base model", "two processes"],
)
def test_a_job_ended_at_any_moment_ends_with_the_same_weights(
    jobs: Jobs,
    tried: Counter[str],
    tmp_path: Path,
    more: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """SIGTERM while it loads, trains, evaluates, merges or writes: alone, with a tracker, and as two processes."""
    monkeypatch.setattr(jobs, "environ", more)
    flags = {"epochs": 1.0, "lora_dropout": 0.05, "per_device_batch_size": 2}
    whole, root = tmp_path / "whole", tmp_path / "ended"
    assert jobs.start(whole, flags).code == 0
    for what, end in Moments(partial(jobs.begin, root, flags), f"training {more}", [signal.SIGTERM]).draw():
        shutil.rmtree(root, ignore_errors=True)
        ended = end()
        assert ended.code in (143, -15, 0), f"{what}: {ended.code} {ended.stderr}\nat {ended.place}"
        assert "ends at once" not in ended.stderr, f"{what}: {ended.stderr}"
        assert not (root / "output" / "failure").exists(), what
        again = jobs.start(root, flags)
        assert again.code == 0, f"{what}: {again.stderr}"
        assert digests(root) == digests(whole), what
        assert left_over(root) == [], what
        tried[f"SIGTERM at any moment of a training job, {request.node.callspec.id}"] += 1
