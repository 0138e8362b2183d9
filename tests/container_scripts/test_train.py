"""The training entry point, as SageMaker starts it: a process, flags, SM_* folders. A tiny random BLOOM, int8."""

import errno
import json
import os
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import Ended, Zygote
from safetensors.torch import load_file, save_file

from engine.base_memory import base_bytes
from engine.failure import write_failure
from engine.train_state import read_progress, save_evaluation
from lorasum.backends.local.backend import LocalBackend
from lorasum.commands.prepare import prepare
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.ledger.ledger import Ledger
from lorasum.reporting import Silent
from shared.failure import read_failure
from shared.names import ADAPTER_ONLY, BASE_SECONDS, EXPECT_GPU, RENDEZVOUS, STEPS_DONE
from shared.records import ArtifactRecord, BaseSummaries, from_json
from shared.requests import fill_template

pytestmark = pytest.mark.slow


def told(lines: str) -> list[dict[str, Any]]:
    """The events of some lines, without signs of life: there are more of these on a slow machine."""
    return [event for event in map(json.loads, lines.splitlines()) if event["event"] != "progress"]


def parameters_of(base: Path) -> int:
    return sum(tensor.numel() for tensor in load_file(base / "model.safetensors").values())


@dataclass
class Job:
    """One private /opt/ml tree."""

    root: Path
    dataset: Path
    base: Path
    trainings: Zygote
    variables: dict[str, str] = field(default_factory=dict)

    def flags(self, **flags: object) -> list[str]:
        given = {"checkpoint_dir": self.root / "checkpoints", "compute_dtype": "float32", "model_id": "tiny", **flags}
        return [text for k, v in given.items() for text in (f"--{k}", str(v))]

    @property
    def environment(self) -> dict[str, str]:
        folders = {
            "SM_MODEL_DIR": self.root / "model",
            "SM_OUTPUT_DIR": self.root / "output",
            "SM_OUTPUT_DATA_DIR": self.root / "output" / "data",
            "SM_CHANNEL_TRAINING": self.dataset,
            "SM_CHANNEL_MODEL": self.base,
        }
        return {
            **os.environ,
            **self.variables,
            "OMP_NUM_THREADS": "1",
            **{name: str(path) for name, path in folders.items()},
        }

    def run(self, **flags: object) -> Ended:
        """Train in a process of its own that has imported its libraries already."""
        (self.root / "model").mkdir(parents=True, exist_ok=True)
        return self.trainings.start(self.flags(**flags), self.environment, {}).wait()

    def events(self) -> list[dict[str, Any]]:
        path = self.root / "output" / "data" / "metrics.jsonl"
        return told(path.read_text()) if path.exists() else []


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, tiny_chats: Path, tiny_model_dir: Path) -> Path:
    """The tiny chats, prepared."""
    config = Config.model_validate(
        {
            "name": "tiny",
            "model": {"id": str(tiny_model_dir)},
            "data": {
                "train": str(tiny_chats / "train.jsonl"),
                "test": str(tiny_chats / "test.jsonl"),
                "max_length": 192,
            },
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASUM_HOME", str(tmp_path_factory.mktemp("home")))
        return Path(prepare(RunContext(config, LocalBackend, Ledger(), Silent())).dataset)


@pytest.fixture
def job(tmp_path: Path, dataset: Path, tiny_model_dir: Path, trainings: Zygote) -> Job:
    return Job(tmp_path / "ml", dataset, tiny_model_dir, trainings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset: Path, tiny_model_dir: Path, trainings: Zygote) -> Job:
    """A job that has learnt something and is done."""
    base = tmp_path_factory.mktemp("base") / "tiny"
    shutil.copytree(tiny_model_dir, base)
    (base / "preprocessor_config.json").write_text("{}")
    job = Job(tmp_path_factory.mktemp("finished") / "ml", dataset, base, trainings, {BASE_SECONDS: "100"})
    flags: dict[str, object] = {"evaluate": "rougeL", "evaluate_every": 9, "evaluate_dialogues": 2}
    done = job.run(epochs=6, learning_rate=0.03, per_device_batch_size=2, lora_r=4, model_revision="v1", **flags)
    assert done.code == 0, done.stderr
    assert told(done.stdout) == job.events()
    return job


def test_a_job_says_what_it_does_in_order(finished: Job) -> None:
    events = finished.events()
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-3:] == ["merged", "base", "done"]
    start, end = events[0], events[-1]
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, start["steps"] + 1))
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.02  # a random model with a frozen head cannot learn much
    assert start["lora_targets"] == ["query_key_value"]
    assert start["trainable_parameters"] == 2 * 4 * (32 + 96)
    evaluations = [event for event in events if event["event"] == "eval"]
    assert [event["step"] for event in evaluations] == [9, start["steps"]]
    assert all(0 <= event["score"] <= 100 and event["generation_seconds"] > 0 for event in evaluations)
    assert (end["eval_loss"], end["score"]) == (evaluations[-1]["eval_loss"], evaluations[-1]["score"])
    assert 50e6 < end["peak_memory_bytes"] < 20e9, "of a process with torch in it"


