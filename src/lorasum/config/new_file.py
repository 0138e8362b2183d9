"""What all ways of `init` share: the name of a new run, and the file of its config, which replaces none unasked."""

import json
import re
import shlex
import unicodedata
from pathlib import Path

from lorasum.config.draft import SCHEMA
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.system.files import USER_FILE_MODE, make_folder, write_file, writing

_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d"})  # NFKD leaves them whole


def check_is_free(path: Path, force: bool) -> None:
    """Refuse a folder, and a file that is there unless `force`."""
    if path.is_dir():
        raise LorasumError(f"{path} is a folder", "name a file with --output")
    if path.exists() and not force:
        raise LorasumError(f"{path} is there already", "give another name with --output, or --force to replace it")


def as_argument(config: Path) -> str:
    """A config as a command has it: right behind the verb, or by `--config` where its name does not tell what it is."""
    quoted = shlex.quote(str(config))
    return quoted if config.suffix.lower() in (".yaml", ".yml") else f"--config {quoted}"


def write_new(path: Path, content: str | bytes) -> None:
    """Write a file of the user's, in a folder that is made if need be.

    Raises:
        LorasumError: it cannot be written.
    """
    with writing(path):
        make_folder(path.parent)
        write_file(path, content, USER_FILE_MODE)


def write_config(path: Path, text: str) -> None:
    """Write a config, and the schema for editors beside it. A schema that is there stays: it may be the user's own.

    Raises:
        LorasumError: one of them cannot be written.
    """
    write_new(path, text)
    schema = path.parent / SCHEMA
    if not schema.exists():
        write_new(schema, json.dumps(Config.model_json_schema(), indent=2) + "\n")


def run_name(text: str) -> str:
    """A run's name for a file's or folder's."""
    letters = unicodedata.normalize("NFKD", text.split(".")[0].lower().translate(_LETTERS))
    plain = "".join(one for one in letters if not unicodedata.combining(one))
    plain = re.sub(r"[^a-z0-9]+", "-", plain)
    return plain[:32].strip("-") or "chats"


def check_name(name: str) -> str:
    """The `name` that was asked for.

    Raises:
        LorasumError: no run can have it.
    """
    if name != run_name(name):
        raise LorasumError(
            f"--name: {name!r} cannot be the name of a run",
            f"lower-case letters, digits and single hyphens, 32 at most: {run_name(name)}",
        )
    return name
