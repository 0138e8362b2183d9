"""Names that are hashes of content. A changed hash starts a paid job again, so it is changed on purpose only."""

import re
from pathlib import Path

import pytest

from lorasum.backends.local import handler, openai
from lorasum.backends.sagemaker.endpoint_requests import Served, part_name
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.backends.sagemaker.storage import StoredFile
from lorasum.backends.sagemaker.storage import fingerprint as folder_fingerprint
from lorasum.config.data import DataConfig
from lorasum.config.loader import load_config
from lorasum.data.settings import Settings
from lorasum.lifecycle.planning import _spec, merge_name
from lorasum.models.source import ModelRef

CONFIGS = Path(__file__).parents[1] / "configs"
_SOURCES = {"train": "jsonl 00", "test": "jsonl 11"}


@pytest.mark.parametrize(
    ("config", "job"),
    [("quickstart", "quickstart-1da219ac"), ("qwen", "qwen-samsum-0e41b8a6"), ("bloomz", "bloomz-samsum-ff408365")],
)
def test_a_config_keeps_its_job_name(config: str, job: str) -> None:
    loaded = load_config(CONFIGS / f"{config}.yaml")
    spec = _spec(loaded, ModelRef("owner/model", "0a1b2c"), Path("dataset"), "0123456789ab")
    assert spec.job_name == job


def test_the_number_of_processes_is_in_no_name() -> None:
    """A job goes on with another number of them."""
    for overrides in (["local.processes=4"], ["backend=sagemaker", "sagemaker.instance_count=2"]):
        loaded = load_config(CONFIGS / "quickstart.yaml", overrides)
        spec = _spec(loaded, ModelRef("owner/model", "0a1b2c"), Path("dataset"), "0123456789ab")
        assert (spec.job_name, spec.processes > 1) == ("quickstart-1da219ac", True)


def test_how_a_model_is_served_is_in_no_name() -> None:
    """A job that has left its merge out is found by a config that asks for one."""
    loaded = load_config(CONFIGS / "quickstart.yaml", ["deploy.serve=adapter"])
    spec = _spec(loaded, ModelRef("owner/model", "0a1b2c"), Path("dataset"), "0123456789ab")
    assert (spec.job_name, spec.adapter_only) == ("quickstart-1da219ac", True)
    assert merge_name(spec.job_name) == "quickstart-30042698"


def test_where_the_base_model_is_held_is_in_no_name() -> None:
    """A job goes on on another machine, which holds it elsewhere."""
    loaded = load_config(CONFIGS / "quickstart.yaml", ["training.engine.base=shared"])
    spec = _spec(loaded, ModelRef("owner/model", "0a1b2c"), Path("dataset"), "0123456789ab")
    assert (spec.job_name, spec.hyperparameters["engine_base"]) == ("quickstart-1da219ac", "shared")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "975dcdc33e2c"),
        (
            {"max_length": 512, "template": "Sum up: {dialogue}", "too_long": "drop", "max_bad_rows": 3},
            "94c792480127",
        ),
        ({"columns": {"dialogue": "chat", "summary": "tldr"}, "redact": True, "duplicates": "keep"}, "9cc1f145ac8d"),
        ({"columns": {"summary": ["summary1", "summary2"]}}, "585769ecdfc5"),
        ({"messages": {"format": "{speaker} - {text}", "speakers": {"user": "Ann"}}}, "d56f0d58e475"),
    ],
)
def test_data_settings_keep_their_dataset_fingerprint(settings: dict[str, object], name: str) -> None:
    data = DataConfig.model_validate({"train": "train.jsonl", "test": "test.jsonl", **settings})
    assert Settings.of(_SOURCES, "files 22", data).fingerprint == name


@pytest.mark.parametrize(("overrides", "name"), [([], "chats-f17d2925"), (["sagemaker.engine=vllm"], "chats-05a6e273")])
def test_an_endpoint_keeps_the_name_of_its_parts(overrides: list[str], name: str) -> None:
    config = load_config(CONFIGS / "bloomz.yaml", overrides)
    place = Place(S3Layout("bucket", "lorasum", "chats"), "arn:aws:iam::123456789012:role/Trainer", "image:1")
    served = Served("s3://bucket/lorasum/chats/jobs/chats-1/output/model/", 14_000_000_000)
    assert part_name("chats", served, place, config.sagemaker) == name


def test_a_folder_keeps_its_name_in_s3() -> None:
    files = [StoredFile(Path("a"), "code/a.py", 3, "00" * 32), StoredFile(Path("b"), "b.bin", 5, "11" * 32)]
    assert folder_fingerprint(files) == "aa2a4dd99ac8"


def test_a_local_endpoint_takes_these_names_from_an_artifact() -> None:
    """An artifact keeps the code that it was made with. With another name, none of the earlier ones can be served."""
    code = "".join(Path(str(one.__file__)).read_text(encoding="utf-8") for one in (handler, openai))
    taken = set(re.findall(r"\b(module|model|row|_scheduler)\.(\w+)", code))
    assert {name for of, name in taken if of == "module"} == set(handler.NAMES)
    assert sorted(f"{of}.{name}" for of, name in taken) == [
        "_scheduler.add",
        "_scheduler.is_waited_for",
        "model.named",
        "model.template",
        "model.tokenizer",
        "module.GpuLostError",
        "module.answers_of",
        "module.chat_prompt",
        "module.input_fn",
        "module.model_fn",
        "module.output_fn",
        "module.rows_of",
        "module.run",
        "module.scheduler",
        "row.completion",
        "row.finish",
        "row.is_done",
        "row.prompt",
        "row.told",
    ]
