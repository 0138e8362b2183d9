"""Writes the YAML file of a new run, with a comment at every choice that says why it was made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import yaml

SCHEMA = "lorasum.schema.json"
"""The file, beside a config, that editors complete and check it with."""
HEAD = f"# yaml-language-server: $schema={SCHEMA}"

_COMMENTS = {
    "data.test_fraction": "Nothing says which rows are for testing: this share of the dialogues is kept out of the "
    "training.",
    "quantization": "The base model is held in 8 bits while its adapter is trained: a quarter of the memory of "
    "float32.",
    "lora.r": "More rank can learn more, and needs more dialogues to do so.",
    "training.keep": "Few dialogues: of the epochs, the one with the lowest test loss counts.",
    "sagemaker.training_instance_type": "The execution role goes here, or comes with --set sagemaker.role=NAME.\n"
    "role: ...\nEach has one A10G GPU with 24 GB.",
    "predict.timeout": "Seconds. A busy machine may need them, and they cost nothing here.",
}
"""What is said of a key whose value does not depend on the chats."""


class Choice(NamedTuple):
    """A key of the new config, such as `data.train`.

    Attributes:
        value: None leaves the key out.
        why: the comment above it, which may have several lines. Without it, the key's usual one.
    """

    key: str
    value: str | int | float | Sequence[str] | Mapping[str, object] | None
    why: str = ""


def write_draft(file: str, choices: Iterable[Choice]) -> str:
    """The YAML text: an empty line before each section.

    Args:
        file: the config as an argument, for the command in its head.
        choices: those of one section behind each other.
    """
    lines = [
        HEAD,
        f"# lorasum run {_comment(file)}",
        "#",
        "# `lorasum config show` prints every key with its value; `lorasum config schema` describes them.",
    ]
    section = ""
    for key, value, why in choices:
        above, _, name = key.rpartition(".")
        if value is None:
            continue
        if above != section:
            lines += ["", *([f"{above}:"] if above else [])]
            section = above
        indent = "  " if above else ""
        lines += [f"{indent}# {_comment(line)}" for line in (why or _COMMENTS.get(key, "")).splitlines()]
        lines.append(f"{indent}{name}: {_value(value)}")
    return "".join(f"{line}\n" for line in lines)


def _comment(line: str) -> str:
    """`line` without characters that end a comment or that YAML forbids: it may quote the user's column names."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _value(value: object) -> str:
    """A value as YAML in one line, quoted where it must be."""
    written = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**9).strip()
    return written[1:-1]
