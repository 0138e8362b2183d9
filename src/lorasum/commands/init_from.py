"""init --from: write a config from one of axolotl or LLaMA-Factory, as far as their keys mean the same."""

from pathlib import Path

import yaml

from lorasum.config.draft import HEAD
from lorasum.config.foreign import translated
from lorasum.config.new_file import as_argument, check_is_free, check_name, run_name, write_config
from lorasum.config.suggest import SYNONYMS
from lorasum.errors import ConfigError
from lorasum.results.training import TranslatedResult
from lorasum.system.paths import doc


def init_from(source: Path, output: Path, name: str | None = None, force: bool = False) -> TranslatedResult:
    """Write our config of a config of theirs.

    Args:
        name: of the run; by default that of the file.

    Raises:
        ConfigError: the file cannot be read, or is of neither tool.
        LorasumError: `output` is there already, or cannot be written; or no run can have the name.
    """
    check_is_free(output, force)
    run = run_name(source.stem) if name is None else check_name(name)
    try:
        theirs = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {source}: {error}", "give --from a YAML file") from error
    found = translated(theirs, run) if isinstance(theirs, dict) else None
    if found is None:
        raise ConfigError(
            f"{source} is not an axolotl or LLaMA-Factory config: it has neither base_model nor model_name_or_path",
            f"{doc('coming-from')} has the keys side by side",
        )
    told = tuple(map(_with_the_nearest, found.left))
    left = "".join(f"#   {' '.join(line.split())}\n" for line in told)
    about = f"# From {source.name} of {found.tool}.\n" + (f"# Without an exact counterpart:\n{left}" if left else "")
    ours = yaml.safe_dump(dict(found.config), sort_keys=False, allow_unicode=True)
    write_config(output, f"{HEAD}\n{about}{ours}")
    where = f"say under `data` where the chats are, and which are for testing: {doc('data-files')}"
    missing = () if found.says_where_the_chats_are else (where,)
    file = as_argument(output)
    commands = (f"lorasum config show {file}", f"lorasum prepare {file} --show 3")
    return TranslatedResult(str(output.absolute()), run, found.tool, told, missing, commands)


def _with_the_nearest(line: str) -> str:
    """A line about a key of theirs, with the key of ours that does something of the kind."""
    nearest = SYNONYMS.get(line.partition(":")[0])
    return f"{line} (see {nearest})" if nearest and not line.endswith(")") else line
