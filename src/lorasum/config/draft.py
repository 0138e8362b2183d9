"""Writes the YAML file of a new run, with a comment at every choice that says why it was made."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from lorasum.config.backend_names import BackendName
from lorasum.config.data import Columns

SCHEMA = "lorasum.schema.json"
"""The file, beside a config, that editors complete and check it with."""
HEAD = f"# yaml-language-server: $schema={SCHEMA}"


@dataclass(frozen=True, slots=True)
class Draft:
    """All that a new config says. Texts that begin with `why_` become comments.

    Attributes:
        file: the config's own name, for the command in its head.
        test: the test split's files; None takes `test_fraction` of the training rows.
        max_length, max_new_tokens: tokens.
        bad_rows: unusable rows that were seen.
        drops: whether some examples are longer than `max_length`.
    """

    file: str
    name: str
    backend: BackendName
    why_backend: str
    model: str
    revision: str | None
    why_model: str
    train: str | list[str]
    seen: str
    test: str | list[str] | None
    test_fraction: float
    columns: Columns
    why_columns: str
    max_length: int
    why_length: str
    drops: bool
    bad_rows: int
    why_bad_rows: str
    epochs: int
    keep_best: bool
    max_new_tokens: int
    why_new_tokens: str


def write_draft(draft: Draft) -> str:
    """The YAML text."""
    blocks = (_head(draft), _model(draft), _data(draft), _training(draft), _sagemaker(draft), _predict(draft))
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks if block)


def _head(draft: Draft) -> list[str]:
    return [
        HEAD,
        f"# lorasum run --config {_comment(draft.file)}",
        "#",
        "# `lorasum config show` prints every key with its value; `lorasum config schema` describes them.",
        f"name: {_value(draft.name)}",
        *_comments(draft.why_backend, indent=""),
        f"backend: {draft.backend}",
    ]


def _model(draft: Draft) -> list[str]:
    pin = [f"  revision: {_value(draft.revision)}"] if draft.revision else []
    return ["model:", *_comments(draft.why_model), f"  id: {_value(draft.model)}", *pin]


def _data(draft: Draft) -> list[str]:
    columns = draft.columns
    if draft.test is not None:
        told = ["  # The names of its files tell which are for testing."] if draft.test == draft.train else []
        test = [*told, f"  test: {_value(draft.test)}"]
    else:
        test = [
            "  # Nothing says which rows are for testing: this share of the dialogues is kept out of the training.",
            f"  test_fraction: {draft.test_fraction:g}",
        ]
    mapped = (
        [f"  columns: {{dialogue: {_value(columns.dialogue)}, summary: {_value(columns.summaries[0])}}}"]
        if columns != Columns()
        else []
    )
    bad = [*_comments(draft.why_bad_rows), f"  max_bad_rows: {draft.bad_rows}"] if draft.bad_rows else []
    return [
        "data:",
        *_comments(draft.seen),
        f"  train: {_value(draft.train)}",
        *test,
        *_comments(draft.why_columns),
        *mapped,
        *_comments(draft.why_length),
        f"  max_length: {draft.max_length}",
        *(["  too_long: drop"] if draft.drops else []),
        *bad,
    ]


def _training(draft: Draft) -> list[str]:
    best = ["  # Few dialogues: of the epochs, the one with the lowest test loss counts.", "  keep: best"]
    return [
        "# The base model is held in 8 bits while its adapter is trained: a quarter of the memory of float32.",
        "quantization: int8",
        "",
        "lora:",
        "  # More rank can learn more, and needs more dialogues to do so.",
        "  r: 16",
        "  alpha: 32",
        "",
        "training:",
        f"  epochs: {draft.epochs}",
        *(best if draft.keep_best else []),
        "  learning_rate: 2e-4",
    ]


def _sagemaker(draft: Draft) -> list[str]:
    if draft.backend == "local":
        return []
    return [
        "sagemaker:",
        "  # The execution role goes here, or comes with --set sagemaker.role=NAME.",
        "  # role: ...",
        "  # Each has one A10G GPU with 24 GB.",
        "  training_instance_type: ml.g5.2xlarge",
        "  endpoint_instance_type: ml.g5.xlarge",
    ]


def _predict(draft: Draft) -> list[str]:
    slow = ["  # Seconds; nobody here bills them, and the machine may be busy.", "  timeout: 300"]
    return [
        "predict:",
        *_comments(draft.why_new_tokens),
        f"  max_new_tokens: {draft.max_new_tokens}",
        *(slow if draft.backend == "local" else []),
    ]


def _comments(text: str, indent: str = "  ") -> list[str]:
    """`text` as comments, one for each of its lines."""
    return [f"{indent}# {_comment(line)}" for line in text.splitlines()]


def _comment(line: str) -> str:
    """`line` without characters that end a comment or that YAML forbids: it may quote the user's column names."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _value(value: str | Sequence[str]) -> str:
    """A text or a list of texts as YAML, quoted where it must be."""
    given = [value] if isinstance(value, str) else list(value)
    written = yaml.safe_dump(given, default_flow_style=True, allow_unicode=True, width=10**9).strip()
    return written[1:-1] if isinstance(value, str) else written
