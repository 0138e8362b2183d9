"""Configs: what is wrong with one is said all at once, each with its line; what is right is read as it was meant."""

from pathlib import Path

import numpy
import pytest
import yaml

from lorasum.config.loader import config_of, is_piped, load_config
from lorasum.config.schema import Config
from lorasum.config.suggest import SYNONYMS, _keys
from lorasum.errors import ConfigError

GOOD = """\
name: chats
model: {id: org/model}
data: {dataset: org/data}
"""


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path / "x.yaml")


class Writer:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: str) -> Path:
        self.path.write_text(text, encoding="utf-8")
        return self.path


def problems(path: Path, *overrides: str) -> list[str]:
    """The problems of a bad config, with the folder of the file cut off."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    error = caught.value
    assert error.hint
    assert "\n" not in error.message
    lines = list(error.problems or (error.message,))
    assert error.message == (lines[0] if len(lines) == 1 else f"{len(lines)} problems with the config")
    return [line.replace(f"{path.parent}/", "") for line in lines]


def test_a_small_config_is_filled_with_the_defaults(write: Writer) -> None:
    config = load_config(write(GOOD))
    assert (config.name, config.model.id, config.lora.r, config.quantization) == ("chats", "org/model", 8, "int8")


def test_a_mapping_is_read_as_strictly_as_a_file() -> None:
    template = "{dialogue} \U0001f600\u2028\nyes\t=>"
    data = {"train": Path("a.jsonl"), "chunk_length": numpy.int64(64), "template": template}
    good = {"name": "chats", "model": {"id": "org/model"}, "data": data}
    config = config_of(good, ["data.test=b.jsonl"])
    assert (config.data.max_length, config.data.own_template) == (64, template)
    assert (config.data.train, config.data.test) == tuple(str(Path(name).resolve()) for name in ("a.jsonl", "b.jsonl"))
    with pytest.raises(ConfigError) as caught:
        config_of(good | {"lora": {"r": True}, "trainin": {}})
    assert [line[:20] for line in caught.value.problems if "lora" in line] == ["the config: lora.r: "]
    assert all(line.startswith("the config: ") for line in caught.value.problems)
    with pytest.raises(ConfigError, match="the config"):
        config_of({("a", "b"): 1})  # type: ignore[dict-item]


def test_every_problem_is_said_at_once_each_with_its_line(write: Writer) -> None:
    text = """\
name: My Chats
backend: aws
model:
  id: org/model
data:
  dataset: org/data
  train: x.jsonl
lora:
  r: -1
  alpha: true
training:
  epoch: 1
  learning_rate: .inf