def test_memory_is_planned_before_a_start_as_by_the_job(finished: Job) -> None:
    from engine.arguments import Folders, parse_arguments
    from memory_plan import planned

    path = finished.root / "model"
    folders = Folders(finished.dataset, finished.base, path, path, path)
    arguments = parse_arguments(finished.flags(per_device_batch_size=2, lora_r=4))
    needs, told = planned(arguments, folders, [], 1), finished.events()[0]
    [here] = needs.plans
    assert (needs.process_bytes, here.refusal, here.memory_parts) == (0, "", told["memory_parts"])
    assert here.memory_bytes == told["memory_bytes"] == sum(told["memory_parts"].values())
    on_gpus = planned(arguments, folders, [1000, 2**34], 1)
    assert [gpu.memory_free_bytes for gpu in on_gpus.plans] == [1000, 2**34]
    assert [gpu.refusal.partition(" needs")[0] for gpu in on_gpus.plans] == ["this training", ""]
    assert "process" not in on_gpus.plans[1].memory_parts, "a GPU holds tensors only"
    assert on_gpus.process_bytes > 0, "and the main memory holds the process"
    assert needs.base_bytes == pytest.approx((finished.base / "model.safetensors").stat().st_size, rel=0.05)
    assert needs.merged_bytes == pytest.approx((path / "model.safetensors").stat().st_size, rel=0.05)
    adapter = (path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert needs.checkpoint_bytes == pytest.approx(10 * adapter, rel=0.5)
    assert needs.merge_bytes == 3 * 4 * 96 * 32
    assert 2 * told["parameters"] < needs.step_operations < 20 * told["parameters"]
    assert 0 < needs.forward_operations < needs.step_operations
    assert needs.peak > 1e8
    assert on_gpus.peak == 0, "nobody here has one"


def test_an_artifact_holds_what_serves_it_and_its_record(finished: Job) -> None:
    model = finished.root / "model"
    names = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    assert names >= {
        "README.md",
        "adapter/README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "code/inference.py",
        "config.json",
        "generation_config.json",
        "lorasum.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert not [name for name in names if ".part" in name]
    adapter = json.loads((model / "adapter" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("tiny", "v1")  # as the flags name it
    assert (model / "preprocessor_config.json").read_text() == "{}"
    record = json.loads((model / "lorasum.json").read_text())
    assert "{dialogue}" in record["template"]
    assert record["training"]["eval_loss"] == pytest.approx(finished.events()[-1]["eval_loss"], abs=1e-4)
    assert {name: facts["bytes"] for name, facts in record["files"].items()} == {
        name: (model / name).stat().st_size for name in names - {"lorasum.json", "base_summaries.json"}
    }
    kept = record["training"]
    assert (kept["kept_step"], kept["kept_because"]) == (finished.events()[0]["steps"], "last step")
    assert (kept["scored_by"], kept["score"]) == ("rougeL", finished.events()[-1]["score"])
    modes = {path.stat().st_mode & 0o777 for path in (model / "adapter").iterdir() if path.is_file()}
    assert len(modes) == 1, "a group that may read the config may read the weights"
    compared = record["merge_check"]
    assert compared["prompts"] == 2
    assert compared["from_adapter"] < 1e-4 < compared["from_base"]


def test_the_base_model_summarises_as_its_endpoint_would(finished: Job) -> None:
    import inference

    [told] = [event for event in finished.events() if event["event"] == "base"]
    assert (told["summaries"], told["dialogues"], told["why_not_all"]) == (4, 4, "")
    model = finished.root / "model"
    stored = from_json(BaseSummaries, (model / "base_summaries.json").read_bytes())
    record = from_json(ArtifactRecord, (model / "lorasum.json").read_bytes())
    assert stored.generation == record.generation
    rows = [json.loads(line) for line in (finished.dataset / "test.jsonl").read_text().splitlines()]
    prompts = [fill_template(record.template or "", row["dialogue"], record.control_tokens) for row in rows]
    request = json.dumps({"inputs": prompts, "parameters": stored.generation})
    served = inference.model_fn(str(finished.base))
    answers = inference.predict_fn(inference.input_fn(request, "application/json"), served)
    assert [answer["generated_text"] for answer in answers] == list(stored.summaries)


def test_the_card_is_in_the_hubs_format_and_its_code_runs(
    finished: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import ModelCard

    cards = {name: ModelCard.load(finished.root / "model" / name) for name in ("README.md", "adapter/README.md")}
    assert [card.data.library_name for card in cards.values()] == ["transformers", "peft"]
    assert [card.data.base_model for card in cards.values()] == [None, None], "a folder's name is no hub id"
    assert f"{finished.events()[-1]['eval_loss']:.3f}" in cards["README.md"].text
    assert "https://" not in cards["README.md"].text, "lorasum has no address: whoever took one would be linked"
    [code] = re.findall(r"```python\n(.*?)```", cards["README.md"].text, re.DOTALL)
    monkeypatch.chdir(finished.root / "model")
    exec(code, {})
    assert capsys.readouterr().out


def test_the_merged_model_has_the_loss_that_the_job_reports(finished: Job) -> None:
    """It is near, not equal: int8 weights while training, float32 weights after the merge."""
    from transformers import AutoModelForCausalLM

    from engine.batches import collate
    from engine.packed_loss import PackedLoss
    from engine.packs import load_split

    merged = AutoModelForCausalLM.from_pretrained(finished.root / "model", dtype=torch.float32).eval()
    merged.requires_grad_(False)
    packed_loss = PackedLoss(merged, 192)
    with torch.no_grad():
        sums = [packed_loss(collate([pack])) for pack in load_split(finished.dataset, "test")]
    loss = float(sum(loss for loss, _ in sums)) / sum(int(count) for _, count in sums)
    assert loss == pytest.approx(finished.events()[-1]["eval_loss"], abs=0.02)


@pytest.mark.parametrize("flags", [{"quantization": "nf4"}, {"quantization": "none", "compute_dtype": "bfloat16"}])
def test_training_on_other_weights_and_in_bf16(job: Job, flags: dict[str, object]) -> None:
    done = job.run(max_steps=3, learning_rate=0.01, warmup_ratio=0, **flags)
    assert done.code == 0, done.stderr
    assert (job.root / "model" / "lorasum.json").exists()
    assert job.events()[0]["parameters"] == parameters_of(job.base)


def test_recomputing_activations_changes_no_loss(job: Job) -> None:
    """Dropout included: what is recomputed drops what was dropped."""
    losses = []
    for checkpointing in ("false", "true"):
        shutil.rmtree(job.root, ignore_errors=True)
        done = job.run(
            max_steps=3,
            learning_rate=0.01,
            warmup_ratio=0,
            lora_dropout=0.3,
            gradient_accumulation_steps=2,
            gradient_checkpointing=checkpointing,
        )
        assert done.code == 0, done.stderr
        losses.append([event["loss"] for event in job.events() if event["event"] == "step"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


TOLD_TO_STOP = """
import os, signal, sys
import train
from engine.metrics import Metrics

def emit(metrics, event, emit=Metrics.emit):
    emit(metrics, event)
    if getattr(event, "step", 0) == 5:
        os.kill(os.getpid(), signal.SIGTERM)

Metrics.emit = emit
sys.exit(train.main())
"""


def test_the_start_after_a_sigterm_resumes_from_its_checkpoint(job: Job, tmp_path: Path) -> None:
    (job.root / "model").mkdir(parents=True)
    (tmp_path / "told_to_stop.py").write_text(TOLD_TO_STOP)
    flags = {"max_steps": 12, "learning_rate": 0.001, "logging_steps": 1}
    started = job.trainings.start(job.flags(**flags), job.environment, {}, str(tmp_path / "told_to_stop.py"))
    stopped = started.wait()
    assert stopped.code == 143
    assert "SIGTERM received: saving a checkpoint, then ending" in stopped.stderr
    stopped_at = max(event["step"] for event in job.events() if event["event"] == "step")
    assert stopped_at == 5
    assert not (job.root / "output" / "failure").exists()
    assert not (job.root / "model" / "lorasum.json").exists()

    done = job.run(**flags)
    assert done.code == 0, done.stderr
    events = told(done.stdout)
    assert events[0]["resumed_from_step"] == stopped_at
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(6, 13))


def test_two_processes_leave_the_artifact_of_one(job: Job, tmp_path: Path) -> None:
    """Evaluated by summaries, of which each writes its share. They share the base model too."""
    flags: dict[str, object] = {
        "epochs": 2, "learning_rate": 0.03, "gradient_accumulation_steps": 2, "evaluate": "rougeL", "keep": "best",
        "evaluate_dialogues": 3, "max_new_tokens": 8,
    }  # fmt: skip
    alone = Job(tmp_path / "alone", job.dataset, job.base, job.trainings)
    assert alone.run(**flags).code == 0
    said = [without_gloos_words(process.stdout) for process in two_share(job, flags)]
    assert (told(said[0]), said[1]) == (job.events(), ""), "the first tells, and only it"
    for one, two in zip(alone.events(), job.events(), strict=True):
        for figure in ("loss", "eval_loss", "score", "tokens"):
            assert two.get(figure) == (one.get(figure) and pytest.approx(one[figure], rel=2e-5)), (one, two)
    assert (alone.events()[0]["processes"], job.events()[0]["processes"]) == (1, 2)
    assert (alone.events()[0]["shared_bytes"], job.events()[0]["shared_bytes"] > 0) == (0, True)
    assert sorted(file_names(job)) == sorted(file_names(alone))


def test_two_gpus_leave_the_artifact_of_two_processes_on_a_cpu(job: Job, tmp_path: Path) -> None:
    """As far as pretended GPUs show it (pretend_gpu.py). Each fetches the base model that they share."""
    flags: dict[str, object] = {
        "max_steps": 3, "learning_rate": 0.03, "gradient_accumulation_steps": 2, "evaluate": "rougeL", "keep": "best",
        "evaluate_dialogues": 3, "max_new_tokens": 8, "compute_dtype": "bfloat16",
    }  # fmt: skip
    here = Job(tmp_path / "here", job.dataset, job.base, job.trainings)
    two_share(here, flags)
    job.variables |= {"PRETENDED": "train", "PRETENDED_GPUS": "2"}
    two_share(job, flags, str(Path(__file__).with_name("on_pretended_gpu.py")))
    assert job.events()[0]["device"] == "a pretended GPU"
    for one, two in zip(here.events(), job.events(), strict=True):
        for figure in ("loss", "eval_loss", "score", "tokens"):
            assert two.get(figure) == (one.get(figure) and pytest.approx(one[figure], rel=1e-4)), (one, two)
    assert sorted(file_names(job)) == sorted(file_names(here))


def two_share(job: Job, flags: dict[str, object], script: str = "") -> list[Ended]:
    """Train in two processes, which share the base model."""
    (job.root / "model").mkdir(parents=True)
    started = []
    for rank in (0, 1):
        ranked = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", RENDEZVOUS: f"file://{job.root}/meet"}
        asked = job.flags(**{**flags, "engine_base": "shared"})
        started.append(job.trainings.start(asked, {**job.environment, **ranked}, {}, script))
    ended = [process.wait() for process in started]
    assert [process.code for process in ended] == [0, 0], "".join(process.stderr for process in ended)
    return ended


def without_gloos_words(lines: str) -> str:
    """torch 2.9, which the training image has, prints what it is connected to among the events."""
    return "".join(line for line in lines.splitlines(keepends=True) if not line.startswith("[Gloo] "))


def file_names(job: Job) -> list[str]:
    return [str(path.relative_to(job.root)) for path in job.root.rglob("*") if path.is_file()]


def test_a_checkpoint_that_is_not_resumed_from_is_named_in_the_log(job: Job) -> None:
    done = job.run(max_steps=3, warmup_ratio=0)
    assert done.code == 0, done.stderr
    (job.root / "checkpoints" / "checkpoint-3" / "progress.json").write_text("{", encoding="utf-8")
    again = job.run(max_steps=3, warmup_ratio=0)
    assert told(again.stdout)[0]["resumed_from_step"] == 0
    assert "not resuming from checkpoint-3: progress.json has 1 bytes" in again.stderr


def test_a_failed_merge_is_retried_without_training_again(job: Job) -> None:
    """Nor evaluating."""
    assert job.run(max_steps=3, warmup_ratio=0).code == 0
    first = job.events()[-1]
    for path in (job.root / "model").iterdir():
        if path.is_file():
            path.unlink()
    again = job.run(max_steps=3, warmup_ratio=0)
    assert again.code == 0, again.stderr
    events = told(again.stdout)
    assert [event["event"] for event in events] == ["start", "saved", "merged", "done"]
    assert events[-1]["eval_loss"] == first["eval_loss"] > 0
    assert events[0]["epochs"] == pytest.approx(3 / events[0]["packs"]), "as the steps are limited, not as configured"
    assert (job.root / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            {"learning_rate": "1e30", "max_grad_norm": 0, "max_steps": 8},
            "the loss is not a finite number at step 2, in pack",
        ),
        ({"learning_rate": "0", "max_steps": 2}, "changes nothing"),
    ],
)
def test_the_failure_file_says_what_went_wrong(job: Job, flags: dict[str, object], reason: str) -> None:
    done = job.run(**flags)
    assert done.code == 1
    failure = (job.root / "output" / "failure").read_text()
    assert re.search(reason, failure), failure
    assert "\nhint: " in failure


def beyond_float16(base: Path, folder: Path) -> Path:
    """A copy of the tiny BLOOM with a value above 65,504 that changes no answer: it is added to all keys of a head."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.self_attention.query_key_value.bias"][32 // 4] = 1e5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"merge_dtype": "float16", "learning_rate": 0.01}, "holds values up to 100,000, and float16 ends at 65,504"),
        ({"learning_rate": 1e-20}, "the merged model answers exactly as the base model"),
    ],
)
def test_a_refused_merge_leaves_the_adapter(job: Job, tmp_path: Path, flags: dict[str, object], reason: str) -> None:
    """It is what the training was paid for, and can be served."""
    job.base = beyond_float16(job.base, tmp_path / "large")
    job.variables[BASE_SECONDS] = "100"
    done = job.run(max_steps=2, warmup_ratio=0, **flags)
    assert done.code == 0, done.stderr
    warning, base, end = job.events()[-3:]
    assert reason in warning["text"]
    assert base["summaries"] == base["dialogues"]
    assert reason in end["not_merged"]
    record = from_json(ArtifactRecord, (job.root / "model" / "lorasum.json").read_bytes())
    assert (record.training.not_merged, record.merge_check.prompts) == (end["not_merged"], 0)
    assert record.parameters == parameters_of(job.base)
    there = {path.relative_to(job.root / "model").as_posix() for path in (job.root / "model").rglob("*")}
    assert {"adapter/adapter_model.safetensors", "adapter/lorasum.json", "config.json", "tokenizer.json"} <= there
    assert not {name for name in there if name.endswith(".part") or name in ("model.safetensors", "README.md")}
    assert set(record.files) <= there


def test_a_job_without_a_merge_leaves_what_a_later_one_merges(job: Job, tmp_path: Path) -> None:
    """Without a step. Of the merge's check it has the half that needs no merged model."""
    job.variables[ADAPTER_ONLY] = "1"
    assert job.run(max_steps=2, warmup_ratio=0, learning_rate=0.01).code == 0
    assert [event["event"] for event in job.events()][-2:] == ["saved", "done"]
    assert job.events()[-1]["not_merged"] == "the merge was left out"
    assert not list((job.root / "model").glob("*.safetensors"))
    alone = load_file(job.root / "model" / "adapter" / "adapter_model.safetensors")
    left = from_json(ArtifactRecord, (job.root / "model" / "lorasum.json").read_bytes())
    assert set(left.files) >= {"adapter/adapter_model.safetensors", "tokenizer.json", "code/inference.py"}

    later = replace(job, root=tmp_path / "later", variables={STEPS_DONE: "1"})
    shutil.copytree(job.root / "checkpoints", later.root / "checkpoints")
    assert later.run(max_steps=2, warmup_ratio=0, learning_rate=0.01).code == 0
    assert [event["step"] for event in later.events() if event["event"] == "step"] == []
    assert (later.events()[-1]["not_merged"], (later.root / "model" / "model.safetensors").is_file()) == ("", True)
    again = load_file(later.root / "model" / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in alone.items())


def test_a_job_that_was_to_repeat_no_step_repeats_none(job: Job) -> None:
    """Where the checkpoints are gone, all would be paid for again."""
    job.variables[STEPS_DONE] = "1"
    assert job.run(max_steps=2).code == 1
    assert job.events() == []
    assert "are gone or damaged: 2 would be repeated" in (job.root / "output" / "failure").read_text()


def test_a_job_that_only_merges_goes_on_from_no_older_checkpoint(job: Job) -> None:
    """The steps from there on were paid for again."""
    flags = {"max_steps": 2, "checkpoint_minutes": 1e-9}
    job.variables[ADAPTER_ONLY] = "1"
    assert job.run(**flags).code == 0
    (job.root / "checkpoints" / "checkpoint-2" / "progress.json").write_text("{}")
    job.variables[STEPS_DONE] = "1"
    assert job.run(**flags).code == 1
    assert "are gone or damaged: 1 would be repeated" in (job.root / "output" / "failure").read_text()


def test_lost_best_weights_are_told_of_and_no_others_are_merged(job: Job) -> None:
    job.variables[ADAPTER_ONLY] = "1"
    flags = {"max_steps": 2, "keep": "best"}
    assert job.run(**flags).code == 0
    newest = job.root / "checkpoints" / "checkpoint-2"
    save_evaluation(newest, replace(read_progress(newest), best_step=1))
    shutil.rmtree(newest.with_name("checkpoint-1"), ignore_errors=True)
    assert job.run(**flags).code == 0
    [told] = [event["text"] for event in job.events() if "best evaluation" in event.get("text", "")]
    assert told.endswith("at step 1, are gone or damaged: those of the last step are kept")
    job.variables[STEPS_DONE] = "1"
    assert job.run(**flags).code == 1
    assert (
        "the best weights of the job that has done the steps, of step 1, are gone"
        in (job.root / "output" / "failure").read_text()
    )


def test_an_adapter_that_changes_no_answer_is_told_of(job: Job) -> None:
    job.variables[ADAPTER_ONLY] = "1"
    assert job.run(max_steps=2, warmup_ratio=0, learning_rate=1e-20).code == 0
    warning, end = job.events()[-2:]
    assert end["not_merged"] == "the adapter answers exactly as the base model"
    assert f"{end['not_merged']}; train longer, or at a higher learning rate" in warning["text"]


def test_a_tokenizer_that_cannot_be_saved_ends_the_job_before_its_steps(job: Job, tmp_path: Path) -> None:
    job.base = Path(shutil.copytree(job.base, tmp_path / "odd"))
    (job.base / "tokenizer.json").write_text("{")
    assert job.run(max_steps=2).code == 1
    assert [event["event"] for event in job.events()] == ["start"]


def test_what_does_not_fit_is_refused_before_the_weights_are_there(job: Job, tmp_path: Path) -> None:
    """By the memory plan; a base model that this process cannot share stands for one that is too large."""
    job.base = Path(shutil.copytree(job.base, tmp_path / "described", ignore=shutil.ignore_patterns("*.safetensors")))
    assert job.run(engine_base="shared").code == 1
    assert "the base model cannot be shared" in (job.root / "output" / "failure").read_text()


def test_a_wrong_target_is_refused_before_the_weights_are_there(job: Job, tmp_path: Path) -> None:
    job.base = Path(shutil.copytree(job.base, tmp_path / "described", ignore=shutil.ignore_patterns("*.safetensors")))
    assert job.run(lora_targets="q_proj").code == 1
    failure = (job.root / "output" / "failure").read_text()
    assert "no linear layer of bloom is called q_proj" in failure
    assert "\nhint: lora.targets can be: dense, dense_4h_to_h, dense_h_to_4h, query_key_value" in failure


def test_a_base_model_without_weights_is_refused(job: Job, tmp_path: Path) -> None:
    job.base = tmp_path / "empty"
    job.base.mkdir()
    assert job.run().code == 1
    assert "has no config.json" in (job.root / "output" / "failure").read_text()


def test_a_base_model_that_lacks_a_layer_is_refused_early(job: Job, tmp_path: Path) -> None:
    base = tmp_path / "torn"
    shutil.copytree(job.base, base)
    tensors = load_file(base / "model.safetensors")
    del tensors["transformer.h.1.mlp.dense_h_to_4h.weight"]
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    job.base = base
    assert job.run().code == 1
    failure = (job.root / "output" / "failure").read_text()
    assert "lack weights of a bloom language model" in failure
    assert "transformer.h.1.mlp.dense_h_to_4h.weight" in failure
    assert not job.events()


def test_falcon_is_trained_unquantized_one_example_at_a_time(job: Job, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, FalconConfig, FalconForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(job.base)
    job.base = tmp_path / "falcon"
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    FalconForCausalLM(FalconConfig(vocab_size=512, eos_token_id=2, bos_token_id=1, **shape)).save_pretrained(job.base)
    tokenizer.save_pretrained(job.base)
    done = job.run(max_steps=3, warmup_ratio=0)
    assert done.code == 0, done.stderr
    start = job.events()[0]
    assert start["one_example_at_a_time"] is True
    assert (start["quantized_layers"], start["whole_layers"]) == (0, 9)  # its layers are a subclass of Linear
    assert job.events()[-1]["event"] == "done"


def mixture_of_experts(like: Path, folder: Path) -> Path:
    """A tiny Qwen3-MoE in a folder, with the tokenizer of another model."""
    from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "vocab_size": 512}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = Qwen3MoeConfig(**sizes, **heads, num_experts=4, num_experts_per_tok=2, eos_token_id=2, bos_token_id=1)
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(like).save_pretrained(folder)
    return folder


ON_EXPERTS: dict[str, object] = {
    "lora_targets": "q_proj,experts.gate_up_proj,experts.down_proj", "lora_dropout": 0, "learning_rate": 0.01,
    "warmup_ratio": 0, "evaluate": "rougeL", "max_new_tokens": 8, "gradient_checkpointing": "true",
}  # fmt: skip


def test_a_mixture_of_experts_trains_from_codes_in_one_process_and_two(job: Job, tmp_path: Path) -> None:
    """Adapters on its stacked experts, int8; it writes summaries meanwhile, and its merge equals its adapter.

    Losses and summaries of two processes, which share the base, are those of one.
    """
    job.base = mixture_of_experts(job.base, tmp_path / "qwen")
    flags = ON_EXPERTS | {"max_steps": 3, "gradient_accumulation_steps": 2, "evaluate_dialogues": 2}
    alone = Job(tmp_path / "alone", job.dataset, job.base, job.trainings)
    done = alone.run(**flags)
    assert done.code == 0, done.stderr
    start, *_, end = alone.events()
    assert (start["quantized_layers"], start["whole_layers"]) == (12, 1)
    assert end["score"] is not None
    merged = from_json(ArtifactRecord, (alone.root / "model" / "lorasum.json").read_bytes()).merge_check
    assert merged.from_adapter < 1e-4 < merged.from_base
    two_share(job, flags)
    for one, two in zip(alone.events(), job.events(), strict=True):
        for figure in ("loss", "eval_loss", "score", "tokens"):
            assert two.get(figure) == (one.get(figure) and pytest.approx(one[figure], rel=2e-5)), (one, two)
    assert job.events()[0]["shared_bytes"] == base_bytes(job.base, "int8", torch.float32).codes
    assert from_json(ArtifactRecord, (job.root / "model" / "lorasum.json").read_bytes()).merge_check is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU works")
def test_a_broken_gpu_ends_the_job_before_the_model_is_read(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXPECT_GPU, "1")
    job.base = tmp_path / "there is no model here"
    assert job.run().code == 1
    failure = read_failure((job.root / "output" / "failure").read_text())
    assert failure.message.startswith("the instance has a GPU, and PyTorch")
    assert "another instance" in failure.hint
    assert not (job.root / "checkpoints").exists()


SMALL_DISK = """
import shutil, sys
from collections import namedtuple
import train

shutil.disk_usage = lambda path: namedtuple("usage", "free")(100_000)
sys.exit(train.main())
"""


def test_a_disk_without_room_for_the_merge_is_told_before_the_steps(job: Job, tmp_path: Path) -> None:
    (job.root / "model").mkdir(parents=True)
    (tmp_path / "small_disk.py").write_text(SMALL_DISK)
    script = str(tmp_path / "small_disk.py")
    done = job.trainings.start(job.flags(max_steps=2), job.environment, {}, script).wait()
    failure = read_failure((job.root / "output" / "failure").read_text())
    assert failure.message == f"the merged model takes 0.00 GB, and {job.root / 'model'} has room for 0.00 GB"
    assert (done.code, [event["event"] for event in job.events()]) == (1, ["start"])
    job.variables[ADAPTER_ONLY] = "1"
    assert job.trainings.start(job.flags(max_steps=2), job.environment, {}, script).wait().code == 0


def test_the_file_that_a_full_disk_has_no_room_for_is_named(tmp_path: Path) -> None:
    """Not the one that was copied."""
    write_failure(tmp_path, OSError(errno.ENOSPC, "No space left on device", "base", None, "merged.part"))
    assert read_failure((tmp_path / "failure").read_text()).message == "no space left on the disk: merged.part"


def test_a_full_disk_is_named_and_leaves_no_artifact(job: Job) -> None:
    """A limit on the size of files stands for the full disk; the merged model is the first file to pass it."""
    (job.root / "model").mkdir(parents=True)
    flags = job.flags(max_steps=2, warmup_ratio=0)
    done = job.trainings.start(flags, job.environment, {"limit": 100 * 1024}).wait()
    assert done.code == 1, done.stdout
    assert re.search("File too large|no space left", (job.root / "output" / "failure").read_text())
    assert not list((job.root / "model").glob("*.part"))
    assert not (job.root / "model" / "lorasum.json").exists()
    assert (job.root / "model" / "adapter" / "adapter_model.safetensors").exists()
    assert job.run(max_steps=2, warmup_ratio=0).code == 0
