"""init --from: write a config from one of axolotl or LLaMA-Factory, as far as their keys mean the same."""

import re
from pathlib import Path

import yaml

from lorasum.config.draft import HEAD
from lorasum.config.foreign import translated
from lorasum.errors import ConfigError, LorasumError
from lorasum.files import OWN_CHOICE, make_folder, write_file, writing
from lorasum.results import TranslatedResult


def init_from(source: Path, output: Path, name: str | None = None, force: bool = False) -> TranslatedResult:
    """Write our config of a config of theirs.

    Args:
        name: of the run; by default that of the file.

    Raises:
        ConfigError: the file cannot be read, or is of neither tool.
        LorasumError: `output` is there already, or cannot be written.
    """
    if output.exists() and not force:
        raise LorasumError(f"{output} is there already", "give another name with --output, or --force to replace it")
    try:
        theirs = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {source}: {error}", "give --from a YAML file") from error
    run = name or re.sub(r"-+", "-", re.sub(r"[^a-z0-9]", "-", source.stem.lower())).strip("-")[:32].strip("-") or "run"
    found = translated(theirs, run) if isinstance(theirs, dict) else None
    if found is None:
        raise ConfigError(
            f"{source} is no config of axolotl or LLaMA-Factory: it has neither base_model nor model_name_or_path",
            "docs/coming-from.md has the keys side by side",
        )
    left = "".join(f"#   {' '.join(line.split())}\n" for line in found.left)
    about = f"# From {source.name} of {found.tool}.\n" + (f"# Without an exact counterpart:\n{left}" if left else "")
    text = f"{HEAD}\n{about}{yaml.safe_dump(dict(found.config), sort_keys=False, allow_unicode=True)}"
    with writing(output):
        make_folder(output.parent)
        write_file(output, text, OWN_CHOICE)
    missing = "say under `data` where the chats are, and which are for testing: docs/data-files.md"
    needs = [] if found.says_where_the_chats_are else [missing]
    commands = (*needs, f"lorasum config show -c {output}", f"lorasum prepare -c {output} --show 3")
    return TranslatedResult(str(output), run, found.tool, found.left, commands)