epochs: 3
"""
    assert problems(write(text), "predict.max_new_tokens=many") == [
        'x.yaml:1: name: must be lower-case letters and digits, with single hyphens between them (got "My Chats")',
        "x.yaml:2: backend: must be 'local' or 'sagemaker' (got \"aws\")",
        "x.yaml:5: data: give either dataset (hub) or train and test (files), not both",
        "x.yaml:9: lora.r: must be greater than 0 (got -1)",
        "x.yaml:10: lora.alpha: must be a whole number (got true)",
        "x.yaml:12: training.epoch: unknown key, did you mean training.epochs?",
        "x.yaml:13: training.learning_rate: must be a finite number (got Infinity)",
        "x.yaml:14: epochs: unknown key, did you mean training.epochs?",
        '--set predict.max_new_tokens=many: predict.max_new_tokens: must be a whole number (got "many")',
    ]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("training.batch_size", "did you mean training.per_device_batch_size?"),
        ("lora.rank_r", "valid here: r, alpha, dropout, targets"),
        ("training.lr", "did you mean training.learning_rate?"),
        ("lora.rank", "did you mean lora.r?"),
        ("sagemaker.instance", "did you mean sagemaker.training_instance_type?"),
        ("training.num_train_epochs", "did you mean training.epochs?"),
        ("max_seq_length", "did you mean data.max_length?"),
        ("predict.max_length", "did you mean predict.max_new_tokens?"),
        ("data.chunk_size", "valid here: dataset, revision"),
        ("temperature", "did you mean predict.temperature?"),
        ("seed", "did you mean training.seed?"),
        ("evaluat", "did you mean evaluate?"),
        ("eval_steps", "did you mean training.evaluate_every?"),
        ("lora.use_rslora", "did you mean lora.rslora?"),
        ("train_on_prompt", "did you mean training.loss_on?"),
        ("data.seed", "did you mean data.test_seed?"),
        ("modle.id", "did you mean model?"),
        ("data.columns.sumary", "did you mean data.columns.summary?"),
    ],
)
def test_an_unknown_key_gets_the_nearest_valid_one(write: Writer, key: str, meant: str) -> None:
    [problem] = problems(write(GOOD), f"{key}=1")
    assert problem.startswith(f"--set {key}=1: {key.split('.')[0]}")
    assert f"unknown key, {meant}" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: chats\nmodel: id: x\n", "x.yaml:2: mapping values are not allowed here"),
        ("name: chats\n\tlora: 1\n", "x.yaml:2: while scanning for the next token, found character '\\t'"),
        ("name: 'chats\nmodel: 1\n", "x.yaml:3: while scanning a quoted scalar from line 1, found unexpected end"),
        (GOOD + "---\n" + GOOD, "x.yaml:4: expected a single document in the stream"),
        (GOOD.replace("chats", "!env NAME"), "x.yaml:1: name: cannot be read with the tag !env, write the plain value"),
        ("name: &a [*a]\n", "x.yaml: nested more than 32 levels deep, or an alias holds itself"),
        ("a: \0\n", "x.yaml: unacceptable character #x0000"),
        ("", "x.yaml: not a mapping of keys to values"),
        ("- a\n", "x.yaml: not a mapping of keys to values"),
        (GOOD + "name: again\n", "x.yaml:4: name: duplicate key, already at x.yaml:1"),
        (GOOD + "lora:\n  r: 1\n  r: 2\n", "x.yaml:6: lora.r: duplicate key, already at x.yaml:5"),
        (GOOD + "lora: 3\n", "x.yaml:4: lora: must be a section of keys and values (got 3)"),
        (GOOD + "lora:\n  targets: [q, 3]\n", "x.yaml:5: lora.targets.1: must be a valid string (got 3)"),
        (GOOD + "lora:\n  targets: 3\n", "x.yaml:5: lora.targets: must be 'auto' or 'all-linear' or a list (got 3)"),
        (GOOD.replace("{id:", "{revision: 123, id:"), "x.yaml:2: model.revision: must be a valid string (got 123)"),
        (GOOD.replace("model: {id: org/model}\n", ""), "x.yaml: model: is missing"),
        (GOOD.replace("id: org/model", "revision: a"), "x.yaml:2: model.id: is missing"),
        (GOOD + "yes: 1\n", "x.yaml"),
        (
            GOOD + "backend: sagemaker\nsagemaker: {engine: vllm}\ndeploy: {serve: adapter}\n",
            "x.yaml: sagemaker.engine vllm serves merged models: set it to huggingface, or deploy.serve to merged",
        ),
    ],
)
def test_one_mistake_is_one_line_with_its_place(write: Writer, text: str, expected: str) -> None:
    [problem] = problems(write(text))
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "--set training.epochs: write it as key=value"),
        ("=1", "--set =1: write it as key=value"),
        ("name.first=1", "--set name.first=1: name is a value, not a section"),
        ("lora.r=[1", "--set lora.r=[1: while parsing a flow sequence"),
        ("lora=3", "--set lora=3: lora: must be a section"),
    ],
)
def test_a_wrong_override_is_reported_with_its_text(write: Writer, override: str, expected: str) -> None:
    [problem] = problems(write(GOOD), override)
    assert problem.startswith(expected)


def test_overrides_win_are_yaml_and_reach_absent_sections(write: Writer) -> None:
    path = write(GOOD + "training: {epochs: 3, seed: 1}\n")
    config = load_config(
        path,
        [
            "training.epochs=1",
            "training.learning_rate=2e-4",
            "lora.targets=[q_proj, v_proj]",
            'data.template="{dialogue}\\n=>"',
            "model.revision=abc",
            "model.revision=",
        ],
    )
    assert (config.training.epochs, config.training.seed, config.training.learning_rate) == (1, 1, 2e-4)
    assert config.lora.targets == ["q_proj", "v_proj"]
    assert config.data.template == "{dialogue}\n=>"
    assert config.model.revision is None


def test_a_section_with_all_keys_commented_out_is_the_defaults(write: Writer) -> None:
    config = load_config(write(GOOD + "lora:\n  # r: 4\ntraining:\n  engine:\n"))
    assert config.lora == Config.model_fields["lora"].default
    assert config.training == Config.model_fields["training"].default


def test_a_key_under_another_name_is_accepted_and_its_own_is_said(write: Writer) -> None:
    path = write(GOOD.replace("dataset: org/data", "dataset: org/data, chunk_length: 512"))
    warnings: list[str] = []
    assert load_config(path, warn=warnings.append).data.max_length == 512
    assert warnings == [f"{path}:3: data.chunk_length is another name of data.max_length"]


@pytest.mark.parametrize("in_file", ["chunk_length", "max_length"])
@pytest.mark.parametrize("override", ["data.chunk_length=64", "data.max_length=64"])
def test_an_override_wins_under_either_name_of_a_key(write: Writer, in_file: str, override: str) -> None:
    path = write(GOOD.replace("dataset: org/data", f"dataset: org/data, {in_file}: 512"))
    assert load_config(path, [override]).data.max_length == 64


def test_a_key_under_both_its_names_is_a_problem(write: Writer) -> None:
    path = write(GOOD.replace("dataset: org/data", "dataset: org/data, chunk_length: 512, max_length: 64"))
    assert problems(path) == ["x.yaml:3: data.chunk_length is another name of data.max_length, give one of them"]


def test_a_wrong_value_under_another_name_is_reported_with_its_place(write: Writer) -> None:
    assert problems(write(GOOD), "data.chunk_length=0") == [
        "--set data.chunk_length=0: data.max_length: must be greater than 0 (got 0)"
    ]


def test_nothing_in_a_value_is_expanded(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    template = "$SECRET ${SECRET} %(SECRET)s {dialogue}"
    assert load_config(write(GOOD), [f"data.template={template!r}"]).data.template == template


def test_paths_are_relative_to_the_file_or_override_that_names_them(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write("name: chats\nmodel: {id: ./model}\ndata: {train: data/a.jsonl, test: ../b.jsonl}\n")
    config = load_config(path)
    assert config.model.id == str(tmp_path / "model")
    assert (config.data.train, config.data.test) == (str(tmp_path / "data/a.jsonl"), str(tmp_path.parent / "b.jsonl"))
    config = load_config(path, ["data.train=a.jsonl", "model.id=~/model"])
    assert config.data.train == str(here / "a.jsonl")
    assert config.data.test == str(tmp_path.parent / "b.jsonl")
    assert config.model.id == str(tmp_path / "home/model")
    config = load_config(path, ["data.train=[c/, s3://box/d/*.jsonl]"])
    assert config.data.train == [str(here / "c"), "s3://box/d/*.jsonl"]


@pytest.mark.parametrize(
    ("path", "piped"),
    [("-", True), ("/dev/stdin", True), ("/dev/fd/63", True), ("/proc/1/fd/63", True),
     ("/dev/shm/ci/run.yaml", False), ("run.yaml", False)],
)  # fmt: skip
def test_a_file_in_memory_is_no_pipe(path: str, piped: bool) -> None:
    assert is_piped(Path(path)) == piped


@pytest.mark.parametrize("model", ["org/model", "pkg://package/file.gguf", "/abs/model"])
def test_a_model_that_is_no_relative_path_stays_as_it_is(write: Writer, model: str) -> None:
    assert load_config(write(GOOD), [f"model.id={model}"]).model.id == model


@pytest.mark.parametrize(("typed", "hint"), [("rum.yaml", "did you mean {}?"), ("x", "check the path of the config")])
def test_a_mistyped_file_is_answered_with_the_one_beside_it(tmp_path: Path, typed: str, hint: str) -> None:
    (tmp_path / "run.yaml").write_text(GOOD)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / typed)
    assert error.value.hint == hint.format(tmp_path / "run.yaml")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == ["none.yaml: cannot read it: No such file or directory"]
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: café\n".encode("latin-1"))
    assert problems(latin) == ["latin.yaml: not UTF-8 text, at byte 9"]


def test_a_config_written_out_loads_as_the_same_config(write: Writer) -> None:
    config = load_config(write(GOOD), ["training.learning_rate=1e-5", "data.template='\n{dialogue} é: '"])
    assert load_config(write(yaml.safe_dump(config.model_dump(mode="json")))) == config


def test_every_word_of_another_tool_leads_to_a_key_that_exists() -> None:
    keys = set(_keys(Config))
    assert set(SYNONYMS.values()) <= keys
    assert not [word for word in SYNONYMS if word in keys]
