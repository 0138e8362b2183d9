"""What travels between the client and its containers: the exact text, and that each name is spelt once."""

import ast
import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sources import ROOT, both_sides

from lorasum.data.records import Example, Manifest, SplitStats
from lorasum.data.settings import Settings
from lorasum.ledger.resources import Dataset, Endpoint, Origin, TrainingJob, Unreadable
from lorasum.shared import names
from lorasum.shared.events import (
    _EVENTS,
    BaseEvent,
    DoneEvent,
    EvalEvent,
    Event,
    LogEvent,
    MergedEvent,
    ProgressEvent,
    SavedEvent,
    StartEvent,
    StatusEvent,
    StepEvent,
    UnknownEvent,
    WarningEvent,
    event_line,
    read_event,
)
from lorasum.shared.failure import Failure, failure_text, read_failure
from lorasum.shared.names import COLUMNS, MANIFEST_FILE, folders_of
from lorasum.shared.records import (
    ArtifactRecord,
    BaseSummaries,
    DatasetFacts,
    FileFacts,
    MergeCheck,
    SplitFacts,
    from_json,
    record_text,
)
from shared import names as container_side

START = StartEvent(
    device="NVIDIA A10G", compute_dtype="bfloat16", dtype_reason="it has bf16 tensor cores", quantization="int8",
    parameters=7_069_016_064, trainable_parameters=7_864_320, lora_targets=("query_key_value",), packs=1_500,
    tokens=2_900_000, tokens_per_step=1_933, steps=4_500, epochs=3.0, loss_on="completion", packs_at_once=1, layers=30,
    recomputed_layers=12, memory_bytes=19_000_000_000, memory_parts={"weights": 9_000_000_000, "head": 1_000_000_000},
    memory_free_bytes=23_000_000_000, resumed_from_step=40, quantized_layers=120, whole_layers=1,
    one_example_at_a_time=False, not_the_fastest_because="",
)  # fmt: skip
DONE = DoneEvent(
    train_loss=1.5,
    eval_loss=1.25,
    tokens=900,
    tokens_per_second=90.5,
    seconds=10.0,
    kept_step=3,
    kept_because="highest rougeL of 4 evaluations",
    score=31.5,
    scored_by="rougeL",
    generation_seconds=2.5,
    peak_memory_bytes=7_000,
)
LINES: list[tuple[Event, str]] = [
    (
        START,
        '{"event": "start", "device": "NVIDIA A10G", "compute_dtype": "bfloat16", "dtype_reason": "it has bf16 tensor'
        ' cores", "quantization": "int8", "parameters": 7069016064, "trainable_parameters": 7864320, "lora_targets": '
        '["query_key_value"], "packs": 1500, "tokens": 2900000, "tokens_per_step": 1933, "steps": 4500, "epochs": 3.0, '
        '"loss_on": "completion", "packs_at_once": 1, "layers": 30, "recomputed_layers": 12, "memory_bytes": '
        '19000000000, "memory_parts": {"weights": 9000000000, "head": 1000000000}, "memory_free_bytes": 23000000000, '
        '"resumed_from_step": 40, "quantized_layers": 120, "whole_layers": 1, "one_example_at_a_time": false, '
        '"not_the_fastest_because": "", "processes": 1, "shared_bytes": 0, "remade_modules": 0}',
    ),
    (
        StepEvent(3, 9, 0.333333, 2.5, 0.0002, 812.5, 60.0),
        '{"event": "step", "step": 3, "steps": 9, "epoch": 0.333333, "loss": 2.5, "learning_rate": 0.0002, '
        '"tokens_per_second": 812.5, "eta_seconds": 60.0}',
    ),
    (
        EvalEvent(9, 2.25, 31.5, "rougeL", 12.0),
        '{"event": "eval", "step": 9, "eval_loss": 2.25, "score": 31.5, "scored_by": "rougeL", '
        '"generation_seconds": 12.0}',
    ),
    (SavedEvent("adapter"), '{"event": "saved", "path": "adapter"}'),
    (MergedEvent(2, 14_000, 1.5), '{"event": "merged", "shards": 2, "bytes": 14000, "seconds": 1.5}'),
    (
        BaseEvent(40, 819, 600.0, "the 600 s were over"),
        '{"event": "base", "summaries": 40, "dialogues": 819, "seconds": 600.0, "why_not_all": "the 600 s were over"}',
    ),
    (
        DONE,
        '{"event": "done", "train_loss": 1.5, "eval_loss": 1.25, "tokens": 900, "tokens_per_second": 90.5, '
        '"seconds": 10.0, "kept_step": 3, "kept_because": "highest rougeL of 4 evaluations", "score": 31.5, '
        '"scored_by": "rougeL", "generation_seconds": 2.5, "peak_memory_bytes": 7000, "evaluation_seconds": 0.0, '
        '"evaluations": 0, "not_merged": ""}',
    ),
    (
        ProgressEvent("test loss", 3, 40),
        '{"event": "progress", "what": "test loss", "done": 3, "total": 40, "detail": ""}',
    ),
    (
        StatusEvent("Downloading", 60.0, None),
        '{"event": "status", "status": "Downloading", "billable_seconds": 60.0, "usd": null}',
    ),
    (WarningEvent("wandb is left out"), '{"event": "warning", "text": "wandb is left out"}'),
    (LogEvent("Collecting torch"), '{"event": "log", "line": "Collecting torch"}'),
    (UnknownEvent("cooled", {"degrees": 3}), '{"event": "cooled", "degrees": 3}'),
]


