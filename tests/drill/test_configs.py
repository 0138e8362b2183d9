"""Configs that nobody writes by hand, drawn at random: each loads, or fails at once in lines that harm no terminal."""

import os
import random
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lorasum.config.loader import load_config
from lorasum.config.schema import Config
from lorasum.errors import ConfigError
from lorasum.ui import render

FUZZ = int(os.environ.get("LORASUM_FUZZ", "0"))
COUNT = FUZZ or 1000
GOOD = "name: chats\nmodel: {id: org/model}\ndata: {dataset: org/data}\n"

# Pieces that the fuzzer puts together: keys and values of good and bad configs, and YAML's own signs.
_WORDS = r"""
    name model id data dataset train test lora r targets training epochs engine linear sagemaker region tags columns
    max_length chunk_length backend predict timeout speakers messages local port role << ? 1 ~ yes é "\e[31m"
    / chats org/model 1 -1 1e309 .nan 0x1F 010 1:30 null ~ true [] {} '' "\0" "\ud83d" "\e]0;x\a" &a *a ' " ] %TAG @ `
    [local] 2020-01-01 = 1_000 +.inf s3://b/k/* ~/x frankfurt ml.m5.xlarge widened {<<:*a} int8 sagemaker auto 64 0.5
"""
_KEYS, _VALUES = (words.split() for words in _WORDS.split(" / "))
_VALUES += ["!!int x", "!!binary x", "!env X", "&a [*a]", "- x", "|\n  text\n", ">-\n  x\n", "{a: {b: c}}", "!!set {a}"]
_VALUES += ["\t", "\r", "\x85", "\ufeff", "\u2028", "\ud800", "\x00", "9" * 4400, "x" * 5000, "../.." * 50, "[1, [2]]"]


def _hostile(draw: random.Random) -> str:
    """A text that is nearly a config: lines of keys and values in some nesting, now and then cut or garbled."""
    lines = draw.choice([[], GOOD.splitlines()])[:]
    for _ in range(draw.randrange(12)):
        lines.append(" " * draw.choice([0, 0, 2, 2, 4]) + f"{draw.choice(_KEYS)}: {draw.choice(_VALUES)}")
    draw.shuffle(lines)
    text = "\n".join(lines)
    for _ in range(draw.choice([0, 0, 0, 1, 3])):
        at = draw.randrange(len(text) + 1)
        text = (
            text[:at] + draw.choice([*"{}[]:,&*!|>'\"%#-?\n\t\x00\x1b\x7f", "\ud800"]) + text[at + draw.randrange(2) :]
        )
    return text


def _is_harmless(sign: str) -> bool:
    """Whether a terminal shows a sign, and does nothing else."""
    return sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp")


def _loaded(path: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]) -> Config | None:
    """The config, or None where it is refused as it has to be: in one line each, with a hint, in no time."""
    began = time.process_time()
    try:
        return load_config(path, overrides)
    except ConfigError as error:
        render.error(error)
        problems = len(error.problems) if len(error.problems) > 1 else 0
        first, *between, last = capsys.readouterr().err.splitlines()
        assert first.startswith("error: ")
        assert last.startswith("hint: ")
        assert len(between) == problems
        assert all(map(_is_harmless, "\n".join([first, *between, last])))
        return None
    finally:
        assert time.process_time() - began < 2


@pytest.mark.timeout(3600)
def test_a_drawn_config_loads_or_fails_in_one_line_for_each_fault(
    tmp_path: Path, tried: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(None if FUZZ else 0)
    path, again = tmp_path / "x.yaml", tmp_path / "again.yaml"
    good = 0
    for _ in range(COUNT):
        text = _hostile(draw)
        path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        overrides = [f"{draw.choice(_KEYS)}.{draw.choice(_KEYS)}={draw.choice(_VALUES)}"] * draw.choice([0, 0, 1])
        try:
            if config := _loaded(path, overrides, capsys):
                good += 1
                again.write_text(yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
                assert load_config(again) == config
        except Exception as error:
            raise AssertionError(f"{text!r}, {overrides}") from error
        tried["configs"] += 1
    assert good > COUNT / 100, "the fuzzer draws nothing that is nearly right"
