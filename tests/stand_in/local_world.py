"""A small world of this machine to break things in: a home, clients of lorasum, and a model that takes no time.

Training and serving are real processes, which the local backend starts. What they run is a stub:
`stub_scripts/train.py` leaves an artifact at once, and `stub_scripts/inference.py` answers each prompt with its end.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import Client, Ended, Zygote

from lorasum.backends.local.backend import LocalBackend
from lorasum.ledger.ledger import Ledger

STUBS, REAL = Path(__file__).with_name("stub_scripts"), Path(__file__).parents[2] / "container_scripts"
_CONFIG = """
name: tiny
model: {{id: {model}}}
data: {{train: {chats}/train.jsonl, test: {chats}/test.jsonl, max_length: 128}}
predict: {{max_new_tokens: 8, batch_size: 2}}
"""
BEFORE = {
    "prepare": "nothing", "train": "prepare", "deploy": "train", "evaluate": "deploy", "predict": "deploy",
    "teardown": "deploy", "run": "nothing",
}  # fmt: skip
"""Each verb, and the verb after which it is tried."""


HOLD = "hold"
"""A stub of a model is not loaded before no file of this name lies in its folder."""


def copy_stubs(folder: Path, stubs: Path = STUBS) -> Path:
    """Make a folder of container scripts that are stubs, with what they import."""
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(stubs, folder, ignore=compiled)
    shutil.copyfile(REAL / "gpu.py", folder / "gpu.py")
    shutil.copytree(REAL / "shared", folder / "shared", ignore=compiled, dirs_exist_ok=True)  # the real ones have it
    return folder


class LocalWorld:
    """The home, and what was there after each verb."""

    def __init__(self, zygote: Zygote, folder: Path, model: Path, chats: Path, scripts: Path = STUBS) -> None:
        self.folder, self.home, self.output = folder, folder / "home", folder / "out.jsonl"
        self.environ: dict[str, str] = {}
        self._zygote = zygote
        self._input = chats / "test.jsonl"
        self._config, self._scripts = folder / "tiny.yaml", folder / "scripts"
        self._config.write_text(_CONFIG.format(model=model, chats=chats))
        copy_stubs(self._scripts, scripts)
        self.home.mkdir()
        self.snapshot("nothing")
        for verb in ("prepare", "train", "deploy"):
            ended = self.call(verb)
            assert ended.code == 0, ended.stderr
            self.snapshot(verb)

    def start(self, *arguments: str, **blow: object) -> Client:
        """Start `lorasum` with these arguments; a verb alone gets those that it needs."""
        more = {
            "predict": ["--input", str(self._input), "--output", str(self.output)],
            "teardown": ["--yes"],
            "run": ["--yes"],
        }.get(arguments[0], [])
        more = more if not {"--input", "--text"} & {*arguments} else []
        own = (
            []
            if "--config" in arguments or arguments[0] in ("runs", "init", "clean")
            else ["--config", str(self._config)]
        )
        environ = {"LORASUM_HOME": str(self.home), "LORASUM_STUB_SCRIPTS": str(self._scripts), **self.environ}
        return self._zygote.start([*arguments, *more, *own], environ, blow)

    def call(self, *arguments: str, **blow: object) -> Ended:
        return self.start(*arguments, **blow).wait()

    def snapshot(self, verb: str) -> None:
        shutil.copytree(self.home, self.folder / f"home-after-{verb}", symlinks=True)

    def restore(self, verb: str) -> None:
        """Have everything as it was after a verb. An endpoint that runs goes on, if one ran then."""
        self.output.unlink(missing_ok=True)
        if verb == "deploy" and self.live() == ["endpoint tiny"]:
            kept = self.folder / "kept"
            (self.home / "runs" / "tiny" / "endpoints").rename(kept)
            self._copy(verb)
            shutil.rmtree(self.home / "runs" / "tiny" / "endpoints")
            kept.rename(self.home / "runs" / "tiny" / "endpoints")
            return
        self.end_all()
        self._copy("train" if verb == "deploy" else verb)
        if verb == "deploy":
            ended = self.call("deploy")
            assert ended.code == 0, ended.stderr

    def _copy(self, verb: str) -> None:
        shutil.rmtree(self.home)
        shutil.copytree(self.folder / f"home-after-{verb}", self.home, symlinks=True)

    def live(self, run: str = "tiny") -> list[str]:
        """What runs of a run, such as "endpoint tiny"."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LORASUM_HOME", str(self.home))
            return sorted(str(one).partition(" (")[0] for one in LocalBackend().live(run))

    def end_all(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LORASUM_HOME", str(self.home))
            backend = LocalBackend()
            for one in backend.live("tiny"):
                job = backend.find_training("tiny", one.name) if one.kind == "training_job" else None
                backend.stop_training(job) if job else backend.delete_endpoint("tiny", one.name)

    def recorded(self) -> list[str]:
        """What the ledger has as running."""
        rows = Ledger(self.home / "ledger.sqlite").resources("tiny")
        return sorted(str(row) for row in rows if row.kind != "dataset" and row.is_open)

    def left_over(self) -> list[str]:
        """Files that some process has not finished, and signs that two did what only one may do."""
        found = [*self.home.rglob("*"), *self.folder.glob("out.jsonl.*")]
        return [str(p) for p in found if p.name.endswith((".part", ".partial")) or p.name == "two-at-once"]

    def check_after(self, verb: str) -> None:
        """The verb's work is done, once; the ledger knows what runs; and nothing half made is left."""
        expected = [] if verb in ("prepare", "train", "teardown", "run", "report") else ["endpoint tiny"]
        assert self.live() == self.recorded() == expected
        assert self.left_over() == []
        folder = self.home / "runs" / "tiny"
        [dataset] = [path for path in (folder / "data").iterdir() if not path.name.endswith(".lock")]
        assert (dataset / "manifest.json").exists()
        assert (folder / "reports" / f"{dataset.name}.html").exists()
        if verb != "prepare":
            [job] = (folder / "jobs").iterdir()
            assert len((job / "ml" / "output" / "data" / "metrics.jsonl").read_text().splitlines()) >= 1
            assert (job / "ml" / "model" / "lorasum.json").exists()
        if verb in ("evaluate", "run"):
            assert list((folder / "evaluations").glob("scored-*.jsonl"))
        if verb == "predict":
            rows = [json.loads(line) for line in self.output.read_text().splitlines()]
            assert [row["dialogue"] for row in rows] == [
                json.loads(line)["dialogue"] for line in self._input.read_text().splitlines()
            ]
            assert all("summary" in row for row in rows)


def local_world(scripts: Path = STUBS) -> Any:
    """The fixture of a test module's own LocalWorld."""

    @pytest.fixture(scope="module")
    def world(
        tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, tiny_chats: Path, clients: Zygote
    ) -> Iterator[LocalWorld]:
        yield from make_local_world(tmp_path_factory.mktemp("local"), tiny_model_dir, tiny_chats, clients, scripts)

    return world


def make_local_world(
    folder: Path, model: Path, chats: Path, zygote: Zygote, scripts: Path = STUBS
) -> Iterator[LocalWorld]:
    """Yield a LocalWorld; nothing of it runs afterwards."""
    folder.mkdir(exist_ok=True)
    made = LocalWorld(zygote, folder, model, chats, scripts)
    yield made
    made.end_all()
