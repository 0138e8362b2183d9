"""Configs that nobody writes by hand: each is one error with a hint, in no time, and never a traceback."""

import os
import sys
import time
from pathlib import Path

import pytest

from lorasum.config.loader import load_config
from lorasum.config.yaml_reader import LONGEST
from lorasum.errors import ConfigError

GOOD = "name: chats\nmodel: {id: org/model}\ndata: {dataset: org/data}\n"
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
_SECONDS = 8  # of the processor, on a slow machine; the worst of these takes a quarter of one here


def fails(path: Path, *overrides: str) -> list[str]:
    """The problems of a config that must not load. It takes little time to say so."""
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert time.process_time() - began < _SECONDS
    assert caught.value.hint
    lines = [caught.value.message, *caught.value.problems]
    assert all("\n" not in line and len(line) < 1000 for line in lines)
    return [line.replace(f"{path.parent}/", "") for line in caught.value.problems or lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LAUGHS, "x.yaml: more than 10,000 values, aliases followed"),
        (MERGES, "x.yaml: more than 10,000 values, aliases followed"),
        ("a: &a {<<: *a}\n", "x.yaml: nested more than 32 levels deep, or an alias holds itself"),
        ("a: &a {b: *a}\n", "x.yaml: nested more than 32 levels deep, or an alias holds itself"),
        ("a: " + "[" * 100_000, "x.yaml: nested more than 32 levels deep, or an alias holds itself"),
        ("a: " + "{b: " * 50_000, "x.yaml: nested more than 32 levels deep, or an alias holds itself"),
        ("- " * 100_000, "x.yaml: nested more than 32 levels deep, or an alias holds itself"),
        ("a: [" + "1," * 100_000 + "]", "x.yaml: more than 10,000 values, aliases followed"),
        (GOOD + "# " + "x" * LONGEST, f"x.yaml: longer than {LONGEST:,} bytes, so it is not a config"),
        (GOOD + "backend: [local]\n", "x.yaml:4: backend: must be 'local' or 'sagemaker'"),
        (GOOD + "backend: {local: 1}\n", "x.yaml:4: backend: must be 'local' or 'sagemaker'"),
        (GOOD + "lora: {targets: {a: 1}}\n", "x.yaml:4: lora.targets: must be 'auto' or 'all-linear' or a list"),
        (GOOD + "lora: {r: !!int abc}\n", "x.yaml:4: lora.r: cannot be read with the tag !!int, write the plain value"),
        (GOOD + "lora: {r: !!float x}\n", "x.yaml:4: lora.r: cannot be read with the tag !!float"),
        (GOOD + "lora: {r: !!bool maybe}\n", "x.yaml:4: lora.r: cannot be read with the tag !!bool"),
        (GOOD + "lora: {r: !!timestamp 1}\n", "x.yaml:4: lora.r: cannot be read with the tag !!timestamp"),
        (GOOD + "lora: {r: !!binary é}\n", "x.yaml:4: lora.r: cannot be read with the tag !!binary"),
        (GOOD + "lora: !!set {r}\n", "x.yaml:4: lora: cannot be read with the tag !!set"),
        (GOOD + "lora: !!python/object:os.system {r: 1}\n", "x.yaml:4: lora: cannot be read with the tag !!python"),
        (GOOD + f"lora: {{r: {'9' * 5000}}}\n", "x.yaml:4: lora.r: is a number of 5,000 characters; 64 are read"),
        (GOOD + f"lora: {{r: {'9' * 50}}}\n", "x.yaml:4: lora.r: must be less than 2147483648"),
        (GOOD + f"lora: {{r: 0x{'f' * 5000}}}\n", "x.yaml:4: lora.r: is a number of 5,002 characters; 64 are read"),
        (
            GOOD + "sagemaker: {max_runtime_hours: 1:30}\n",
            "x.yaml:4: sagemaker.max_runtime_hours: must be a valid number",
        ),
        (GOOD + 'model: {id: "a\\0b"}\n', "x.yaml:4: model: duplicate key, already at x.yaml:2"),
        (GOOD.replace("org/model", '"a\\0b"'), "x.yaml:2: model.id: holds a control character, U+0000"),
        (GOOD.replace("org/model", '"a\\e[2J"'), "x.yaml:2: model.id: holds a control character, U+001B"),
        (GOOD.replace("org/model", '"\\ud800"'), "x.yaml:2: model.id: holds half a character, U+D800"),
        (GOOD + '"\\e]0;x": 1\n', "x.yaml:4: \x1b]0;x: the key holds a control character, U+001B"),
        (GOOD + "? [a, b]\n: 1\n", "x.yaml:4: has a key that is a list or a section; a key is a word"),
        (GOOD + "? &k {a: 1}\n: *k\n", "x.yaml:4: has a key that is a list or a section; a key is a word"),
        (GOOD + "<<: 3\n", "x.yaml:4: has a << that is not a section"),
        (GOOD.replace("dataset: org/data", 'train: "a\\0", test: b'), "x.yaml:3: data.train: holds a control"),
        ("k" * 200_000 + ": 1\n", "x.yaml:1: mapping values are not allowed here"),
    ],
)
def test_what_no_config_needs_is_one_problem(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    lines = fails(path)
    assert lines[0].startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a." * 500 + "a=1", "write it as key=value"),
        ("lora.r=" + "[" * 50_000, "nested more than 32 levels deep"),
        ("lora.r=&a [*a]", "nested more than 32 levels deep"),
        ("lora.r=" + "9" * 5000, "a number of 5,000 characters"),
        ('name="\\ud800"', "holds half a character"),
        ("na\udcffme=1", "write it as key=value"),
        ("name=a\udcff", "unacceptable character"),
        ("data={max_length: 1, chunk_length: 2}", "data.chunk_length is another name of data.max_length"),
    ],
)
def test_overrides_are_read_as_carefully(tmp_path: Path, override: str, expected: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert expected in fails(path, override)[0]


def test_problems_of_every_kind_are_in_the_order_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    wrong = 'lora: {rank: 1}\n"\\e": 1\ntraining: {epochs: x}\npredict: {timeout: !!int x}\n'
    path.write_text(GOOD + wrong, encoding="utf-8")
    assert [int(line.split(":")[1]) for line in fails(path)] == [4, 5, 6, 7]


def test_a_device_that_never_ends_is_no_config() -> None:
    assert fails(Path("/dev/zero")) == [f"zero: longer than {LONGEST:,} bytes, so it is not a config"]


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="Python 3.13 follows such a link: prepare says that no file is there"
)
def test_a_link_that_leads_to_itself_is_reported(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / "x.yaml"
    path.write_text(GOOD.replace("dataset: org/data", "train: loop/a, test: b"), encoding="utf-8")
    assert fails(path)[0].startswith("x.yaml:3: data.train: cannot be followed")


def test_a_folder_whose_name_python_cannot_decode_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    path = folder / "x.yaml"
    path.write_text(GOOD.replace("dataset: org/data", "train: a, test: b"), encoding="utf-8")
    assert "data.train: cannot be followed (utf-8 has no such name)" in "".join(fails(path))


def test_thousands_of_wrong_keys_are_said_by_the_first(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD + "".join(f"temperatur{n}: 1\n" for n in range(4000)), encoding="utf-8")
    lines = fails(path)
    assert lines[0].startswith("x.yaml:4: temperatur0: unknown key")
    assert lines[-1] == "and 3,950 more"


def test_aliases_and_merges_that_are_no_riddle_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: &n chats\nmodel: {id: org/model}\ndata: {dataset: org/data}\n"
        "lora: &l {r: 4}\ntraining: {engine: {}}\nsagemaker: {bucket: *n}\n",
        encoding="utf-8",
    )
    assert load_config(path).sagemaker.bucket == "chats"
    path.write_text(GOOD + "predict: {<<: {batch_size: 2, timeout: 9}, batch_size: 3}\n", encoding="utf-8")
    config = load_config(path)
    assert (config.predict.batch_size, config.predict.timeout) == (3, 9)


def test_a_number_with_a_leading_zero_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD + "lora: {r: 010}\n", encoding="utf-8")
    assert load_config(path).lora.r == 10