@pytest.mark.parametrize(("event", "line"), LINES, ids=lambda value: type(value).__name__)
def test_each_event_travels_as_this_line(event: Event, line: str) -> None:
    assert event_line(event) == line
    assert read_event(line) == event
    assert read_event(f"{line}\n".encode()) == event


def test_the_golden_lines_hold_every_event() -> None:
    assert {type(event) for event, _ in LINES} == set(Event.__args__)


def test_a_line_that_is_no_event_is_none() -> None:
    for line in ("Downloading: 10%", '{"event": "st', '{"other": 1}', '{"event": 1}', "[1]", "", b"\xff\xfe", "{}"):
        assert read_event(line) is None


def test_unknown_keys_pass_and_missing_or_wrong_values_are_empty() -> None:
    assert read_event('{"event": "eval", "step": 4, "accuracy": 0.5}') == EvalEvent(4, None)
    start = read_event('{"event": "start", "steps": "many", "lora_targets": [1], "memory_parts": null}')
    assert isinstance(start, StartEvent)
    assert (start.device, start.steps, start.epochs, start.lora_targets, start.memory_parts) == ("", 0, 0.0, (), {})


@pytest.mark.parametrize(
    "event",
    [
        dataclasses.replace(START, steps=1.5),  # type: ignore[arg-type]
        dataclasses.replace(START, device=None),  # type: ignore[arg-type]
        dataclasses.replace(START, lora_targets="q_proj"),  # type: ignore[arg-type]
        EvalEvent(True, 1.0),
        EvalEvent(1, "1.0"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_another_type_is_not_written(event: Event) -> None:
    with pytest.raises(TypeError, match="Event"):
        event_line(event)


def test_a_nan_loss_is_null_and_floats_have_six_digits() -> None:
    assert json.loads(event_line(EvalEvent(1, float("nan"))))["eval_loss"] is None
    assert json.loads(event_line(EvalEvent(1, 1 / 3)))["eval_loss"] == 0.333333


RECORD = ArtifactRecord(
    format=1, run="chats", base_model="org/model", base_revision=None, template="{dialogue}\nTL;DR:", eos_token_id=2,
    control_tokens=("</s>",), dataset_fingerprint="0123456789ab", training=DONE,
    generation={"max_new_tokens": 128, "temperature": 0.0}, versions={"torch": "2.9.0"},
    merge_check=MergeCheck(2, 0.001, 0.25), parameters=70_000, files={"config.json": FileFacts(7, "ab12")},
)  # fmt: skip
RECORD_JSON = {
    "format": 1, "run": "chats", "base_model": "org/model", "base_revision": None, "template": "{dialogue}\nTL;DR:",
    "eos_token_id": 2, "control_tokens": ["</s>"], "dataset_fingerprint": "0123456789ab",
    "generation": {"max_new_tokens": 128, "temperature": 0.0},
    "training": {"train_loss": 1.5, "eval_loss": 1.25, "tokens": 900, "tokens_per_second": 90.5,
        "seconds": 10.0, "kept_step": 3, "kept_because": "highest rougeL of 4 evaluations", "score": 31.5,
        "scored_by": "rougeL", "generation_seconds": 2.5,
        "peak_memory_bytes": 7000, "evaluation_seconds": 0.0, "evaluations": 0, "not_merged": ""},
    "versions": {"torch": "2.9.0"},
    "merge_check": {"prompts": 2, "from_adapter": 0.001, "from_base": 0.25},
    "parameters": 70_000,
    "files": {"config.json": {"bytes": 7, "sha256": "ab12"}},
}  # fmt: skip


def test_the_artifacts_record_travels_as_this_object() -> None:
    assert list(json.loads(record_text(RECORD)).items()) == list(RECORD_JSON.items())
    assert from_json(ArtifactRecord, record_text(RECORD)) == RECORD


def test_an_empty_record_says_nothing() -> None:
    assert from_json(ArtifactRecord, "{}") == ArtifactRecord(
        0, "", "", None, None, None, (), "", {}, DoneEvent(None, None, 0, 0, 0, 0), {}
    )


@pytest.mark.parametrize("entry", [{}, {"bytes": "7", "sha256": 1}])
def test_a_damaged_list_of_files_matches_no_file(entry: dict[str, object]) -> None:
    assert from_json(ArtifactRecord, json.dumps({"files": {"config.json": entry}})).files == {
        "config.json": FileFacts(0, "")
    }


def test_the_script_reads_the_manifest_that_the_client_writes(tmp_path: Path) -> None:
    from lorasum.data.store import write_manifest

    values: dict[str, Any] = dict.fromkeys((field.name for field in dataclasses.fields(Manifest)), "")
    values |= {"fingerprint": "f", "template": "{dialogue}", "eos_token_id": 2, "control_tokens": ("</s>",)}
    splits = {"train": SplitStats(9, 3, 700, 90, 88, 0.9), "test": SplitStats(1, 1, 50, 9, 50, 0.2)}
    write_manifest(tmp_path, Manifest(**values | {"splits": splits}))
    facts = from_json(DatasetFacts, (tmp_path / MANIFEST_FILE).read_bytes())
    assert facts == DatasetFacts("f", "{dialogue}", 2, ("</s>",), {"train": SplitFacts(700), "test": SplitFacts(50)})


@pytest.mark.parametrize("failure", [Failure("there is no layer w", "one of: q, k"), Failure("the disk is full")])
@pytest.mark.parametrize("around", ["{}", "AlgorithmError: {}", "AlgorithmError: {}, exit code: 1", "{}, exit code: 9"])
def test_the_platforms_words_around_a_failure_are_taken_off(failure: Failure, around: str) -> None:
    assert read_failure(around.format(failure_text(failure))) == failure


def test_a_long_failure_keeps_its_hint_and_fits_with_the_platforms_words() -> None:
    text = failure_text(Failure("word " * 400, "train again"))
    assert len(f"AlgorithmError: {text}, exit code: 137") <= 1024
    assert read_failure(text).hint == "train again"
    assert len(failure_text(Failure("short", "hint " * 400))) > 900


def test_client_and_container_import_the_same_files() -> None:
    assert Path(names.__file__).resolve() == Path(container_side.__file__).resolve()
    assert Path(names.__file__).resolve().parent == ROOT / "container_scripts" / "shared"


RECORDS = (*_EVENTS.values(), ArtifactRecord, BaseSummaries, DatasetFacts, FileFacts, MergeCheck, SplitFacts)


def _fields(records: Iterable[Any]) -> set[str]:
    return {field.name for record in records for field in dataclasses.fields(record)}


def _spelt_once() -> set[str]:
    """Keys, columns, files and variables that only the contract may spell. One word is checked where it is a key."""
    keys = _fields(RECORDS)
    constants = {value for value in vars(names).values() if isinstance(value, str)}
    files = {value for value in constants if value.endswith((".json", ".jsonl"))}
    variables = {value for value in constants if value.startswith(("LORASUM_", "SM_"))}
    return {name for name in keys if "_" in name} | set(COLUMNS) | files | variables


# Words of other owners that happen to be the same: transformers' batches and metrics, our own configuration and ledger.
_OTHERS = {
    "input_ids": {
        "inference.py",
        "engine/batches.py",
        "engine/trainer.py",
        "engine/routes.py",
        "generation/generator.py",
        "data/tokenize_pack.py",
    },
    "eval_loss": {"engine/trainer.py"},
    "eos_token_id": set(),
    "compute_dtype": {"engine/arguments.py"},
    "loss_on": {"engine/arguments.py"},
    "manifest.json": {"engine/checkpoint.py"},  # a checkpoint's own, not the dataset's
    "learning_rate": {"engine/trainer.py", "config/foreign.py"},
    "base_model": {"card.py", "config/foreign.py"},  # a key of the hub's model cards, and of axolotl
}


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String constants of a module but its docstrings and annotations."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


_CONTRACT = {f"shared/{name}.py" for name in ("names", "events", "records", "requests", "failure", "json_records")}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module of both sides but the contract, with its path below its side's folder."""
    for place, tree in both_sides():
        if place not in _CONTRACT:
            yield place.removeprefix("lorasum/"), tree


def test_no_key_column_file_or_variable_is_spelt_outside_the_contract() -> None:
    spelt_once = _spelt_once()
    spelt = [
        f"{module}:{line}: {value!r}"
        for module, tree in _modules()
        for line, value in _strings(tree)
        if value in spelt_once and module not in _OTHERS.get(value, ())
    ]
    assert not spelt, "import these from the contract:\n" + "\n".join(spelt)


# Modules whose mappings have the keys of somebody else's format, or keys that no record has. Elsewhere a record is read
# and written as a record: a key that is written as a string would not follow when its field gets another name.
_OTHER_KEYS = {
    "answer.py": "rows of prompts and answers",
    "backends/sagemaker/": "AWS's requests and answers",
    "card.py": "metadata of the hub's model cards",
    "backends/local/openai.py": "requests and answers of OpenAI's protocol",
    "backends/local/guard.py": "HTTP headers and ASGI messages",
    "backends/local/invoke.py": "requests of OpenAI's protocol",
    "backends/completions.py": "requests and answers of OpenAI's protocol",
    "cli/arguments.py": "verbs",
    "commands/env.py": "names that people read",
    "config/": "keys of the YAML file",
    "data/chats/": "JSON of chat apps",
    "data/files/": "dataset_dict.json of the datasets library",
    "data/records.py": "its own record as a row",
    "data/rows.py": "columns of other people's datasets",
    "data/settings.py": "its own record, one field of which is not hashed",
    "data/store.py": "the versioned manifest",
    "models/gguf_export.py": "config.json and tokenizer.json of transformers",
    "models/hub.py": "kinds of repositories",
    "ledger/ledger.py": "columns of the ledger's table",
    "ledger/database.py": "columns of the ledger's table",
    "lifecycle/answers.py": "rows of answers",
    "lifecycle/row_files.py": "rows of the user's files",
    "lifecycle/planning.py": "flags of the training script",
    "lifecycle/trials.py": "keys of the YAML file",
    "lifecycle/summarizer.py": "the request that serving containers take",
    "models/source.py": "tokenizer_config.json of transformers",
    "pages/": "names that people read",
    "ledger/stored_rows.py": "its own records, by column",
    "scoring/judge.py": "requests and answers of OpenAI's protocol",
    "ui/": "names that people read",
    "engine/arguments.py": "flags of the training script",
    "engine/checkpoint.py": "the checkpoint's own manifest",
    "engine/shards.py": "the header of safetensors files",
    "engine/train_state.py": "states of torch's optimizers",
    "generation/request.py": "the request that serving containers take",
}


def _keys(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Strings that are keys: in a dict display, between brackets, in .get() or .pop(), or in front of `in`."""
    for node in ast.walk(tree):
        places: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            places = node.keys
        elif isinstance(node, ast.Subscript):
            places = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            places = [*node.args[:1]]
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            places = [node.left]
        yield from ((one.lineno, one.value) for one in places if isinstance(one, ast.Constant) and one.value in NAMES)


NAMES = _fields((*RECORDS, Dataset, TrainingJob, Endpoint, Unreadable, Origin, Manifest, SplitStats, Settings, Example))


def test_no_field_of_a_record_is_spelt_as_a_key() -> None:
    spelt = {module: [*_keys(tree)] for module, tree in _modules()}
    others = {module for module in spelt if module.startswith(tuple(_OTHER_KEYS))}
    assert {module: keys for module, keys in spelt.items() if keys and module not in others} == {}
    unused = [prefix for prefix in _OTHER_KEYS if not any(spelt[one] for one in others if one.startswith(prefix))]
    assert unused == [], "these have no such key any more"


def test_a_model_channel_is_passed_on_only_if_there_is_one(tmp_path: Path) -> None:
    assert folders_of(Path("/opt/ml")) == {
        "SM_CHANNEL_TRAINING": "/opt/ml/input/data/training",
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_OUTPUT_DIR": "/opt/ml/output",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
    }
    (tmp_path / "input" / "data" / "model").mkdir(parents=True)
    assert folders_of(tmp_path)["SM_CHANNEL_MODEL"] == f"{tmp_path}/input/data/model"
